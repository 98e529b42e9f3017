"""Pods of several pools, which start, drain and go as those of StatefulSets do. Times in seconds."""

import dataclasses
from collections.abc import Callable, Mapping

from benchmarks.dispatch import servers

Make = Callable[[str, str], servers.Server]


@dataclasses.dataclass
class Pod:
    """One pod; it is ready from ``ready`` on, and told to go at ``leaving``."""

    server: servers.Server
    created: float
    ready: float
    leaving: float | None = None


@dataclasses.dataclass(frozen=True)
class Change:
    """From how many pods of a pool to how many."""

    at: float
    pool: str
    before: int
    after: int


class Pods:
    """Makes what is wanted; ``seconds`` are those of all pods that are gone, ``changes`` what was wanted.

    ``make`` returns the server of a name and a pool. Where pods are ``warm``, each has its pool's model in
    memory before it is ready.
    """

    def __init__(self, make: Make, start_seconds: float, *, warm: bool = False) -> None:
        self._make = make
        self._start_seconds = start_seconds
        self._warm = warm
        self._wanted: dict[str, int] = {}
        self._pods: dict[str, list[Pod | None]] = {}
        self.seconds = 0.0
        self.changes: list[Change] = []

    def want(self, now: float, wanted: Mapping[str, int]) -> None:
        """Begin and end pods; of each pool the last ones go first, at once where they are not ready yet."""
        for pool, count in wanted.items():
            before = self._wanted.get(pool, 0)
            if count != before:
                self.changes.append(Change(now, pool, before, count))
                self._wanted[pool] = count
        self._settle(now)

    def ready(self, now: float) -> list[servers.Server]:
        """Return the servers that requests should be sent to."""
        return [pod.server for pod in self._all() if pod.ready <= now and pod.leaving is None]

    def seen(self, now: float) -> None:
        """Take in that nobody knows any more of pods that are to go: they end once they have no work left."""
        for pool, pods in self._pods.items():
            for ordinal, pod in enumerate(pods):
                if pod is not None and pod.leaving is not None and not pod.server.busy:
                    self._end(now, pool, ordinal)
        self._settle(now)

    def end(self, now: float) -> None:
        """Count the seconds of those that are still there."""
        self.seconds += sum(now - pod.created for pod in self._all())

    def _all(self) -> list[Pod]:
        return [pod for pods in self._pods.values() for pod in pods if pod is not None]

    def _settle(self, now: float) -> None:
        for pool, count in self._wanted.items():
            pods = self._pods.setdefault(pool, [])
            pods += [None] * (count - len(pods))
            for ordinal, pod in enumerate(pods):
                if ordinal < count:
                    # One that goes is replaced when it is gone: it has the name, and the volume.
                    if pod is None:
                        pods[ordinal] = self._begin(now, pool, ordinal)
                elif pod is not None and pod.leaving is None:
                    pod.leaving = now
                    if pod.ready > now:
                        self._end(now, pool, ordinal)

    def _begin(self, now: float, pool: str, ordinal: int) -> Pod:
        server = self._make(f"{pool}/{ordinal}", pool)
        runs = now + self._start_seconds
        return Pod(server, now, server.load(runs, pool) if self._warm else runs)

    def _end(self, now: float, pool: str, ordinal: int) -> None:
        pod = self._pods[pool][ordinal]
        if pod is not None:
            self.seconds += now - pod.created
            self._pods[pool][ordinal] = None
