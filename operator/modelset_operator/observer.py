"""One look at a set and all around it: the API server's view, as watches keep it, and each Ollama's own."""

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from modelset_operator.api import moments, names, neighbours, spec
from modelset_operator.cluster import caches
from modelset_operator.engines import looks, state
from modelset_operator.manifests import cache, ollama
from modelset_operator.plan import conditions
from modelset_operator.plan import observed as seen

log = logging.getLogger(__name__)

# (namespace, name) of a set
Set = tuple[str, str]


class Observer:
    """Looks at sets, at what is known of them: it asks nobody and waits for nothing."""

    def __init__(
        self, cached: caches.Caches, images: spec.Images, around: neighbours.Neighbours = neighbours.UNKNOWN
    ) -> None:
        self._cached = cached
        self._images = images
        self._around = around

    def resource(self, owner: Set) -> dict[str, Any] | None:
        """Return the set as the API server has it, or None when it is gone or on its way out."""
        found = self._cached.model_sets.get(*owner)
        return None if found is None or found["metadata"].get("deletionTimestamp") else found

    def look(
        self,
        owner: Set,
        sights: Mapping[str, looks.Sight],
        pulls: Mapping[tuple[str, str], state.Pull],
        loads: Mapping[tuple[str, str], state.Load],
        tolerated: Mapping[tuple[str, str], seen.Tolerated],
        ungrown: Mapping[str, seen.Ungrown],
    ) -> seen.Observed | None:
        """Return what there is, or None when the set is gone or on its way out. Raises spec.SpecError."""
        namespace, name = owner
        cached = self._cached
        resource = self.resource(owner)
        if resource is None:
            return None
        pods = cached.pods.of_set(namespace, name)
        modelset = spec.parse(resource, self._images)
        ray_service = cached.ray_services.get(namespace, names.ray_service(name))
        return seen.Observed(
            modelset=modelset,
            resource=resource,
            now=now(),
            pools={pool.name: self._pool(namespace, pool) for pool in modelset.pools},
            guards=self._guards(namespace, name),
            around=self._around,
            ray_service=ray_service,
            serve_service=cached.serve_services.get(namespace, names.serve_service(name)),
            kuberay_installed=cached.kuberay_installed,
            ray_clusters=self._ray_clusters(namespace, ray_service),
            ray_pods=_ray_pods(pods),
            pods=_pods(modelset, pods, sights),
            cache=self._cache(namespace, name, pods),
            pulls=pulls,
            loads=loads,
            tolerated=tolerated,
            ungrown=ungrown,
        )

    def _guards(self, namespace: str, name: str) -> dict[tuple[str, str], dict[str, Any]]:
        stores = (self._cached.network_policies, self._cached.disruption_budgets)
        found = [one for store in stores for one in store.of_set(namespace, name)]
        return {(one["kind"], one["metadata"]["name"]): one for one in found}

    def _pool(self, namespace: str, pool: spec.Pool) -> seen.PoolObjects:
        cached, name = self._cached, pool.name
        claims = (cached.volume_claims.get(namespace, claim) for claim in ollama.claims(pool))
        return seen.PoolObjects(
            stateful_set=cached.stateful_sets.get(namespace, name),
            config_map=cached.config_maps.get(namespace, name),
            headless=cached.own_services.get(namespace, name),
            claims=tuple(claim for claim in claims if claim is not None),
        )

    def _cache(self, namespace: str, name: str, pods: Sequence[Mapping[str, Any]]) -> seen.CacheObjects:
        cached, own = self._cached, names.cache(name)
        claim = cached.volume_claims.get(namespace, cache.claim(name))
        found = sorted(_living(pods, names.CACHE_COMPONENT), key=lambda pod: str(pod["metadata"]["name"]))
        return seen.CacheObjects(
            stateful_set=cached.stateful_sets.get(namespace, own),
            service=cached.own_services.get(namespace, own),
            claims=() if claim is None else (claim,),
            pods=tuple(_cache_pod(pod) for pod in found),
        )

    def _ray_clusters(
        self, namespace: str, ray_service: Mapping[str, Any] | None
    ) -> tuple[dict[str, Any], ...]:
        status = (ray_service or {}).get("status") or {}
        parts = [status.get(part) or {} for part in ("activeServiceStatus", "pendingServiceStatus")]
        wanted = [part["rayClusterName"] for part in parts if part.get("rayClusterName")]
        found = [self._cached.ray_clusters.get(namespace, name) for name in wanted]
        return tuple(one for one in found if one is not None and not one["metadata"].get("deletionTimestamp"))


def now() -> str:
    """Return the time as Kubernetes writes it."""
    return moments.written(time.time())


def _pods(
    modelset: spec.ModelSet, found: Sequence[Mapping[str, Any]], sights: Mapping[str, looks.Sight]
) -> tuple[seen.Pod, ...]:
    """Return the pods of the set's pools; one that only has their labels is nobody's to change."""
    pools = {pool.name for pool in modelset.pools}
    living = [_pod(pod, sights.get(pod["metadata"]["uid"])) for pod in _living(found, names.OLLAMA_COMPONENT)]
    return tuple(sorted((pod for pod in living if pod.pool in pools), key=lambda pod: _place(pod.name)))


def _pod(pod: Mapping[str, Any], sight: looks.Sight | None) -> seen.Pod:
    status = pod.get("status") or {}
    ip = status.get("podIP", "")
    ready = conditions.is_true(status, "Ready")
    runs = bool(ip) and _runs(status)
    # Where the kubelet's probes get answers, no answer to a look is a busy moment and not a loss.
    store = (sight.last if ready else sight.now) if sight is not None and runs else None
    return seen.Pod(
        name=pod["metadata"]["name"],
        pool=names.pool_of(pod["metadata"]["name"]),
        uid=pod["metadata"]["uid"],
        ip=ip,
        ready=ready,
        runs=runs,
        started=_started(status) if runs else "",
        looked_at=sight is not None,
        store=store,
        cached=(pod["metadata"].get("labels") or {}).get(names.CACHED_LABEL) == "true",
        status=status,
    )


def _cache_pod(pod: Mapping[str, Any]) -> seen.CachePod:
    status = pod.get("status") or {}
    return seen.CachePod(pod["metadata"]["name"], conditions.is_true(status, "Ready"), status)


def _living(pods: Sequence[Mapping[str, Any]], component: str) -> list[Mapping[str, Any]]:
    return [
        pod
        for pod in pods
        if pod["metadata"]["labels"].get(names.COMPONENT_LABEL) == component
        and not pod["metadata"].get("deletionTimestamp")
    ]


def _ray_pods(pods: Sequence[Mapping[str, Any]]) -> tuple[seen.RayPod, ...]:
    found = [_ray_pod(pod) for pod in _living(pods, names.PROXY_COMPONENT)]
    return tuple(sorted(found, key=lambda pod: pod.name))


def _ray_pod(pod: Mapping[str, Any]) -> seen.RayPod:
    status = pod.get("status") or {}
    labels = pod["metadata"].get("labels") or {}
    return seen.RayPod(
        name=pod["metadata"]["name"],
        cluster=labels.get("ray.io/cluster", ""),
        worker=labels.get("ray.io/node-type") == "worker",
        ready=conditions.is_true(status, "Ready"),
        status=status,
    )


def _runs(status: Mapping[str, Any]) -> bool:
    states = _states(status)
    return bool(states) and all("running" in state for state in states)


def _started(status: Mapping[str, Any]) -> str:
    """Return when the last container of a pod that runs has started."""
    running = (state.get("running") or {} for state in _states(status))
    return max(str(one.get("startedAt", "")) for one in running)


def _states(status: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [entry.get("state") or {} for entry in status.get("containerStatuses") or ()]


def _place(name: str) -> tuple[str, int, str]:
    pool, _, tail = name.rpartition("-")
    return (pool, int(tail) if tail.isdigit() else -1, name)
