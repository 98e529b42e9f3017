"""Ways of choosing servers: the proxy's own core, and others to compare it with."""

import collections
import hashlib
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Protocol

from benchmarks.dispatch import servers
from modelset_proxy.dispatch import core, facts
from modelset_proxy.engines import port


class Way(Protocol):
    """A way of choosing servers. What it is told and what it says suits simulated servers and real ones."""

    def look(self, now: float, loaded: Mapping[str, Set[str]], /) -> None:
        """Take in which models servers have in memory, by URL; told every few seconds."""

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


class Scalable(Way, Protocol):
    """A way that is told of servers that come and go, and tells what is asked."""

    def demand(self, now: float, /) -> Mapping[str, facts.Demand]:
        """Return what is asked, by model."""

    def hurries(self) -> bool:
        """Whether servers should be looked for all the time."""


class LeastConnections:
    """To the server with the fewest requests, whatever is in its memory; the server decides what is."""

    def __init__(self, urls: Iterable[str]) -> None:
        self.running = dict.fromkeys(urls, 0)
        self._where: dict[tuple[int, int], str] = {}

    def look(self, _now: float, _loaded: Mapping[str, Set[str]]) -> None:
        """It does not want to know."""

    def arrive(self, _now: float, request: facts.Request) -> list[facts.Decision]:
        """Send it on at once."""
        return [self.start(request)]

    def start(self, request: facts.Request) -> facts.Start:
        """Send it to the server that is chosen now."""
        url = self.choose(request)
        self.running[url] += 1
        self._where[request.id, 0] = url
        return facts.Start(request, 0, url)

    def choose(self, _request: facts.Request) -> str:
        """Return the server for a request."""
        return min(self.running, key=lambda url: self.running[url])

    def ended(self, _now: float, job: servers.Job) -> list[facts.Decision]:
        """Count it out."""
        self.running[self._where.pop((job.request.id, job.unit))] -= 1
        return []

    def loaded(self, _now: float, _load: facts.Load, _seconds: float) -> list[facts.Decision]:
        """It never loads ahead."""
        return []

    def wake(self, _now: float) -> float | None:
        """Nothing waits here for a time."""
        return None

    def again(self, _now: float) -> list[facts.Decision]:
        """Nothing waits here for a time."""
        return []


class ByModel(LeastConnections):
    """To the server with the fewest requests of those that have the model, as KubeAI does with a Deployment a
    model; while there is none, requests are held.
    """

    def __init__(self) -> None:
        super().__init__(())
        self._having: Mapping[str, Set[str]] = {}
        self._held: list[facts.Request] = []
        self._models: dict[int, str] = {}

    def look(self, _now: float, loaded: Mapping[str, Set[str]]) -> None:
        """Take in which servers there are."""
        self._having = loaded
        self.running = {url: self.running.get(url, 0) for url in {*loaded, *self._where.values()}}

    def arrive(self, now: float, request: facts.Request) -> list[facts.Decision]:
        """Send it on if there is a server."""
        self._held.append(request)
        return self.again(now)

    def start(self, request: facts.Request) -> facts.Start:
        """Remember which model it asks."""
        self._models[request.id] = request.model
        return super().start(request)

    def ended(self, now: float, job: servers.Job) -> list[facts.Decision]:
        """Count it out."""
        del self._models[job.request.id]
        return super().ended(now, job)

    def again(self, _now: float) -> list[facts.Decision]:
        """Send on what was held and is not any more."""
        held, self._held = self._held, []
        started: list[facts.Decision] = []
        for request in held:
            if any(request.model in models for models in self._having.values()):
                started.append(self.start(request))
            else:
                self._held.append(request)
        return started

    def choose(self, request: facts.Request) -> str:
        """Return the least busy of those that have the model."""
        having = [url for url, models in self._having.items() if request.model in models]
        return min(having, key=lambda url: self.running[url])

    def demand(self, _now: float) -> Mapping[str, facts.Demand]:
        """Count what waits here or at a server."""
        active = collections.Counter(request.model for request in self._held)
        active.update(self._models.values())
        return {model: facts.Demand(count, 0, 0.0, 0.0) for model, count in active.items()}

    def hurries(self) -> bool:
        """It watches them."""
        return True


class RoundRobin(LeastConnections):
    """To one server after the other."""

    def __init__(self, urls: Sequence[str]) -> None:
        super().__init__(urls)
        self._turns = itertools.cycle(urls)

    def choose(self, _request: facts.Request) -> str:
        """Return the next one."""
        return next(self._turns)


class Former(LeastConnections):
    """As version 0.1.0 did: a bound on what runs of a model, over all servers; then to one that had the model
    in memory when last looked at, by the beginning of the prompt unless it is much busier than the others.
    """

    _SPILL = 16
    _UNEVEN = 1.25

    def __init__(self, urls: Sequence[str], parallel: int) -> None:
        super().__init__(urls)
        self._most = parallel * len(urls)
        self._seen: Mapping[str, Set[str]] = {}
        self._waiting: dict[str, collections.deque[facts.Request]] = collections.defaultdict(
            collections.deque
        )
        self._of_model: collections.Counter[str] = collections.Counter()

    def look(self, _now: float, loaded: Mapping[str, Set[str]]) -> None:
        """Believe it until the next look."""
        self._seen = loaded

    def arrive(self, _now: float, request: facts.Request) -> list[facts.Decision]:
        """Let it wait where as many run as may."""
        self._waiting[request.model].append(request)
        return self._admit(request.model)

    def ended(self, now: float, job: servers.Job) -> list[facts.Decision]:
        """Let the next one in."""
        super().ended(now, job)
        self._of_model[job.request.model] -= 1
        return self._admit(job.request.model)

    def _admit(self, model: str) -> list[facts.Decision]:
        admitted: list[facts.Decision] = []
        while self._waiting[model] and self._of_model[model] < self._most:
            self._of_model[model] += 1
            admitted.append(self.start(self._waiting[model].popleft()))
        return admitted

    def choose(self, request: facts.Request) -> str:
        """Return one that has the model; an idle one that has not only when those are swamped."""
        pool = list(self.running)
        having = [url for url in pool if request.model in self._seen.get(url, ())]
        if having:
            swamped = all(self.running[url] >= self._SPILL for url in having)
            idle = [url for url in pool if url not in having and not self.running[url]]
            pool = idle if idle and swamped else having
        bound = math.ceil(self._UNEVEN * (sum(self.running[url] for url in pool) + 1) / len(pool)) + 1
        beginning = request.prefix[0] if request.prefix else request.id
        pool.sort(key=lambda url: hashlib.sha256(f"{beginning} {url}".encode()).digest())
        return next((url for url in pool if self.running[url] < bound), pool[0])


class Ours:
    """The proxy's own core, which is told what the proxy would tell it."""

    def __init__(self, limits: facts.Limits, models: Iterable[str]) -> None:
        self._core = core.Core(limits)
        self._models = frozenset(models)

    def look(self, now: float, loaded: Mapping[str, Set[str]]) -> None:
        """Report it."""
        self._core.report(
            {url: facts.Report(now, self._models, dict.fromkeys(those, 0)) for url, those in loaded.items()}
        )

    def arrive(self, now: float, request: facts.Request) -> list[facts.Decision]:
        """Let it wait, and see who goes."""
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

    def demand(self, now: float) -> Mapping[str, facts.Demand]:
        """Tell as the proxy does."""
        return self._core.demand(now)

    def hurries(self) -> bool:
        """Whether somebody waits for a model that no server holds."""
        return bool(self._core.stranded())

    def wake(self, now: float) -> float | None:
        """Ask the core."""
        return self._core.wake(now)

    def again(self, now: float) -> list[facts.Decision]:
        """See who goes."""
        return self._core.decide(now)
