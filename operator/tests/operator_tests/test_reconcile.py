"""State in, event, state out: reconciles against an API server in memory and Ollamas behind httpx."""

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from modelset_operator import observer, reconciler
from modelset_operator.api import references
from modelset_operator.cluster import caches, http, reflector, writes
from modelset_operator.engines import looks, ollama, pulls, work
from modelset_operator.manifests import ray
from modelset_operator.plan import decide

from . import builders, fake_api, fake_ollama

OWNER = ("default", "assistants")
REGISTRY = {"host": "models.example:5000", "insecure": True}
SMOL = "models.example:5000/library/smollm2:135m"
MINI = "models.example:5000/library/all-minilm:latest"
MODELS = (
    {"name": "smollm2:135m", "servedNames": ["smollm2"]},
    {"name": "all-minilm", "servedNames": ["all-minilm"]},
)


@dataclasses.dataclass
class World:
    """A cluster with the operator's parts, and the controllers and kubelets that a test plays."""

    api: fake_api.FakeApi
    fleet: fake_ollama.FakeOllamas
    pokes: asyncio.Queue[pulls.Set]
    now: list[float]
    reconciler: reconciler.Reconciler
    work: work.Work
    cached: caches.Caches
    told: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    watching: asyncio.Task[None] | None = None

    def restart_operator(self) -> None:
        """Forget all that the operator keeps in memory."""
        client = ollama.Ollama(httpx.AsyncClient(transport=self.fleet))
        self.work = work.Work(client, client, self.pokes.put_nowait, lambda: self.now[0])
        if self.watching is not None:
            self.watching.cancel()
        self.cached = caches.Caches(self.api, (), lambda _: self.told.set())
        self.watching = asyncio.create_task(self.cached.run())
        self.reconciler = reconciler.Reconciler(
            writes.Writes(self.api, self.cached.wrote),
            observer.Observer(self.cached, builders.IMAGES),
            self.work,
            lambda: self.now[0],
        )

    async def reconcile(self, times: int = 1) -> float | None:
        again: float | None = None
        for _ in range(times):
            await self.cached.synced()
            await self.api.told()
            for place in self.work.sights(OWNER):
                await self.fleet.looked_at(self.ip_of(place))
            again = await self.reconciler.reconcile(OWNER)
        return again

    def ip_of(self, uid: str) -> str:
        pods = [obj for key, obj in self.api.objects.items() if key[0] == "Pod"]
        return str(next(pod["status"]["podIP"] for pod in pods if pod["metadata"]["uid"] == uid))

    async def until(self, condition: Callable[[], bool]) -> None:
        """Reconcile whenever there is something new to look at, until a condition holds."""
        await self.reconcile()
        while not condition():
            await self.pokes.get()
            await self.reconcile()

    async def until_pulled(self, *models: str, ip: str = "10.0.0.1") -> None:
        await self.until(lambda: set(models) <= set(self.fleet.servers[ip].held))
        await self.reconcile()

    async def until_ready(self, pod: str) -> None:
        while True:
            self.settle_pods()
            conditions = self.api.find("Pod", pod)["status"]["conditions"]
            if conditions[0]["status"] == "True":
                break
            await self.pokes.get()
            await self.reconcile()
        await self.reconcile()

    def start_pod(self, ordinal: int = 0, ip: str = "10.0.0.1") -> None:
        """Be the StatefulSet controller and the kubelet: a pod runs, not ready yet."""
        template = self.api.find("StatefulSet", "assistants-ollama")["spec"]["template"]
        self.fleet.servers.setdefault(ip, fake_ollama.Server())
        self.api.put(
            {
                "kind": "Pod",
                "metadata": {
                    "name": f"assistants-ollama-{ordinal}",
                    "namespace": "default",
                    "uid": f"pod-{ordinal}",
                    "labels": template["metadata"]["labels"],
                },
                "status": {
                    "podIP": ip,
                    "containerStatuses": [{"state": {"running": {}}}],
                    "conditions": [{"type": "Ready", "status": "False"}],
                },
            }
        )

    def settle_pods(self) -> None:
        """Be the kubelet: a pod that holds what the ConfigMap asks for becomes ready."""
        required = set(self.api.find("ConfigMap", "assistants-ollama")["data"]["required"].split())
        for kind, _, name in list(self.api.objects):
            if kind == "Pod":
                with self.api.edited(kind, name) as pod:
                    held = self.fleet.servers[pod["status"]["podIP"]].held
                    paths = {references.parse(model).manifest_path for model in held}
                    (ready,) = pod["status"]["conditions"]
                    ready["status"] = "True" if required <= paths else "False"

    def run_kuberay(self) -> None:
        """Be KubeRay: the RayService runs what it asks for, and its Service exists."""
        with self.api.edited("RayService", "assistants") as service:
            service["status"] = {
                "observedGeneration": service["metadata"]["generation"],
                "conditions": [{"type": "Ready", "status": "True"}],
                "activeServiceStatus": {"applicationStatuses": {"modelset": {"status": "RUNNING"}}},
            }
        if ("Service", "default", "assistants-serve-svc") not in self.api.objects:
            owner = {"uid": service["metadata"]["uid"], "controller": True}
            labels = {
                "ray.io/originated-from-crd": "RayService",
                "ray.io/originated-from-cr-name": "assistants",
            }
            metadata = {
                "name": "assistants-serve-svc",
                "namespace": "default",
                "ownerReferences": [owner],
                "labels": labels,
            }
            self.api.put({"kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": 8000}]}})

    def edit(self, *models: dict[str, Any], **fields: Any) -> None:
        found = self.api.find("OllamaModelSet", "assistants")
        spec = {**found["spec"], "models": list(models), **fields}
        self.api.put({**found, "spec": spec})

    @property
    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = self.api.find("OllamaModelSet", "assistants").get("status", {})
        return status

    def phases(self) -> dict[str, str]:
        return {entry["name"]: entry["phase"] for entry in self.status["models"]}

    def condition(self, kind: str) -> str:
        return next(entry["status"] for entry in self.status["conditions"] if entry["type"] == kind)

    def listed(self) -> list[str]:
        return [entry["model"] for entry in ray.read_entries(self.api.find("RayService", "assistants"))]

    async def to_ready(self) -> None:
        """Take a new set all the way to the steady state."""
        await self.reconcile()
        self.start_pod()
        self.run_kuberay()
        await self.reconcile()
        await self.until_pulled(SMOL, MINI)
        await self.until_ready("assistants-ollama-0")
        self.run_kuberay()
        with self.api.edited("StatefulSet", "assistants-ollama") as stateful_set:
            generation = stateful_set["metadata"]["generation"]
            stateful_set["status"] = {"observedGeneration": generation, "replicas": 1, "updatedReplicas": 1}
        await self.reconcile(2)


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(looks, "BUSY_SECONDS", 0.001)
    monkeypatch.setattr(looks, "SETTLED_SECONDS", 0.001)
    fleet = fake_ollama.FakeOllamas()
    fleet.registry[SMOL] = fake_ollama.Published(capabilities=("completion",))
    fleet.registry[MINI] = fake_ollama.Published(capabilities=("embedding",))
    api = fake_api.FakeApi()
    api.put(builders.resource(*MODELS, registry=REGISTRY))
    world = World(api, fleet, asyncio.Queue(), [1000.0], None, None, None)  # type: ignore[arg-type]
    world.restart_operator()
    yield world
    await world.work.close()
    world.watching.cancel()


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
    waiting = {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}}}
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
    assert "assistants-ollama-0: ImagePullBackOff: Back-off pulling image" in messages["OllamaReady"]
    assert "head: Unschedulable: no cpu" in messages["ProxyReady"]


async def test_children_that_somebody_deletes_come_back(world: World) -> None:
    await world.to_ready()
    world.api.remove("Service", "default", "assistants-ollama")
    await world.reconcile()
    assert ("Service", "default", "assistants-ollama") in world.api.objects


RAY_SERVICE = {
    "apiVersion": "ray.io/v1",
    "kind": "RayService",
    "metadata": {"name": "assistants", "namespace": "default"},
    "spec": {"serveConfigV2": "applications: []"},
}
SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "assistants-ollama", "namespace": "default"},
    "spec": {"selector": {"app": "mine"}},
}
ANOTHER = {"kind": "Deployment", "name": "mine", "uid": "another", "controller": True}


@pytest.mark.parametrize("foreign", [RAY_SERVICE, SERVICE], ids=["RayService", "Service"])
@pytest.mark.parametrize("owners", [[], [ANOTHER]], ids=["nobody's", "another's"])
@pytest.mark.parametrize("labelled", [False, True])
async def test_what_somebody_else_made_stays_as_it_is_and_the_set_says_so(
    world: World, foreign: dict[str, Any], owners: list[dict[str, Any]], labelled: bool
) -> None:
    labels = {"modelset.dev/set": "assistants", "app.kubernetes.io/component": "ollama"} if labelled else {}
    metadata = {**foreign["metadata"], "ownerReferences": owners, "labels": labels}
    before = json.dumps(world.api.put({**foreign, "metadata": metadata}))
    for _ in range(2):
        with pytest.raises(reconciler.ReconcileError, match="give the set another name"):
            await world.reconcile()
    assert json.dumps(world.api.find(foreign["kind"], foreign["metadata"]["name"])) == before
    ready = next(entry for entry in world.status["conditions"] if entry["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "ApplyFailed")
    assert foreign["metadata"]["name"] in ready["message"]
    assert ("StatefulSet", "default", "assistants-ollama") in world.api.objects
    world.api.remove(foreign["kind"], "default", foreign["metadata"]["name"])
    await world.reconcile()
    assert world.api.find(foreign["kind"], foreign["metadata"]["name"])["metadata"]["ownerReferences"]


async def test_what_the_set_left_behind_is_taken_back(world: World) -> None:
    await world.to_ready()
    with world.api.edited("StatefulSet", "assistants-ollama") as stateful_set:
        stateful_set["metadata"]["ownerReferences"] = []
    await world.reconcile()
    owners = world.api.find("StatefulSet", "assistants-ollama")["metadata"]["ownerReferences"]
    assert [owner["kind"] for owner in owners] == ["OllamaModelSet"]


async def test_a_stateful_set_whose_fixed_fields_are_to_change_is_made_anew_around_its_pods(
    world: World,
) -> None:
    await world.to_ready()
    with world.api.edited("StatefulSet", "assistants-ollama") as stateful_set:
        stateful_set["spec"]["serviceName"] = "as 0.0.9 had it"
    await world.reconcile()
    assert "delete StatefulSet/assistants-ollama" in world.api.writes
    assert world.api.find("StatefulSet", "assistants-ollama")["spec"]["serviceName"] == "assistants-ollama"
    assert world.api.find("Pod", "assistants-ollama-0")["metadata"]["uid"] == "pod-0"


@pytest.mark.parametrize("status", [429, 503, 409])
async def test_what_may_pass_is_tried_again_and_not_told_as_a_failure(world: World, status: int) -> None:
    await world.to_ready()
    world.edit(*MODELS, proxy={"replicas": 2})
    world.api.refusals["RayService"] = http.RefusedError(status, "later", retry_after=7.0)
    with pytest.raises(reconciler.ReconcileError) as failed:
        await world.reconcile()
    assert failed.value.retry_after == 7.0
    ready = next(entry for entry in world.status["conditions"] if entry["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "Applying")
    assert "ApplyFailed" not in json.dumps(world.status)
    world.api.refusals.clear()
    await world.reconcile()


async def test_a_refused_change_makes_a_set_that_serves_not_ready(world: World) -> None:
    await world.to_ready()
    assert world.condition("Ready") == "True"
    world.edit(*MODELS, ollama={"keepAlive": "5m"})
    world.api.refusals["StatefulSet"] = http.RefusedError(403, "exceeded quota")
    with pytest.raises(reconciler.ReconcileError):
        await world.reconcile()
    assert world.condition("Ready") == "False"
    assert world.condition("OllamaReady") == "True"


async def test_a_set_is_ready_again_only_when_what_was_changed_serves(world: World) -> None:
    await world.to_ready()
    world.edit(*MODELS, ollama={"keepAlive": "5m"})
    await world.reconcile()
    ready = next(entry for entry in world.status["conditions"] if entry["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "RollingOut")
    generation = world.api.find("OllamaModelSet", "assistants")["metadata"]["generation"]
    assert ready["observedGeneration"] == generation
    with world.api.edited("StatefulSet", "assistants-ollama") as stateful_set:
        observed = stateful_set["metadata"]["generation"]
        stateful_set["status"] = {"observedGeneration": observed, "replicas": 1, "updatedReplicas": 1}
    await world.reconcile()
    world.run_kuberay()
    await world.reconcile()
    assert world.condition("Ready") == "True"
