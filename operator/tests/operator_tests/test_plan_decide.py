"""The whole plan for a situation: what is applied, pulled, deleted, opened and told."""

import dataclasses
from typing import Any

import pytest

from modelset_operator.api import names, neighbours, sources
from modelset_operator.engines import state
from modelset_operator.manifests import common, compare, disruption, network, ollama, ray
from modelset_operator.plan import decide
from modelset_operator.plan import observed as seen

from . import builders

CHAT = builders.CHAT


def settled(
    *wanted: str, holds: tuple[str, ...], loaded: tuple[str, ...] = (), **fields: Any
) -> seen.Observed:
    """A set whose objects are all as wanted and whose single pod holds some models."""
    resource = builders.resource(*wanted)
    modelset = builders.modelset(*wanted)
    listed = builders.listed(modelset, *(set(wanted) & set(holds)))
    for entry in listed:
        entry["capabilities"] = list(CHAT)
    discovery = common.discovery([name for entry in listed for name in entry["servedNames"]])
    service = builders.ray_service(modelset, listed)
    service = merged(compare.with_hash(ray.ray_service(modelset, listed, discovery)), service)
    stateful_set = compare.with_hash(ollama.stateful_set(modelset, *modelset.pools, 1))
    stateful_set["metadata"]["generation"] = 1
    stateful_set["status"] = {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1}
    patch = common.discovery_patch(names.API_VERSION, names.KIND, resource, discovery, "assistants")
    resource["metadata"] |= compare.with_hash(patch)["metadata"]
    store = builders.store_of(dict.fromkeys(holds, CHAT), loaded)
    guards = [*network.policies(modelset, neighbours.Neighbours()), *disruption.budgets(modelset)]
    (pool,) = modelset.pools
    objects = seen.PoolObjects(
        stateful_set=stateful_set,
        headless=compare.with_hash(ollama.service(modelset, pool)),
        config_map=compare.with_hash(
            ollama.config_map(modelset, pool, {"assistants-ollama-0": modelset.models})
        ),
    )
    values: dict[str, Any] = {
        "pools": {pool.name: objects},
        "guards": {(one["kind"], one["metadata"]["name"]): compare.with_hash(one) for one in guards},
        "ray_service": service,
        "pods": (builders.pod(store=store, ready=True),),
        "settled_seconds": 3600.0,
    }
    observed = builders.observed(resource, **(values | fields))
    resource["status"] = decide.told(observed).status
    return observed


def merged(manifest: dict[str, Any], with_status: dict[str, Any]) -> dict[str, Any]:
    metadata = {**manifest["metadata"], "generation": with_status["metadata"]["generation"]}
    return {**manifest, "metadata": metadata, "status": with_status["status"]}


def test_the_steady_state_calls_for_nothing() -> None:
    observed = settled("a:1", "b:1", holds=("a:1", "b:1"))
    plan = decide.plan(observed)
    assert (plan.applies, plan.pulls, plan.removals) == ((), (), ())
    assert decide.told(observed) == decide.Told(dict(observed.status), ())
    assert observed.status["modelNames"] == "a:1;b:1"
    assert [condition["status"] for condition in observed.status["conditions"]] == ["True"] * 4 + ["False"]


def test_a_new_set_is_applied_at_once() -> None:
    observed = builders.observed(builders.resource("a:1"))
    plan = decide.plan(observed)
    applied = [(one.manifest["kind"], one.manifest["metadata"]["name"]) for one in plan.applies]
    assert applied == [
        ("NetworkPolicy", "assistants-ollama"),
        ("NetworkPolicy", "assistants-proxy"),
        ("PodDisruptionBudget", "assistants-ollama"),
        ("PodDisruptionBudget", "assistants-proxy"),
        ("Service", "assistants-ollama"),
        ("ConfigMap", "assistants-ollama"),
        ("StatefulSet", "assistants-ollama"),
        ("RayService", "assistants"),
        ("OllamaModelSet", "assistants"),
    ]
    assert decide.told(observed).status["models"][0]["phase"] == "Pending"


def test_without_kuberay_everything_else_goes_on() -> None:
    observed = builders.observed(builders.resource("a:1"), kuberay_installed=False)
    assert "RayService" not in [one.manifest["kind"] for one in decide.plan(observed).applies]
    conditions = decide.told(observed).status["conditions"]
    proxy = next(entry for entry in conditions if entry["type"] == "ProxyReady")
    assert proxy["reason"] == "KubeRayMissing"
    assert "install the KubeRay operator" in proxy["message"]


@pytest.mark.parametrize("change", ["spec", "labels", "gone"])
def test_drift_is_undone(change: str) -> None:
    observed = settled("a:1", holds=("a:1",))
    found = observed.pools["assistants-ollama"]
    assert found.stateful_set is not None
    stateful_set: dict[str, Any] | None = dict(found.stateful_set)
    if change == "spec":
        stateful_set["spec"] = {**stateful_set["spec"], "replicas": 5}
    elif change == "labels":
        stateful_set["metadata"] = {**stateful_set["metadata"], "labels": {}}
    else:
        stateful_set = None
    pools = {"assistants-ollama": dataclasses.replace(found, stateful_set=stateful_set)}
    plan = decide.plan(settled("a:1", holds=("a:1",), pools=pools))
    assert [one.manifest["kind"] for one in plan.applies] == ["StatefulSet"]


def test_what_the_api_server_does_not_keep_is_not_applied_over_and_over() -> None:
    observed = settled("a:1", holds=("a:1",))
    found = observed.pools["assistants-ollama"]
    assert found.headless is not None
    changed = {**found.headless, "spec": {**found.headless["spec"], "clusterIP": "10.0.0.9"}}
    digest = compare.hash_of(found.headless)
    pools = {"assistants-ollama": dataclasses.replace(found, headless=changed)}
    tolerated = {("Service", "assistants-ollama"): seen.Tolerated(digest, frozenset({".spec.clusterIP"}))}
    assert decide.plan(settled("a:1", holds=("a:1",), pools=pools)).applies
    assert not decide.plan(settled("a:1", holds=("a:1",), pools=pools, tolerated=tolerated)).applies


@pytest.mark.parametrize(("looked_at", "applied"), [(True, ["RayService"]), (False, [])])
def test_nothing_is_taken_back_before_all_pods_were_looked_at(looked_at: bool, applied: list[str]) -> None:
    before = builders.modelset("a:1", "b:1")
    service = builders.ray_service(before, builders.listed(before, "a:1", "b:1"))
    observed = settled("a:1", "b:1", holds=("a:1",), ray_service=service)
    # It has just started, or the operator has, which had not told yet that this pod holds b:1.
    another = dataclasses.replace(builders.pod(1), runs=True, looked_at=looked_at)
    plan = decide.plan(dataclasses.replace(observed, pods=(*observed.pods, another)))
    assert [one.manifest["kind"] for one in plan.applies] == applied


def test_the_service_of_kuberay_gets_the_labels_and_nothing_else() -> None:
    observed = settled("a:1", holds=("a:1",))
    assert observed.ray_service is not None
    metadata = {**observed.ray_service["metadata"], "uid": "rayservice-uid"}
    observed = dataclasses.replace(observed, ray_service={**observed.ray_service, "metadata": metadata})
    owner = {"uid": "rayservice-uid", "controller": True}
    metadata = {"name": "assistants-serve-svc", "namespace": "default", "uid": "svc-uid"}
    service = {"metadata": {**metadata, "ownerReferences": [owner]}, "spec": {}}
    (wanted,) = decide.plan(dataclasses.replace(observed, serve_service=service)).applies
    manifest = wanted.manifest
    assert manifest["metadata"]["name"] == "assistants-serve-svc"
    assert manifest["metadata"]["uid"] == "svc-uid"
    assert manifest["metadata"]["labels"]["model.modelset.dev/a_1"] == "true"
    assert "spec" not in manifest


def test_a_service_of_that_name_which_kuberay_did_not_make_is_let_alone() -> None:
    observed = settled("a:1", holds=("a:1",))
    metadata = {"name": "assistants-serve-svc", "namespace": "default", "uid": "svc-uid"}
    service = {"metadata": metadata, "spec": {}}
    assert decide.plan(dataclasses.replace(observed, serve_service=service)).applies == ()


def test_each_pod_pulls_what_it_misses_from_the_registry_of_the_set() -> None:
    registry = {"host": "models.example:5000", "insecure": True}
    resource = builders.resource("a:1", "b", registry=registry, ollama={"replicas": 3})
    holds = builders.store_of({"models.example:5000/library/a:1": CHAT})
    pods = (builders.pod(0, store=holds), builders.pod(1, store=builders.store()), builders.pod(2))
    plan = decide.plan(builders.observed(resource, pods=pods))
    assert [(pull.pod, pull.reference, pull.source.insecure) for pull in plan.pulls] == [
        ("assistants-ollama-0", "models.example:5000/library/b:latest", True),
        ("assistants-ollama-1", "models.example:5000/library/a:1", True),
        ("assistants-ollama-1", "models.example:5000/library/b:latest", True),
    ]


def test_a_pod_that_does_not_answer_is_not_taken_to_need_nothing() -> None:
    pods = (builders.pod(0, store=builders.store()), builders.pod(1))
    assert decide.plan(builders.observed(builders.resource("a"), pods=pods)).unseen == {"pod-1"}


def test_a_model_that_two_entries_name_is_pulled_once() -> None:
    resource = builders.resource("a", {"name": "a:latest", "servedNames": ["other"]})
    plan = decide.plan(builders.observed(resource, pods=(builders.pod(store=builders.store()),)))
    assert [pull.reference for pull in plan.pulls] == ["a:latest"]


def removals(observed: seen.Observed) -> list[tuple[str, bool]]:
    return [(removal.reference, removal.loaded) for removal in decide.plan(observed).removals]


def test_a_model_taken_out_is_unlisted_first_and_deleted_after_the_drain() -> None:
    before = builders.modelset("a:1", "b:1")
    service = builders.ray_service(before, builders.listed(before, "a:1", "b:1"))
    unlisting = settled("a:1", holds=("a:1", "b:1"), ray_service=service)
    assert [one.manifest["kind"] for one in decide.plan(unlisting).applies] == ["RayService"]
    assert removals(unlisting) == []
    draining = settled("a:1", holds=("a:1", "b:1"), settled_seconds=19.9)
    assert removals(draining) == []
    assert decide.plan(draining).waits
    drained = settled("a:1", holds=("a:1", "b:1"), loaded=("b:1",), settled_seconds=20.0)
    assert removals(drained) == [("b:1", True)]
    assert not decide.plan(drained).waits


@pytest.mark.parametrize(("seconds", "scaled", "waits"), [(29.0, 0, True), (30.0, 1, False)])
def test_a_worker_that_is_to_go_is_looked_at_again_when_it_may(
    seconds: float, scaled: int, waits: bool
) -> None:
    groups = [{"groupName": ray.WORKER_GROUP, "replicas": 1}]
    cluster = {"metadata": {"name": "c", "uid": "u"}, "spec": {"workerGroupSpecs": groups}}
    plan = decide.plan(settled("a:1", holds=("a:1",), ray_clusters=(cluster,), settled_seconds=seconds))
    assert (len(plan.scalings), plan.waits) == (scaled, waits)


def test_garbage_waits_for_downloads_onto_the_same_pod() -> None:
    pulls = {("pod-0", "b:1"): state.Pull(state.PullPhase.RUNNING)}
    assert removals(settled("a:1", "b:1", holds=("a:1", "c:1"), pulls=pulls)) == []
    # There by now, it is under way only until the next sync notices.
    assert removals(settled("a:1", "b:1", holds=("a:1", "b:1", "c:1"), pulls=pulls)) == [("c:1", False)]


@pytest.mark.parametrize(
    ("uid", "phase"),
    [("pod-1", state.PullPhase.RUNNING), ("pod-0", state.PullPhase.FAILED)],
    ids=["onto another pod", "that has failed"],
)
def test_garbage_does_not_wait_for_a_download(uid: str, phase: state.PullPhase) -> None:
    observed = settled("a:1", "b:1", holds=("a:1", "c:1"), pulls={(uid, "b:1"): state.Pull(phase)})
    assert removals(observed) == [("c:1", False)]


def test_another_spelling_of_a_wanted_model_is_no_garbage() -> None:
    assert removals(settled("a", holds=("A:latest",))) == []


def test_garbage_is_named_as_ollama_names_it() -> None:
    assert removals(settled("a:1", holds=("a:1", "Reg.example/Team/B:Q4"))) == [
        ("Reg.example/Team/B:Q4", False)
    ]


def test_what_was_refused_is_told_in_the_status() -> None:
    observed = builders.observed(builders.resource("a:1"))
    ready = decide.told(observed, ["StatefulSet x: quota exceeded"]).status["conditions"][0]
    assert (ready["type"], ready["reason"], ready["message"]) == (
        "Ready",
        "ApplyFailed",
        "StatefulSet x: quota exceeded",
    )


def test_pods_that_run_are_looked_at_often_while_what_they_hold_may_change() -> None:
    holds, extra = builders.store(a__1=CHAT), builders.store(a__1=CHAT, x__1=CHAT)
    pods = {
        "as it should be": (builders.pod(0, store=holds, ready=True), False),
        "not ready": (builders.pod(1, store=holds), True),
        "silent": (builders.pod(2, ready=True), True),
        "about to pull": (builders.pod(3, store=builders.store(), ready=True), True),
        "about to lose a model": (builders.pod(4, store=extra, ready=True), True),
    }
    running = tuple(dataclasses.replace(pod, runs=True) for pod, _ in pods.values())
    starting = builders.pod(5)
    resource = builders.resource("a:1", ollama={"replicas": 6})
    found = decide.plan(builders.observed(resource, pods=(*running, starting))).places
    assert found == tuple(
        state.Place(pod.uid, pod.ip, busy=busy, described=frozenset({"a:1"})) for pod, busy in pods.values()
    )


def test_a_download_is_told_all_that_it_needs() -> None:
    registry = {"host": "models.example:5000", "insecure": True}
    resource = builders.resource("a:1", registry=registry)
    (wanted,) = decide.plan(builders.observed(resource, pods=(builders.pod(store=builders.store()),))).pulls
    assert wanted == state.WantedPull(
        pod="assistants-ollama-0",
        uid="pod-0",
        ip="10.0.0.1",
        reference="models.example:5000/library/a:1",
        key="models.example:5000/library/a:1",
        source=sources.Source("models.example:5000", insecure=True),
    )


def test_a_load_is_told_all_that_it_needs() -> None:
    model = {"name": "a:1", "preload": True, "keepAlive": "5m", "contextLength": 512}
    pod = builders.pod(store=builders.store(a__1=CHAT))
    started = dataclasses.replace(pod, started=builders.CREATED)
    (wanted,) = decide.plan(builders.observed(builders.resource(model), pods=(started,))).loads
    assert wanted == state.WantedLoad(
        pod="assistants-ollama-0",
        uid="pod-0",
        started=builders.CREATED,
        ip="10.0.0.1",
        reference="a:1",
        key="a:1",
        keep_alive="5m",
        context_length=512,
        version="digest-of-a:1",
    )


def test_what_is_to_go_is_told_with_its_pod_by_name() -> None:
    observed = settled("a:1", holds=("c:1", "a:1", "b:1"), loaded=("b:1",))
    assert decide.plan(observed).removals == tuple(
        state.Removal("assistants-ollama-0", "pod-0", "10.0.0.1", reference, loaded=loaded)
        for reference, loaded in (("b:1", True), ("c:1", False))
    )


def test_a_pod_that_does_not_answer_holds_up_no_other_one() -> None:
    holds = builders.pod(1, store=builders.store(a__1=CHAT, x__1=CHAT), ready=True)
    observed = settled("a:1", holds=("a:1",), pods=(builders.pod(0), holds))
    assert [removal.pod for removal in decide.plan(observed).removals] == ["assistants-ollama-1"]
    resource = builders.resource("a:1", ollama={"replicas": 2})
    lacks = builders.pod(1, store=builders.store())
    plan = decide.plan(builders.observed(resource, pods=(builders.pod(0), lacks)))
    assert [pull.pod for pull in plan.pulls] == ["assistants-ollama-1"]
