"""Runs a workload through a way of choosing servers, on a clock of its own."""

import heapq
import itertools
from collections.abc import Iterable, Iterator, Sequence

from benchmarks.dispatch import servers, ways, workload
from benchmarks.dispatch.result import Result
from modelset_proxy.dispatch import facts

LOOK_SECONDS = 3.0


class Simulation:
    """Servers, a way to choose among them, and the clock."""

    def __init__(self, fleet: Sequence[servers.Server], way: ways.Way) -> None:
        self._fleet = {server.name: server for server in fleet}
        self._way = way
        self._events: list[tuple[float, int, object]] = []
        self._numbers = itertools.count()
        self._answers: dict[int, tuple[float, int]] = {}
        self._following: Iterator[workload.Arrival] = iter(())
        self._result = Result()
        self._next_look = 0.0
        self._woken = 0.0

    def run(self, arrivals: Iterable[workload.Arrival], clients: int | None = None) -> Result:
        """Run to the end.

        Requests come at their times; or from so many ``clients``, who each send the next one when they have
        been answered.
        """
        now = 0.0
        incoming = iter(arrivals)
        if clients is not None:
            self._following, incoming = incoming, iter(())
            for arrival in itertools.islice(self._following, clients):
                self._arrive(now, arrival)
        coming = next(incoming, None)
        while coming is not None or self._events:
            if coming is not None and (not self._events or coming.at <= self._events[0][0]):
                now = coming.at
                self._arrive(now, coming)
                coming = next(incoming, None)
            else:
                now, _, event = heapq.heappop(self._events)
                self._handle(now, event)
            due = self._way.wake(now)
            if due is not None and (due < self._woken or self._woken <= now):
                self._woken = max(due, now + 1e-3)
                self._push(self._woken, None)
        for server in self._fleet.values():
            self._count(server)
        return self._result

    def _count(self, server: servers.Server) -> None:
        result = self._result
        result.load_seconds += server.load_seconds
        result.loads += server.loads
        result.prompt_tokens += server.prompt_tokens
        result.read_tokens += server.read_tokens

    def _push(self, at: float, event: object) -> None:
        heapq.heappush(self._events, (at, next(self._numbers), event))

    def _arrive(self, now: float, arrival: workload.Arrival) -> None:
        if now >= self._next_look:
            self._look(now)
        self._answers[arrival.request.id] = now, arrival.answer_tokens
        self._do(now, self._way.arrive(now, arrival.request))

    def _look(self, now: float) -> None:
        self._next_look = now + LOOK_SECONDS
        self._way.look(now, {server.name: server.loaded for server in self._fleet.values()})

    def _handle(self, now: float, event: object) -> None:
        match event:
            case servers.Server() as server:
                # It may have been asked for more since; then there is a later event of it.
                if server.due is not None and server.due <= now:
                    ended = server.ended(now)
                    self._watch(server)
                    for job in ended:
                        self._ended(now, job)
            case (facts.Load() as load, float(seconds)):
                self._do(now, self._way.loaded(now, load, seconds))
            case None:
                self._do(now, self._way.again(now))

    def _ended(self, now: float, job: servers.Job) -> None:
        arrived, _ = self._answers.pop(job.request.id)
        self._result.waits.append(job.first - arrived)
        self._result.ended = now
        tokens = job.request.prompt_tokens + 2 * job.answer_tokens
        self._result.served.setdefault(job.request.client, []).append((now, tokens))
        self._do(now, self._way.ended(now, job))
        for arrival in itertools.islice(self._following, 1):
            self._arrive(now, arrival)

    def _do(self, now: float, decisions: list[facts.Decision]) -> None:
        for decision in decisions:
            server = self._fleet[decision.url]
            match decision:
                case facts.Start(request, unit):
                    server.ask(now, servers.Job(request, unit, self._answers[request.id][1]))
                    self._watch(server)
                case facts.Unload(model):
                    server.unload(model)
                case facts.Load(model):
                    ready = server.load(now, model)
                    self._push(ready, (decision, ready - now))

    def _watch(self, server: servers.Server) -> None:
        if (due := server.due) is not None:
            self._push(due, server)
