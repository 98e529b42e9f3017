"""The number of Ray workers follows spec.proxy.replicas."""

from typing import Any

import pytest

from modelset_operator.plan import observed as seen
from modelset_operator.plan import workers

from . import builders


def cluster(replicas: int, name: str = "assistants-abc") -> dict[str, Any]:
    groups = [{"groupName": "proxy", "replicas": replicas}]
    return {"metadata": {"name": name, "uid": f"{name}-uid"}, "spec": {"workerGroupSpecs": groups}}


def worker(name: str, ready: bool) -> seen.RayPod:
    return seen.RayPod(name, "assistants-abc", worker=True, ready=ready)


HEAD = seen.RayPod("head", "assistants-abc", worker=False, ready=False)


@pytest.mark.parametrize(
    ("wanted", "current", "settled", "scaled", "waits"),
    [
        pytest.param(1, 0, 60.0, [], False, id="head only"),
        pytest.param(3, 2, 0.0, [], False, id="as it should be"),
        pytest.param(3, 0, 0.0, [(2, ())], False, id="more at once"),
        pytest.param(1, 2, 29.0, [], True, id="fewer not before Serve has fewer replicas"),
        pytest.param(2, 2, 30.0, [(1, ("idle",))], False, id="the one without a replica goes"),
        pytest.param(1, 2, 60.0, [(0, ("idle",))], False, id="and then another"),
    ],
)
def test_workers(
    wanted: int, current: int, settled: float, scaled: list[tuple[int, tuple[str, ...]]], waits: bool
) -> None:
    observed = builders.observed(
        builders.resource("a:1", proxy={"replicas": wanted}),
        ray_clusters=(cluster(current),),
        ray_pods=(HEAD, worker("busy", True), worker("idle", False)),
        settled_seconds=settled,
    )
    found = workers.scalings(observed, asked=True)
    assert [(scaling.replicas, scaling.remove) for scaling in found] == scaled
    assert workers.waits(observed, asked=True) == waits


def test_a_cluster_that_is_still_starting_gets_its_workers_too() -> None:
    clusters = (cluster(0, "active"), cluster(0, "pending"))
    observed = builders.observed(builders.resource("a:1", proxy={"replicas": 2}), ray_clusters=clusters)
    assert [scaling.cluster for scaling in workers.scalings(observed, asked=True)] == ["active", "pending"]


def test_a_cluster_that_is_not_ours_to_scale_is_left_alone() -> None:
    other = {"metadata": {"name": "x", "uid": "u"}, "spec": {}}
    assert (
        workers.scalings(builders.observed(builders.resource("a:1"), ray_clusters=(other,)), asked=True) == ()
    )


@pytest.mark.parametrize("workers_now", [0, 2, 9])
def test_workers_of_an_autoscaled_proxy_are_the_autoscalers(workers_now: int) -> None:
    resource = builders.resource("a:1", proxy={"autoscaling": {"minReplicas": 2, "maxReplicas": 4}})
    observed = builders.observed(resource, ray_clusters=(cluster(workers_now),), settled_seconds=3600.0)
    assert workers.scalings(observed, asked=True) == ()
    assert not workers.waits(observed, asked=True)


def test_a_cluster_with_an_autoscaler_keeps_its_workers_until_another_takes_over() -> None:
    old, new = cluster(3, "old"), cluster(0, "new")
    old["spec"]["enableInTreeAutoscaling"] = True
    resource = builders.resource("a:1", proxy={"replicas": 2})
    observed = builders.observed(resource, ray_clusters=(old, new), settled_seconds=3600.0)
    assert [scaling.cluster for scaling in workers.scalings(observed, asked=True)] == ["new"]
    alone = builders.observed(resource, ray_clusters=(old,), settled_seconds=3600.0)
    assert not workers.waits(alone, asked=True)


def test_no_worker_goes_before_serve_was_asked_to_have_fewer_replicas() -> None:
    observed = builders.observed(builders.resource("a:1"), ray_clusters=(cluster(1),), settled_seconds=3600.0)
    assert workers.scalings(observed, asked=False) == ()
    assert workers.waits(observed, asked=False)
    assert len(workers.scalings(observed, asked=True)) == 1


def test_each_cluster_is_told_for_itself_how_many_workers_and_which_are_to_go() -> None:
    def pod(name: str, cluster: str = "many", ready: bool = False, worker: bool = True) -> seen.RayPod:
        return seen.RayPod(name, cluster, worker=worker, ready=ready)

    silent, foreign = cluster(0, "silent"), cluster(9, "foreign")
    del silent["spec"]["workerGroupSpecs"][0]["replicas"]
    foreign["spec"]["workerGroupSpecs"][0]["groupName"] = "somebody's"
    observed = builders.observed(
        builders.resource("a:1", proxy={"replicas": 2}),
        ray_clusters=(cluster(1, "fine"), foreign, cluster(0, "few"), cluster(4, "many"), silent),
        ray_pods=(
            pod("d"),
            pod("b"),
            pod("busy", ready=True),
            pod("a", "fine"),
            pod("c"),
            pod("e"),
            pod("head", worker=False),
        ),
        settled_seconds=30.0,
    )
    assert workers.scalings(observed, asked=True) == (
        workers.Scaling("few", "few-uid", 1),
        workers.Scaling("many", "many-uid", 1, ("b", "c", "d")),
        workers.Scaling("silent", "silent-uid", 1),
    )
    assert workers.waits(observed, asked=False)


def test_too_few_workers_are_not_waited_for() -> None:
    clusters = (cluster(0, "few"), {"metadata": {"name": "new", "uid": "u"}})
    resource = builders.resource("a:1", proxy={"replicas": 2})
    assert not workers.waits(builders.observed(resource, ray_clusters=clusters), asked=True)
