"""Where models are to be. Whatever pulls, deletes, looks at or counts models on pods asks here. Pure.

A model is kept on all pods, or on as many as its `replicas` say: on those that keep it already, then on those
with most room, then on the lowest ordinals, since a StatefulSet takes the highest away. What is decided
stands in the pool's ConfigMap, so that neither a pod that restarts nor an operator that does moves anything.
"""

import collections
import dataclasses
import functools
from collections.abc import Collection, Iterable, Mapping, Sequence

from modelset_operator.api import spec
from modelset_operator.manifests import ollama
from modelset_operator.plan import needs, replicas
from modelset_operator.plan import observed as seen


@dataclasses.dataclass(frozen=True)
class Demand:
    """A model to be placed: on `copies` pods, None for all. `hot`: it is in memory wherever it is kept.

    A variant goes where its `base` is, which has no fewer copies; its `adapter` goes along, and takes
    `adapter_disk`.
    """

    key: str
    copies: int | None = None
    takes: needs.Needs = needs.UNKNOWN
    hot: bool = False
    base: str | None = None
    adapter: str | None = None
    adapter_disk: int | None = None


@dataclasses.dataclass(frozen=True)
class Room:
    """A pod, there or to be: what it has in bytes, None where nothing bounds it, and how many hot models.

    `assigned` are the keys of the models that it was told to keep before, `held` of those on its disk.
    """

    pod: str
    memory: int | None = None
    disk: int | None = None
    hot: int | None = None
    assigned: frozenset[str] = frozenset()
    held: frozenset[str] = frozenset()


@dataclasses.dataclass(frozen=True)
class Assignment:
    """The keys of the models that each pod is to keep, and why copies of a model have found no pod."""

    keys: Mapping[str, frozenset[str]]
    unmet: Mapping[str, str]


class _Taken:
    """A pod that is being filled; what is not known counts nothing, and variants' runner once."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.keys: set[str] = set()
        self.runners: set[str] = set()
        self.hot_runners: set[str] = set()
        self.memory = 0
        self.hot_memory = 0
        self.disk = 0

    def take(self, demand: Demand) -> None:
        runner = demand.takes.runner or demand.key
        memory = demand.takes.memory or 0
        self.disk += sum(self._adds(demand).values())
        self.keys.update(self._adds(demand))
        if runner not in self.runners:
            self.runners.add(runner)
            self.memory += memory
        if demand.hot and runner not in self.hot_runners:
            self.hot_runners.add(runner)
            self.hot_memory += memory

    def _adds(self, demand: Demand) -> dict[str, int]:
        """Return what is to be kept that is not kept yet, and what each takes on the disk."""
        wanted = {demand.key: demand.takes.disk or 0}
        if demand.adapter is not None:
            wanted[demand.adapter] = demand.adapter_disk or 0
        return {key: disk for key, disk in wanted.items() if key not in self.keys}

    def lacks(self, demand: Demand) -> str:
        """Return in what a model does not fit, "" where it does; what is on a disk fits there."""
        if demand.base is not None and demand.base not in self.keys:
            return f"its base, {demand.base}, is not kept there"
        room, memory = self.room, demand.takes.memory or 0
        disk = sum(size for key, size in self._adds(demand).items() if key not in room.held)
        if room.memory is not None and memory > room.memory:
            return f"needs {needs.text(memory)} of memory, pods have {needs.text(room.memory)}"
        adds = demand.hot and (demand.takes.runner or demand.key) not in self.hot_runners
        if room.memory is not None and adds and self.hot_memory + memory > room.memory:
            left = needs.text(room.memory - self.hot_memory)
            return (
                f"needs {needs.text(memory)} of memory beside other preloaded models,"
                f" pods have {left} left of {needs.text(room.memory)}"
            )
        if adds and room.hot is not None and len(self.hot_runners) >= room.hot:
            return f"spec.ollama.maxLoadedModels is {room.hot}, and as many other models are preloaded"
        if room.disk is not None and disk and self.disk + disk > room.disk:
            left = needs.text(max(0, room.disk - self.disk))
            return f"needs {needs.text(disk)} of disk, pods have {left} left of {needs.text(room.disk)}"
        return ""

    def preference(self, demand: Demand) -> tuple[float, ...]:
        """Order pods for a model: the least first, and of equals the first."""
        return (
            demand.key not in self.room.assigned,
            demand.key not in self.room.held,
            len(self.hot_runners) if demand.hot else 0,
            self.memory,
            self.disk,
            len(self.keys),
        )


def assign(demands: Iterable[Demand], rooms: Sequence[Room]) -> Assignment:
    """Place models on pods, which come by ordinal.

    Those that are somewhere already come first, so that a new one moves none of them; then those that all
    pods keep, then hot ones and large ones, so that these find the emptiest pods. Bases come before variants.
    """
    taken = [_Taken(room) for room in rooms]
    unmet: dict[str, str] = {}
    known = frozenset[str]().union(*(room.assigned | room.held for room in rooms))

    def order(demand: Demand) -> tuple[float | str, ...]:
        size = max(demand.takes.memory or 0, demand.takes.disk or 0)
        everywhere = demand.copies is None or demand.copies >= len(rooms)
        new = demand.key not in known or (demand.base or demand.key) not in known
        return (new, demand.base is not None, not everywhere, not demand.hot, -size, demand.key)

    for demand in sorted(demands, key=order):
        lacking = {one.room.pod: one.lacks(demand) for one in taken}
        fitting = [one for one in taken if not lacking[one.room.pod]]
        copies = len(rooms) if demand.copies is None else min(demand.copies, len(rooms))
        for one in sorted(fitting, key=lambda room: room.preference(demand))[:copies]:
            one.take(demand)
        if len(fitting) < copies and demand.base in unmet:
            unmet[demand.key] = f"its base, {demand.base}, {unmet[demand.base]}"
        elif len(fitting) < copies:
            unmet[demand.key] = next(reason for reason in lacking.values() if reason)
    return Assignment({one.room.pod: frozenset(one.keys) for one in taken}, unmet)


def in_pool(pool: spec.Pool, observed: seen.Observed) -> Assignment:
    """Return which models the pods of a pool keep, those that are not there yet included."""
    modelset = observed.modelset
    demands = [_demand(model, observed) for model in modelset.by_key.values()]
    paths = {model.reference.manifest_path: key for key, model in modelset.by_key.items()}
    stores = {pod.name: pod.store for pod in observed.pods if pod.store is not None}
    config_map = observed.of(pool).config_map
    rooms = []
    for ordinal in range(replicas.of(pool, observed)):
        name = f"{pool.name}-{ordinal}"
        held = stores[name].held if name in stores else {}
        rooms.append(
            Room(
                pod=name,
                memory=needs.pod_memory(pool.ollama),
                disk=needs.pod_disk(pool.ollama),
                hot=pool.ollama.max_loaded_models,
                assigned=frozenset(
                    paths[path] for path in ollama.assigned(config_map, name) if path in paths
                ),
                held=frozenset(held),
            )
        )
    return assign(demands, rooms)


def _demand(model: spec.Model, observed: seen.Observed) -> Demand:
    demand = Demand(model.reference.key, model.replicas, needs.of(model, observed), model.preload)
    if model.variant is None:
        return demand
    demand = dataclasses.replace(demand, base=model.variant.base.key)
    if model.variant.adapter is None:
        return demand
    adapter = model.variant.adapter.key
    disk = needs.of(observed.modelset.by_key[adapter], observed).disk
    return dataclasses.replace(demand, adapter=adapter, adapter_disk=disk)


@functools.lru_cache(maxsize=2)
def placed(observed: seen.Observed) -> Assignment:
    """Return where all models of a set are to be. It is asked many times of one look."""
    found = [in_pool(pool, observed) for pool in observed.modelset.pools]
    return Assignment(
        {pod: keys for one in found for pod, keys in one.keys.items()},
        {key: reason for one in found for key, reason in one.unmet.items()},
    )


def wanted_on(pod: seen.Pod, observed: seen.Observed) -> Mapping[str, spec.Model]:
    """Return the models that one pod should hold, by reference key.

    A pod that its StatefulSet is to take away keeps what it has: its volume stays, and it may come back.
    """
    keys = _keys_on(pod, observed)
    return {key: model for key, model in observed.modelset.by_key.items() if key in keys}


def pods_for(model: spec.Model, observed: seen.Observed) -> tuple[seen.Pod, ...]:
    """Return the pods that should hold a model."""
    return _pods_by_key(observed).get(model.reference.key, ())


@functools.lru_cache(maxsize=2)
def _pods_by_key(observed: seen.Observed) -> Mapping[str, tuple[seen.Pod, ...]]:
    pods = collections.defaultdict[str, list[seen.Pod]](list)
    for pod in observed.pods:
        for key in _keys_on(pod, observed):
            pods[key].append(pod)
    return {key: tuple(found) for key, found in pods.items()}


def _keys_on(pod: seen.Pod, observed: seen.Observed) -> Collection[str]:
    keys = placed(observed).keys.get(pod.name)
    if keys is not None:
        return keys
    return pod.store.held.keys() if pod.store is not None else ()


def copies(model: spec.Model, observed: seen.Observed) -> int:
    """Return how many pods are to hold a model: those that are not there yet, or have no room, included."""
    key, found = model.reference.key, placed(observed)
    if key in found.unmet:
        pods = replicas.of_all(observed)
        return min(model.replicas or pods, pods)
    return sum(key in keys for keys in found.keys.values())


def may_go(key: str, observed: seen.Observed) -> bool:
    """Whether pods that are not to hold a model may lose it: nobody wants it, or those who are to hold it do.

    So it never stops being served because it moves. One for which no pod has room stays where it is: once it
    is gone nobody would know what it needs.
    """
    model = observed.modelset.by_key.get(key)
    if model is None:
        return True
    holds = [
        pod.ready and pod.store is not None and key in pod.store.held for pod in pods_for(model, observed)
    ]
    return bool(holds) and sum(holds) == copies(model, observed)
