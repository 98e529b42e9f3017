"""State in, event, state out: reconciles against an API server in memory and Ollamas behind httpx."""

import json

import pytest

from modelset_operator import reconciler
from modelset_operator.cluster import http, reflector
from modelset_operator.plan import decide

from . import builders, fake_ollama
from .worlds import MINI, MODELS, SMOL, World


async def test_from_a_manifest_to_a_ready_set(world: World) -> None:
    await world.to_ready()
    assert world.phases() == {"smollm2:135m": "Ready", "all-minilm": "Ready"}
    assert world.status["modelNames"] == "all-minilm;smollm2"
    assert (world.status["modelsReady"], world.status["ollamaReady"]) == ("2/2", "1/1")
    assert {world.condition(kind) for kind in ("Ready", "ModelsReady", "OllamaReady", "ProxyReady")} == {
        "True"
    }
    assert world.listed() == [MINI, SMOL]
    reasons = [event["reason"] for event in world.api.events]
    assert sorted(set(reasons) - {"Pulling"}) == ["Pulled", "Ready"]
    assert (reasons.count("Pulled"), reasons.count("Ready")) == (2, 1)


async def test_everybody_who_looks_for_a_model_finds_the_set(world: World) -> None:
    await world.to_ready()
    found = [
        ("OllamaModelSet", "assistants"),
        ("RayService", "assistants"),
        ("Service", "assistants-serve-svc"),
    ]
    for kind, name in found:
        metadata = world.api.find(kind, name)["metadata"]
        assert metadata["labels"]["openai-compatible"] == "true"
        assert metadata["labels"]["model.modelset.dev/smollm2"] == "true"
        assert metadata["labels"]["modelset.dev/models"] == "all-minilm--smollm2"
        assert metadata["annotations"]["modelset.dev/openai-model-names"] == "all-minilm;smollm2"


async def test_the_steady_state_writes_nothing(world: World) -> None:
    await world.to_ready()
    world.api.writes.clear()
    versions = world.api.versions()
    for _ in range(20):
        world.now[0] += 20
        await world.reconcile()
    world.restart_operator()
    await world.reconcile(3)
    assert world.api.writes == []
    assert world.api.versions() == versions


@pytest.mark.parametrize("kind", ["NetworkPolicy", "PodDisruptionBudget"])
@pytest.mark.parametrize("name", ["assistants-ollama", "assistants-proxy"])
async def test_what_guards_the_pods_comes_back(world: World, kind: str, name: str) -> None:
    await world.to_ready()
    wanted = world.api.find(kind, name)["spec"]
    with world.api.edited(kind, name) as guard:
        guard["spec"] = {**guard["spec"], "podSelector": {}, "selector": {}}
    await world.reconcile()
    assert wanted.items() <= world.api.find(kind, name)["spec"].items()
    world.api.remove(kind, "default", name)
    await world.reconcile()
    assert world.api.find(kind, name)["spec"] == wanted


async def test_status_shows_progress_while_pulling(world: World) -> None:
    await world.reconcile()
    world.start_pod()
    world.fleet.proceed.clear()
    await world.until(lambda: world.status["models"][0].get("progress") == "50%")
    assert world.status["models"][0]["phase"] == "Pulling"
    world.fleet.proceed.set()
    await world.until_pulled(SMOL, MINI)


async def test_a_model_that_does_not_exist_fails_with_ollamas_reason_and_the_others_serve(
    world: World,
) -> None:
    world.edit(*MODELS, {"name": "nope:1b"})
    await world.to_ready()
    failed = world.status["models"][2]
    assert failed["phase"] == "Failed"
    assert "pull model manifest: file does not exist" in failed["message"]
    assert world.status["modelNames"] == "all-minilm;smollm2"
    assert world.condition("ModelsReady") == "False"
    (event,) = [event for event in world.api.events if event["reason"] == "PullFailed"]
    assert event["type"] == "Warning"
    assert "nope:1b" in event["message"]
    # Quiet from here on, while it goes on trying.
    world.api.writes.clear()
    for _ in range(5):
        world.now[0] += 300
        await world.reconcile()
        await world.pokes.get()
    assert world.api.writes == []


async def test_adding_a_model_touches_neither_pods_nor_the_ray_cluster(world: World) -> None:
    await world.to_ready()
    extra = "models.example:5000/library/extra:1"
    world.fleet.registry[extra] = fake_ollama.Published()
    before = world.api.find("StatefulSet", "assistants-ollama")["metadata"]["resourceVersion"]
    cluster_config = world.api.find("RayService", "assistants")["spec"]["rayClusterConfig"]
    world.fleet.proceed.clear()
    world.edit(*MODELS, {"name": "extra:1"})
    await world.reconcile(2)
    assert world.listed() == [MINI, SMOL]
    world.fleet.proceed.set()
    await world.until_pulled(extra)
    assert world.listed() == [MINI, extra, SMOL]
    assert world.api.find("StatefulSet", "assistants-ollama")["metadata"]["resourceVersion"] == before
    assert world.api.find("RayService", "assistants")["spec"]["rayClusterConfig"] == cluster_config
    assert world.phases()["extra:1"] == "Ready"


async def test_taking_a_model_out_unlists_it_then_deletes_it(world: World) -> None:
    await world.to_ready()
    server = world.fleet.servers["10.0.0.1"]
    server.loaded.add(MINI)
    world.edit(MODELS[0])
    await world.reconcile()
    assert world.listed() == [SMOL]
    labels = world.api.find("Service", "assistants-serve-svc")["metadata"]["labels"]
    assert "model.modelset.dev/all-minilm" not in labels
    assert MINI in server.held
    world.run_kuberay()
    again = await world.reconcile()
    assert again is not None
    assert again <= reconciler.SOON_SECONDS
    assert MINI in server.held
    world.now[0] += decide.DRAIN_SECONDS
    await world.until(lambda: list(server.held) == [SMOL])
    assert server.loaded == set()
    assert world.api.events[-1]["message"] == f"deleted {MINI} from assistants-ollama-0"


async def test_a_restart_during_a_pull_needs_no_help(world: World) -> None:
    await world.reconcile()
    world.start_pod()
    world.fleet.proceed.clear()
    await world.reconcile()
    await world.pokes.get()
    await world.work.close()
    world.restart_operator()
    world.fleet.proceed.set()
    await world.reconcile()
    await world.until_pulled(SMOL, MINI)
    world.settle_pods()
    await world.reconcile()
    assert world.phases() == {"smollm2:135m": "Ready", "all-minilm": "Ready"}


async def test_a_pod_restart_keeps_the_models_listed(world: World) -> None:
    await world.to_ready()
    with world.api.edited("Pod", "assistants-ollama-0") as pod:
        for condition in pod["status"]["conditions"]:
            condition["status"] = "False" if condition["type"] == "Ready" else condition["status"]
    world.fleet.unreachable.add("10.0.0.1")
    await world.reconcile()
    assert world.listed() == [MINI, SMOL]
    assert world.condition("Ready") == "False"
    assert world.status["modelNames"] == "all-minilm;smollm2"


async def test_a_look_that_fails_in_mid_pull_does_not_stop_it(world: World) -> None:
    await world.reconcile()
    world.start_pod()
    world.fleet.proceed.clear()
    await world.reconcile()
    await world.pokes.get()
    world.fleet.unreachable.add("10.0.0.1")
    await world.reconcile()
    world.fleet.unreachable.clear()
    world.fleet.proceed.set()
    await world.until_pulled(SMOL, MINI)
    pulled = [
        request for request in world.fleet.servers["10.0.0.1"].requests if request.startswith("/api/pull")
    ]
    assert sorted(pulled) == [f"/api/pull {MINI}", f"/api/pull {SMOL}"]


async def test_a_slow_answer_of_a_ready_pod_changes_nothing(world: World) -> None:
    await world.to_ready()
    world.api.writes.clear()
    world.fleet.unreachable.add("10.0.0.1")
    await world.reconcile()
    assert world.api.writes == []


async def test_a_second_pod_pulls_for_itself(world: World) -> None:
    world.edit(*MODELS, ollama={"replicas": 2})
    await world.to_ready()
    assert world.status["models"][0]["readyReplicas"] == "1/2"
    world.start_pod(1, "10.0.0.2")
    await world.reconcile()
    await world.until_pulled(SMOL, MINI, ip="10.0.0.2")
    world.settle_pods()
    await world.reconcile()
    assert world.status["models"][0]["readyReplicas"] == "2/2"


async def test_a_tag_that_has_moved_between_two_pulls_is_pulled_again(world: World) -> None:
    world.edit(*MODELS, ollama={"replicas": 2})
    await world.to_ready()
    world.fleet.registry[SMOL] = fake_ollama.Published(pushed=1)
    world.start_pod(1, "10.0.0.2")
    await world.reconcile()
    await world.until_pulled(SMOL, MINI, ip="10.0.0.2")
    world.settle_pods()
    first = world.fleet.servers["10.0.0.1"]
    await world.until(lambda: first.held[SMOL].pushed == 1)
    await world.reconcile()
    assert first.requests.count(f"/api/pull {SMOL}") == 2
    entry = world.status["models"][0]
    assert (entry["readyReplicas"], entry["digest"]) == ("2/2", f"digest-of-{SMOL}1")
    assert "message" not in entry


async def test_deleting_the_set_needs_nobody(world: World) -> None:
    await world.to_ready()
    assert not world.api.find("OllamaModelSet", "assistants")["metadata"].get("finalizers")
    pod = ("Pod", "default", "assistants-ollama-0")
    world.api.remove("OllamaModelSet", "default", "assistants")
    assert set(world.api.objects) <= {pod}
    world.api.writes.clear()
    assert await world.reconcile() is None
    assert world.api.writes == []


async def test_a_set_on_its_way_out_is_left_alone(world: World) -> None:
    with world.api.edited("OllamaModelSet", "assistants") as found:
        found["metadata"]["deletionTimestamp"] = builders.NOW
    assert await world.reconcile() is None
    assert world.api.writes == []


async def test_what_the_api_server_refuses_is_told_and_tried_again(world: World) -> None:
    world.api.refusals["StatefulSet"] = http.RefusedError(403, "exceeded quota: pods")
    with pytest.raises(reconciler.ReconcileError, match="exceeded quota"):
        await world.reconcile()
    ready = next(entry for entry in world.status["conditions"] if entry["type"] == "Ready")
    assert ready["reason"] == "ApplyFailed"
    assert "exceeded quota: pods" in ready["message"]
    world.api.refusals.clear()
    await world.reconcile()
    assert ("StatefulSet", "default", "assistants-ollama") in world.api.objects


async def test_a_spec_that_cannot_be_used_is_told_and_all_else_stays(world: World) -> None:
    await world.to_ready()
    before = world.status
    world.edit(*MODELS, {"name": "reg.local:5000/model"})
    await world.reconcile()
    ready, *others = world.status["conditions"]
    assert (ready["status"], ready["reason"], ready["observedGeneration"]) == ("False", "InvalidSpec", 2)
    assert "reg.local:5000/library/model" in ready["message"]
    assert {**world.status, "conditions": others} == {**before, "conditions": before["conditions"][1:]}
    world.api.writes.clear()
    await world.reconcile()
    assert world.api.writes == []
    world.edit(*MODELS)
    await world.reconcile()
    assert world.condition("Ready") == "True"


async def test_kuberay_may_come_later(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reflector, "_MISSING_PAUSE_SECONDS", 0.0)
    world.api.missing_kinds |= {"RayService", "RayCluster"}
    world.restart_operator()
    await world.reconcile()
    assert ("StatefulSet", "default", "assistants-ollama") in world.api.objects
    assert "install the KubeRay operator" in json.dumps(world.status)
    world.told.clear()
    world.api.missing_kinds.clear()
    await world.told.wait()
    await world.reconcile()
    assert ("RayService", "default", "assistants") in world.api.objects


async def test_scaling_the_proxy_scales_the_ray_cluster(world: World) -> None:
    await world.to_ready()
    with world.api.edited("RayService", "assistants") as service:
        service["status"]["activeServiceStatus"]["rayClusterName"] = "assistants-abc"
    groups = service["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    # KubeRay gives a RayCluster the labels of its RayService.
    metadata = {
        "name": "assistants-abc",
        "namespace": "default",
        "labels": service["metadata"]["labels"],
    }
    world.api.put({"kind": "RayCluster", "metadata": metadata, "spec": {"workerGroupSpecs": groups}})
    world.edit(*MODELS, proxy={"replicas": 2})
    await world.reconcile(2)
    assert world.api.writes.count("patch RayCluster/assistants-abc") == 1
    groups = world.api.find("RayCluster", "assistants-abc")["spec"]["workerGroupSpecs"]
    assert groups[0]["replicas"] == 1
    assert groups[0]["scaleStrategy"] == {"workersToDelete": []}


async def test_what_keeps_pods_from_running_is_in_the_status(world: World) -> None:
    await world.reconcile()
    world.start_pod()
    waiting = {
        "name": "ollama",
        "image": "ollama/ollama:test",
        "state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}},
    }
    with world.api.edited("Pod", "assistants-ollama-0") as pod:
        pod["status"]["containerStatuses"] = [waiting]
    template = world.api.find("RayService", "assistants")["spec"]["rayClusterConfig"]["headGroupSpec"][
        "template"
    ]
    unschedulable = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "no cpu",
    }
    metadata = {"name": "head", "namespace": "default", **template["metadata"]}
    world.api.put({"kind": "Pod", "metadata": metadata, "status": {"conditions": [unschedulable]}})
    await world.reconcile()
    messages = {entry["type"]: entry["message"] for entry in world.status["conditions"]}
    assert "assistants-ollama-0: image ollama/ollama:test cannot be pulled" in messages["OllamaReady"]
    assert "head: no cpu; look at spec.proxy.resources" in messages["ProxyReady"]


async def test_children_that_somebody_deletes_come_back(world: World) -> None:
    await world.to_ready()
    world.api.remove("Service", "default", "assistants-ollama")
    await world.reconcile()
    assert ("Service", "default", "assistants-ollama") in world.api.objects
