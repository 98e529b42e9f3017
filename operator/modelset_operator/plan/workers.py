"""Workers of the Ray clusters.

KubeRay takes a change of `replicas` in a RayService for no change at all (rayservice_controller.go,
shouldUpdateCluster: it leaves workers to Ray's autoscaler), so the operator sets it on the RayClusters. Where
that autoscaler runs, or is to, the workers are its own and nobody else's.
"""

import dataclasses
from typing import Any

from modelset_operator.manifests import ray
from modelset_operator.plan import observed as seen

# A worker that Serve has just left needs this long to be seen as not ready.
SETTLED_SECONDS = 30.0


@dataclasses.dataclass(frozen=True)
class Scaling:
    """A RayCluster that is to have another number of workers; `remove` names those to go."""

    cluster: str
    uid: str
    replicas: int
    remove: tuple[str, ...] = ()


def scalings(observed: seen.Observed, *, asked: bool) -> tuple[Scaling, ...]:
    """Return which Ray clusters have too few or too many workers.

    More are added at once, because Serve waits for them. Fewer only when Serve runs with fewer replicas, and
    those that host none go first. `asked` tells that the observed RayService asks for what the spec wants, so
    that being settled means that.
    """
    wanted = _wanted(observed)
    found = []
    for cluster in observed.ray_clusters:
        metadata = cluster["metadata"]
        current = _workers(cluster, observed)
        if current is None or current == wanted:
            continue
        if current < wanted:
            found.append(Scaling(metadata["name"], metadata["uid"], wanted))
        elif _may_go(observed, asked=asked):
            idle = _idle(metadata["name"], observed)
            found.append(Scaling(metadata["name"], metadata["uid"], wanted, idle[: current - wanted]))
    return tuple(found)


def waits(observed: seen.Observed, *, asked: bool) -> bool:
    """Whether workers are too many and not to go yet, though nothing else may happen until then."""
    found = (_workers(cluster, observed) or 0 for cluster in observed.ray_clusters)
    too_many = any(workers > _wanted(observed) for workers in found)
    return too_many and not _may_go(observed, asked=asked)


def _wanted(observed: seen.Observed) -> int:
    return observed.modelset.proxy.replicas - 1


def _may_go(observed: seen.Observed, *, asked: bool) -> bool:
    return asked and observed.settled_seconds >= SETTLED_SECONDS


def _workers(cluster: seen.Object, observed: seen.Observed) -> int | None:
    """Return how many workers a cluster is to have so far; None where that is not the operator's to say."""
    spec = cluster.get("spec") or {}
    # A set's clusters may differ in it while one takes over from another.
    if observed.modelset.proxy.autoscaling is not None or spec.get("enableInTreeAutoscaling"):
        return None
    groups: list[dict[str, Any]] = spec.get("workerGroupSpecs") or []
    if not groups or groups[0].get("groupName") != ray.WORKER_GROUP:
        return None
    return int(groups[0].get("replicas") or 0)


def _idle(cluster: str, observed: seen.Observed) -> tuple[str, ...]:
    pods = (pod for pod in observed.ray_pods if pod.cluster == cluster and pod.worker and not pod.ready)
    return tuple(sorted(pod.name for pod in pods))
