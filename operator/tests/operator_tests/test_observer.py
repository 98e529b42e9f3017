"""What one look finds of a set, of all that watches have told."""

import dataclasses
from typing import Any

import pytest

from modelset_operator import observer
from modelset_operator.api import names, neighbours
from modelset_operator.cluster import caches
from modelset_operator.engines import looks, state
from modelset_operator.plan import observed as seen

from . import builders, fake_api

OWNER = ("default", "assistants")
POOL = "assistants-ollama"
AROUND = neighbours.Neighbours(kuberay=neighbours.Pods({"app": "kuberay"}))
STORE, BEFORE = builders.store(a__1=builders.CHAT), builders.store(b__1=builders.CHAT)
RUNS = [{"state": {"running": {"startedAt": "2026-01-02T03:30:00Z"}}}]
IS_READY = {"conditions": [{"type": "Ready", "status": "True"}]}
GOING = {"deletionTimestamp": builders.NOW}


class Bench:
    """An observer, and the objects that watches have told it of."""

    def __init__(self, **spec_fields: Any) -> None:
        self.cached = caches.Caches(fake_api.FakeApi(), (), lambda _: None)
        self.observer = observer.Observer(self.cached, builders.IMAGES, AROUND)
        self._version = 0
        self.put({**builders.resource("a:1", **spec_fields)})

    def put(self, given: dict[str, Any]) -> dict[str, Any]:
        self._version += 1
        metadata = {"namespace": "default", "resourceVersion": str(self._version), **given["metadata"]}
        self.cached.wrote({**given, "metadata": metadata})
        return given

    def child(
        self, kind: str, name: str, component: str = "ollama", labels: Any = None, **fields: Any
    ) -> dict[str, Any]:
        """Have an object of the set be there; fields of its metadata may be among those given."""
        about = {
            "name": name,
            "uid": f"uid of {name}",
            "labels": names.common_labels("assistants", component) | (labels or {}),
        } | fields.pop("metadata", {})
        return self.put({"kind": kind, "metadata": about, **fields})

    def look(self, **known: Any) -> seen.Observed | None:
        nothing: dict[str, Any] = {"sights": {}, "pulls": {}, "loads": {}, "tolerated": {}, "ungrown": {}}
        return self.observer.look(OWNER, **(nothing | known))

    def saw(self, **known: Any) -> seen.Observed:
        found = self.look(**known)
        assert found is not None
        return found


def name_of(found: Any) -> str:
    assert found is not None
    return str(found["metadata"]["name"])


def test_of_a_set_alone_nothing_else_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observer, "now", lambda: builders.NOW)
    found = Bench().saw()
    bare = seen.Observed(
        modelset=builders.modelset("a:1"),
        resource=found.resource,
        now=builders.NOW,
        pools={POOL: seen.PoolObjects()},
        around=AROUND,
    )
    assert vars(found) == vars(bare)
    assert (name_of(found.resource), found.resource["spec"]) == ("assistants", {"models": [{"name": "a:1"}]})


def test_the_time_is_told_as_kubernetes_writes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observer.time, "time", lambda: builders.CREATED_SECONDS + 0.9)
    assert observer.now() == builders.CREATED


@pytest.mark.parametrize("going", [False, True])
def test_a_set_that_is_gone_or_on_its_way_out_is_not_looked_at(going: bool) -> None:
    bench = Bench()
    assert bench.observer.resource(OWNER) is not None
    if going:
        leaving = builders.resource("a:1")
        bench.put({**leaving, "metadata": leaving["metadata"] | GOING})
    else:
        bench.cached.model_sets.clear("")
    assert bench.observer.resource(OWNER) is None
    assert bench.look() is None


def test_each_object_of_a_set_is_found_in_its_place() -> None:
    bench = Bench(registry={"cache": {}}, ollama={"replicas": 2})
    for kind in ("StatefulSet", "ConfigMap", "Service"):
        bench.child(kind, POOL)
    for kind in ("StatefulSet", "Service"):
        bench.child(kind, "assistants-cache", "cache")
    for claim in (f"models-{POOL}-1", f"models-{POOL}-0", f"models-{POOL}-7"):
        bench.child("PersistentVolumeClaim", claim)
    bench.child("PersistentVolumeClaim", "blobs-assistants-cache-0", "cache")
    for kind in ("NetworkPolicy", "PodDisruptionBudget"):
        bench.child(kind, POOL)
    bench.child("RayService", "assistants", "proxy")
    kuberays = {"ray.io/originated-from-crd": "RayService", "ray.io/originated-from-cr-name": "assistants"}
    bench.put({"kind": "Service", "metadata": {"name": "assistants-serve-svc", "labels": kuberays}})
    found = bench.saw()
    pool, cache = found.pools[POOL], found.cache
    assert list(found.pools) == [POOL]
    assert {name_of(one) for one in (pool.stateful_set, pool.config_map, pool.headless)} == {POOL}
    assert [name_of(claim) for claim in pool.claims] == [f"models-{POOL}-0", f"models-{POOL}-1"]
    assert {name_of(one) for one in (cache.stateful_set, cache.service)} == {"assistants-cache"}
    assert [name_of(claim) for claim in cache.claims] == ["blobs-assistants-cache-0"]
    assert {key: name_of(one) for key, one in found.guards.items()} == {
        ("NetworkPolicy", POOL): POOL,
        ("PodDisruptionBudget", POOL): POOL,
    }
    assert (name_of(found.ray_service), name_of(found.serve_service)) == (
        "assistants",
        "assistants-serve-svc",
    )


def test_what_the_operator_knows_itself_is_handed_on() -> None:
    known = {
        "pulls": {("pod-0", "a:1"): state.Pull(state.PullPhase.RUNNING)},
        "loads": {("pod-0", "a:1"): state.Load(done=True)},
        "tolerated": {("Service", POOL): seen.Tolerated("digest", frozenset())},
        "ungrown": {"claim-0": seen.Ungrown("1Gi", "no")},
    }
    assert vars(Bench().saw(**known)).items() >= known.items()


@pytest.mark.parametrize(
    ("status", "clusters"),
    [
        pytest.param(None, [], id="KubeRay has not told"),
        pytest.param({"activeServiceStatus": None}, [], id="nothing runs"),
        pytest.param({"activeServiceStatus": {"rayClusterName": ""}}, [], id="it has no name yet"),
        pytest.param({"activeServiceStatus": {"rayClusterName": "one"}}, ["one"], id="one runs"),
        pytest.param(
            {
                "pendingServiceStatus": {"rayClusterName": "two"},
                "activeServiceStatus": {"rayClusterName": "one"},
            },
            ["one", "two"],
            id="another one is to take over",
        ),
        pytest.param({"activeServiceStatus": {"rayClusterName": "gone"}}, [], id="it is gone"),
        pytest.param({"activeServiceStatus": {"rayClusterName": "going"}}, [], id="it is on its way out"),
    ],
)
def test_ray_clusters_are_those_that_the_ray_service_names(
    status: dict[str, Any] | None, clusters: list[str]
) -> None:
    bench = Bench()
    bench.child("RayService", "assistants", "proxy", status=status)
    for name, metadata in (("one", {}), ("two", {}), ("other", {}), ("going", GOING)):
        bench.child("RayCluster", name, "proxy", metadata=metadata)
    assert [name_of(one) for one in bench.saw().ray_clusters] == clusters


@pytest.mark.parametrize(
    ("status", "sight", "pod"),
    [
        pytest.param(None, None, {"ip": "", "looked_at": False}, id="only just made"),
        pytest.param(
            {"containerStatuses": RUNS}, None, {"ip": "", "looked_at": False}, id="without an address"
        ),
        pytest.param(
            {"podIP": "10.0.0.1"}, looks.Sight(STORE, STORE), {}, id="of whose containers nothing is known"
        ),
        pytest.param(
            {"podIP": "10.0.0.1", "containerStatuses": [*RUNS, {"state": {"waiting": {}}}]},
            looks.Sight(STORE, STORE),
            {},
            id="of which only one container runs",
        ),
        pytest.param(
            {"podIP": "10.0.0.1", "containerStatuses": [*RUNS, {}]},
            looks.Sight(STORE, STORE),
            {},
            id="of one of whose containers nothing is known",
        ),
        pytest.param(
            {"podIP": "10.0.0.1", "containerStatuses": RUNS},
            None,
            {"runs": True, "started": "2026-01-02T03:30:00Z", "looked_at": False},
            id="that runs and was not looked at yet",
        ),
        pytest.param(
            {"podIP": "10.0.0.1", "containerStatuses": RUNS},
            looks.Sight(STORE, BEFORE),
            {"runs": True, "started": "2026-01-02T03:30:00Z", "store": STORE},
            id="that is not ready: what it holds now counts",
        ),
        pytest.param(
            {"podIP": "10.0.0.1", "containerStatuses": RUNS, **IS_READY},
            looks.Sight(None, BEFORE),
            {"runs": True, "started": "2026-01-02T03:30:00Z", "ready": True, "store": BEFORE},
            id="that is ready and does not answer: what it held last counts",
        ),
        pytest.param(
            {
                "podIP": "10.0.0.1",
                "containerStatuses": [*RUNS, {"state": {"running": {"startedAt": "2026-01-02T03:45:00Z"}}}],
            },
            None,
            {"runs": True, "started": "2026-01-02T03:45:00Z", "looked_at": False},
            id="whose last container has started late",
        ),
        pytest.param(
            {"podIP": "10.0.0.1", "containerStatuses": [{"state": {"running": None}}]},
            None,
            {"runs": True, "looked_at": False},
            id="that does not say since when it runs",
        ),
    ],
)
def test_an_ollama_pod(status: dict[str, Any] | None, sight: looks.Sight | None, pod: dict[str, Any]) -> None:
    bench = Bench()
    bench.child("Pod", f"{POOL}-0", status=status)
    uid = f"uid of {POOL}-0"
    (found,) = bench.saw(sights={} if sight is None else {uid: sight}).pods
    about = seen.Pod(f"{POOL}-0", POOL, uid, "10.0.0.1", status=status or {})
    assert found == dataclasses.replace(about, **pod)


@pytest.mark.parametrize(("labels", "cached"), [({}, False), ({"modelset.dev/registry-cache": "true"}, True)])
def test_a_pod_says_itself_whether_it_pulls_through_the_cache(labels: dict[str, str], cached: bool) -> None:
    bench = Bench()
    bench.child("Pod", f"{POOL}-0", labels=labels)
    assert [pod.cached for pod in bench.saw().pods] == [cached]


def test_pods_come_by_their_number_and_those_of_nobody_or_on_their_way_out_do_not() -> None:
    bench = Bench(ollama={"replicas": 11})
    for name in (f"{POOL}-10", f"{POOL}-9", f"{POOL}-b", f"{POOL}-a", "other-ollama-0"):
        bench.child("Pod", name)
    bench.child("Pod", f"{POOL}-3", metadata=GOING)
    names_found = [pod.name for pod in bench.saw().pods]
    assert names_found == [f"{POOL}-a", f"{POOL}-b", f"{POOL}-9", f"{POOL}-10"]


def test_pods_of_the_cache_come_by_name() -> None:
    bench = Bench()
    bench.child("Pod", "assistants-cache-1", "cache")
    bench.child("Pod", "assistants-cache-0", "cache", status=IS_READY)
    bench.child("Pod", "assistants-cache-2", "cache", metadata=GOING)
    assert bench.saw().cache.pods == (
        seen.CachePod("assistants-cache-0", ready=True, status=IS_READY),
        seen.CachePod("assistants-cache-1", ready=False, status={}),
    )


def test_pods_of_the_proxy_come_by_name() -> None:
    bench = Bench()
    worker = {"ray.io/cluster": "one", "ray.io/node-type": "worker"}
    bench.child("Pod", "worker", "proxy", worker, status=IS_READY)
    bench.child("Pod", "head", "proxy", {"ray.io/cluster": "one", "ray.io/node-type": "head"})
    bench.child("Pod", "other", "proxy")
    bench.child("Pod", "gone", "proxy", worker, metadata=GOING)
    assert bench.saw().ray_pods == (
        seen.RayPod("head", "one", worker=False, ready=False, status={}),
        seen.RayPod("other", "", worker=False, ready=False, status={}),
        seen.RayPod("worker", "one", worker=True, ready=True, status=IS_READY),
    )
