"""What one look at a set and everything around it has found."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from modelset_operator.api import neighbours, spec
from modelset_operator.engines import state

Object = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class PoolObjects:
    """What the API server holds for a pool, None where it holds no such object.

    `claims` are those of the volumes of the pods that the spec asks for, as far as there are any.
    """

    stateful_set: Object | None = None
    config_map: Object | None = None
    headless: Object | None = None
    claims: tuple[Object, ...] = ()


@dataclasses.dataclass(frozen=True)
class Pod:
    """An Ollama pod, the name of its pool, and its status as the API server has it.

    `runs`: Ollama's container does, since `started`; `looked_at`: Ollama was asked what it holds;
    `store` is None while Ollama does not answer; `cached`: it pulls through the cache of the set.
    """

    name: str
    pool: str
    uid: str
    ip: str
    ready: bool = False
    runs: bool = False
    started: str = ""
    looked_at: bool = True
    store: state.Store | None = None
    cached: bool = False
    status: Object = dataclasses.field(default_factory=dict, repr=False)


@dataclasses.dataclass(frozen=True)
class CachePod:
    """A pod of the registry cache, and its status as the API server has it."""

    name: str
    ready: bool
    status: Object = dataclasses.field(default_factory=dict, repr=False)


@dataclasses.dataclass(frozen=True)
class CacheObjects:
    """What the API server holds for the registry cache of a set, None where it holds no such object."""

    stateful_set: Object | None = None
    service: Object | None = None
    claims: tuple[Object, ...] = ()
    pods: tuple[CachePod, ...] = ()


@dataclasses.dataclass(frozen=True)
class RayPod:
    """A pod of the proxy, and its status as the API server has it; a worker is ready when Serve uses it."""

    name: str
    cluster: str
    worker: bool
    ready: bool
    status: Object = dataclasses.field(default_factory=dict, repr=False)


@dataclasses.dataclass(frozen=True)
class Tolerated:
    """Paths which the API server did not keep as applied, for the manifest with this hash."""

    digest: str
    paths: frozenset[str]


@dataclasses.dataclass(frozen=True)
class Ungrown:
    """What the API server said when a claim was to be made as large as `size`."""

    size: str
    reason: str


@dataclasses.dataclass(frozen=True, eq=False)
class Observed:
    """One look. `pools` by name; `pulls`, `loads` by (pod uid, reference key); `tolerated` by (kind, name);
    `ungrown` by the uid of a claim.

    `guards` are the set's NetworkPolicies and PodDisruptionBudgets, by kind and name; `around` those who may
    come to its pods from outside.
    `ray_clusters` are the RayService's active and pending one. `settled_seconds` is for how long the proxy
    has run the present RayService, 0 when it does not; `now` is RFC 3339 in UTC. `demanded` is how many
    Ollama pods demand calls for, None where that is not decided; `demand_token_hash` is of what opens the
    proxy's demand feed.
    """

    modelset: spec.ModelSet
    resource: Object
    now: str
    pools: Mapping[str, PoolObjects] = dataclasses.field(default_factory=dict)
    guards: Mapping[tuple[str, str], Object] = dataclasses.field(default_factory=dict)
    around: neighbours.Neighbours = neighbours.UNKNOWN
    ray_service: Object | None = None
    serve_service: Object | None = None
    kuberay_installed: bool = True
    pods: tuple[Pod, ...] = ()
    pulls: Mapping[tuple[str, str], state.Pull] = dataclasses.field(default_factory=dict)
    loads: Mapping[tuple[str, str], state.Load] = dataclasses.field(default_factory=dict)
    ray_clusters: tuple[Object, ...] = ()
    ray_pods: tuple[RayPod, ...] = ()
    cache: CacheObjects = CacheObjects()
    settled_seconds: float = 0.0
    demanded: int | None = None
    demand_token_hash: str = ""
    tolerated: Mapping[tuple[str, str], Tolerated] = dataclasses.field(default_factory=dict)
    ungrown: Mapping[str, Ungrown] = dataclasses.field(default_factory=dict)

    @property
    def whole(self) -> bool:
        """Whether all pods that run were looked at: after a start of the operator, not all are yet."""
        return all(pod.looked_at for pod in self.pods if pod.runs)

    @property
    def status(self) -> Object:
        """The status that the API server holds."""
        status: Object = self.resource.get("status") or {}
        return status

    @property
    def same_generation(self) -> bool:
        """Whether the status tells of the very spec that there is now."""
        return self.status.get("observedGeneration") == self.modelset.generation

    def previous_model(self, name: str) -> Object:
        """Return the entry of one model in the status that the API server holds, or an empty one."""
        for entry in self.status.get("models") or ():
            if entry.get("name") == name:
                return dict(entry)
        return {}

    def of(self, pool: spec.Pool) -> PoolObjects:
        """Return what there is of a pool."""
        return self.pools.get(pool.name, PoolObjects())

    def pull(self, pod: Pod, key: str) -> state.Pull | None:
        """Return the download of a model onto a pod, if one was begun."""
        return self.pulls.get((pod.uid, key))
