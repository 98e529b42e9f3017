"""Runs a workload through a way of choosing servers, on a clock of its own."""

import dataclasses
import heapq
import itertools
from collections.abc import Iterable, Sequence
from typing import Protocol

from benchmarks.dispatch import servers, workload
from modelset_proxy.dispatch import core, facts
from modelset_proxy.engines import port

_LOOK_SECONDS = 3.0


@dataclasses.dataclass
class Result:
    """What came of it, in seconds; ``waits`` are the times to the first token."""

    waits: list[float]
    load_seconds: float
    ended: float
    prompt_tokens: int
    read_tokens: int
    served: dict[str, list[tuple[float, int]]]

    def percentile(self, share: float) -> float:
        """Return the time to the first token that this share of the requests do not exceed."""
        ordered = sorted(self.waits)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class Way(Protocol):
    """A way of choosing servers."""

    def arrive(self, now: float, request: facts.Request, /) -> list[facts.Decision]:
        """Take a request; return what to do."""

    def ended(self, now: float, job: servers.Job, /) -> list[facts.Decision]:
        """Take in that a job ended; return what to do."""

    def loaded(self, now: float, load: facts.Load, seconds: float, /) -> list[facts.Decision]:
        """Take in that a load ended; return what to do."""

    def wake(self, now: float, /) -> float | None:
        """Return when to be asked again though nothing happens."""

    def again(self, now: float, /) -> list[facts.Decision]:
        """Return what to do now."""


class LeastConnections:
    """To the server with the fewest requests, whatever is in its memory; the server decides what is."""

    def __init__(self, urls: Iterable[str]) -> None:
        self._running = dict.fromkeys(urls, 0)
        self._where: dict[tuple[int, int], str] = {}

    def arrive(self, _now: float, request: facts.Request) -> list[facts.Decision]:
        """Send it on at once."""
        url = self._choose()
        self._running[url] += 1
        self._where[request.id, 0] = url
        return [facts.Start(request, 0, url)]

    def _choose(self) -> str:
        return min(self._running, key=lambda url: self._running[url])

    def ended(self, _now: float, job: servers.Job) -> list[facts.Decision]:
        """Count it out."""
        self._running[self._where.pop((job.request.id, job.unit))] -= 1
        return []

    def loaded(self, _now: float, _load: facts.Load, _seconds: float) -> list[facts.Decision]:
        """It never loads ahead."""
        return []

    def wake(self, _now: float) -> float | None:
        """Nothing waits here."""
        return None

    def again(self, _now: float) -> list[facts.Decision]:
        """Nothing waits here."""
        return []


class RoundRobin(LeastConnections):
    """To one server after the other."""

    def __init__(self, urls: Sequence[str]) -> None:
        super().__init__(urls)
        self._turns = itertools.cycle(urls)

    def _choose(self) -> str:
        return next(self._turns)


class Ours:
    """The proxy's own core, which is told what the proxy would tell it."""

    def __init__(self, limits: facts.Limits, fleet: Sequence[servers.Server], models: Iterable[str]) -> None:
        self._core = core.Core(limits)
        self._fleet = fleet
        self._models = frozenset(models)
        self._next_look = 0.0

    def _look(self, now: float) -> None:
        if now >= self._next_look:
            self._next_look = now + _LOOK_SECONDS
            reports = {
                server.name: facts.Report(now, self._models, dict.fromkeys(server.loaded, 0))
                for server in self._fleet
            }
            self._core.report(reports)

    def arrive(self, now: float, request: facts.Request) -> list[facts.Decision]:
        """Let it wait, and see who goes."""
        self._look(now)
        self._core.arrive(now, request)
        return self._core.decide(now)

    def ended(self, now: float, job: servers.Job) -> list[facts.Decision]:
        """Learn from it, and see who goes."""
        outcome = port.Outcome(job.loaded, job.prompt_seconds, job.request.prompt_tokens, job.answer_tokens)
        self._core.ended(now, job.request, job.unit, outcome)
        self._core.leave(now, job.request)
        return self._core.decide(now)

    def loaded(self, now: float, load: facts.Load, seconds: float) -> list[facts.Decision]:
        """Learn from it, and see who goes."""
        self._core.loaded(now, load.model, load.url, seconds)
        return self._core.decide(now)

    def wake(self, now: float) -> float | None:
        """Ask the core."""
        return self._core.wake(now)

    def again(self, now: float) -> list[facts.Decision]:
        """See who goes."""
        return self._core.decide(now)


class Simulation:
    """Servers, a way to choose among them, and the clock."""

    def __init__(self, fleet: Sequence[servers.Server], way: Way) -> None:
        self._fleet = {server.name: server for server in fleet}
        self._way = way
        self._events: list[tuple[float, int, object]] = []
        self._numbers = itertools.count()
        self._answers: dict[int, tuple[float, int]] = {}
        self._result = Result([], 0.0, 0.0, 0, 0, {})
        self._woken = 0.0

    def run(self, arrivals: Iterable[workload.Arrival]) -> Result:
        """Run to the end."""
        now = 0.0
        incoming = iter(arrivals)
        coming = next(incoming, None)
        while coming is not None or self._events:
            if coming is not None and (not self._events or coming.at <= self._events[0][0]):
                now = coming.at
                self._answers[coming.request.id] = now, coming.answer_tokens
                self._do(now, self._way.arrive(now, coming.request))
                coming = next(incoming, None)
            else:
                now, _, event = heapq.heappop(self._events)
                self._handle(now, event)
            due = self._way.wake(now)
            if due is not None and (due < self._woken or self._woken <= now):
                self._woken = max(due, now + 1e-3)
                self._push(self._woken, None)
        result = self._result
        result.ended = now
        for server in self._fleet.values():
            result.load_seconds += server.load_seconds
            result.prompt_tokens += server.prompt_tokens
            result.read_tokens += server.read_tokens
        return result

    def _push(self, at: float, event: object) -> None:
        heapq.heappush(self._events, (at, next(self._numbers), event))

    def _handle(self, now: float, event: object) -> None:
        match event:
            case (servers.Server() as server, servers.Job() as job, int(slot)):
                arrived, _ = self._answers.pop(job.request.id)
                self._result.waits.append(job.first - arrived)
                tokens = job.request.prompt_tokens + 2 * job.answer_tokens
                self._result.served.setdefault(job.request.client, []).append((now, tokens))
                self._begin(server, server.end(now, job, slot))
                self._do(now, self._way.ended(now, job))
            case (facts.Load() as load, float(seconds)):
                self._do(now, self._way.loaded(now, load, seconds))
            case None:
                self._do(now, self._way.again(now))

    def _do(self, now: float, decisions: list[facts.Decision]) -> None:
        for decision in decisions:
            server = self._fleet[decision.url]
            match decision:
                case facts.Start(request, unit):
                    job = servers.Job(request, unit, self._answers[request.id][1])
                    self._begin(server, server.ask(now, job))
                case facts.Unload(model):
                    server.unload(model)
                case facts.Load(model):
                    ready = server.load(now, model)
                    self._push(ready, (decision, ready - now))

    def _begin(self, server: servers.Server, begun: list[tuple[servers.Job, int, float]]) -> None:
        for job, slot, end in begun:
            self._push(end, (server, job, slot))
