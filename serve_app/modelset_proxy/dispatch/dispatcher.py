"""Runs jobs: waits for a turn, chooses the server, and fails over.

Until something has been handed on, a unit may start again on another server: generating has no side effects.
Afterwards a failure is an error, never a second answer.
"""

import itertools
import time
from collections.abc import AsyncGenerator, Mapping
from typing import TypeVar

from modelset_proxy.dispatch import admission, fleet, router
from modelset_proxy.engines import port
from modelset_proxy.openai import catalog, errors
from modelset_proxy.telemetry import metrics

Item = TypeVar("Item")
_ATTEMPTS = 4


class Dispatcher:
    """Runs the units of jobs on the servers of one engine. Nothing may run before ``start``."""

    def __init__(self, engine: port.Engine, servers: fleet.Fleet, measures: metrics.Metrics) -> None:
        self._engine = engine
        self.fleet = servers
        self._metrics = measures
        self._turns = admission.Admission(self._capable)
        self._keys: dict[str, str] = {}
        self._turn = 0

    @property
    def limits(self) -> admission.Limits:
        """The bounds on what is accepted; they may be replaced."""
        return self._turns.limits

    @limits.setter
    def limits(self, limits: admission.Limits) -> None:
        self._turns.limits = limits
        self._turns.admit()

    def serve(self, models: catalog.Catalog) -> None:
        """Take over which models there are."""
        self._keys = {model.served_names[0]: self._engine.key(model.name) for model in models.models}
        self._turns.admit()

    def counts(self) -> dict[str, tuple[int, int]]:
        """Return how many requests run and wait, by first served name."""
        return {served: self._turns.counts(served) for served in self._keys}

    def state(self) -> Mapping[str, int]:
        """Count the servers known and those that answer."""
        servers = self.fleet.servers.values()
        return {"servers": len(servers), "reachable": sum(server.reachable for server in servers)}

    def admit(self) -> None:
        """Let requests in that there is room for now; to be called after each look at the servers."""
        self._turns.admit()

    async def run(
        self, job: port.Job[Item], unit: int, model: catalog.Model, call: port.Call
    ) -> AsyncGenerator[Item, None]:
        """Yield the answer to one unit of a job; raises ApiError."""
        async with self._turns.slot(call):
            key = self._engine.key(model.name)
            tried: set[str] = set()
            failure: port.ServerFailure | None = None
            for attempts in itertools.count(1):
                server = await self._pick(key, call, tried, failure)
                call.server, call.attempts = server.url, max(call.attempts, attempts)
                if failure is not None:
                    self._metrics.upstream_retry(call.served)
                started = False
                server.begin(key)
                answer = job.ask(server.url, unit, call)
                try:
                    async for item in answer:
                        started = True
                        yield item
                except port.ServerFailure as problem:
                    failure = problem
                else:
                    server.succeeded()
                    return
                finally:
                    server.end(key)
                    await answer.aclose()
                self._learn(server, key, failure)
                self._metrics.upstream_failure(call.served, failure.error.code or "")
                if started or attempts == _ATTEMPTS:
                    raise failure.error from None
                tried.add(server.url)

    def _learn(self, server: router.Server, key: str, failure: port.ServerFailure) -> None:
        if failure.absent:
            # Believed of this model alone: what is sent names no other.
            server.held -= {key}
        else:
            server.failed(time.monotonic())

    async def _pick(
        self, key: str, call: port.Call, tried: set[str], failure: port.ServerFailure | None
    ) -> router.Server:
        self._turn += 1
        server = self._choose(key, call, tried)
        if server is None:
            # Pods may have moved, or hold more than they did.
            await self.fleet.refresh()
            # After a lost connection the same server counts again: it may have been restarted.
            server = self._choose(key, call, set() if failure is not None and failure.lost else tried)
        if server is not None:
            return server
        if failure is not None:
            raise failure.error from None
        if not any(server.reachable for server in self.fleet.servers.values()):
            raise errors.unavailable("No model server can be reached.", code="upstream_unavailable")
        raise errors.model_not_ready()

    def _choose(self, key: str, call: port.Call, tried: set[str]) -> router.Server | None:
        return router.choose(
            self.fleet.servers.values(),
            key,
            now=time.monotonic(),
            tried=tried,
            affinity=call.affinity,
            turn=self._turn,
            parallel=self.limits.max_in_flight_per_server,
        )

    def _capable(self, served: str) -> int:
        key = self._keys.get(served)
        return sum(key in server.held for server in self.fleet.servers.values() if server.reachable)
