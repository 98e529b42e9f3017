"""A model server as Ollama is one: few models in memory, few slots each, the least recently used goes."""

import collections
import dataclasses
import heapq
import itertools
import math
import random

from modelset_proxy.dispatch import facts, memory


@dataclasses.dataclass(frozen=True)
class Speed:
    """What things take, in seconds and tokens a second; ``request`` is what each takes beside its tokens.

    Single loads, and single requests until their first token, take so many times the usual: each as likely.
    """

    request: float = 0.0
    load: float = 5.0
    prompt: float = 500.0
    answer: float = 25.0
    loads_vary: tuple[float, ...] = (1.0,)
    requests_vary: tuple[float, ...] = (1.0,)


@dataclasses.dataclass
class Job:
    """One unit at a server; ``first`` is when its first token comes."""

    request: facts.Request
    unit: int
    answer_tokens: int
    loaded: float = 0.0
    read: int = 0
    prompt_seconds: float = 0.0
    first: float = 0.0


class _Runner:
    """A model in memory from ``ready`` on, whose load took so many seconds."""

    def __init__(self, ready: float, took: float, parallel: int) -> None:
        self.ready = ready
        self.took = took
        self.slots: list[tuple[int, ...]] = [()] * parallel
        self.busy: set[int] = set()
        self.queue: collections.deque[Job] = collections.deque()
        self.used = ready
        self.references = 0


# Work is compared this exactly, in seconds.
_EXACT = 1e-9


class Server:
    """One server. ``due`` is when it is to be looked at again, ``ended`` what has ended by then.

    ``power`` is how many answers, of whatever models, go on at full speed; more of them share it.
    """

    def __init__(
        self,
        name: str,
        *,
        memory_slots: int,
        parallel: int,
        speed: Speed,
        power: float = math.inf,
        chance: random.Random | None = None,
    ) -> None:
        self.name = name
        self.speed = speed
        self._chance = chance or random.Random(0)
        self.load_seconds = 0.0
        self.loads = 0
        self.prompt_tokens = self.read_tokens = 0
        self._most = memory_slots
        self._parallel = parallel
        self._runners: dict[str, _Runner] = {}
        self._pending: collections.deque[Job] = collections.deque()
        self._power = power
        self._numbers = itertools.count()
        # What waits for a load that is under way, by when that ends.
        self._loading: list[tuple[float, int, Job, int]] = []
        # What runs, by how far the work of each will be when its next token comes that matters.
        self._running: list[tuple[float, int, Job, int]] = []
        self._worked = self._at = 0.0

    @property
    def due(self) -> float | None:
        """When something begins, is heard of or ends next."""
        times = [self._loading[0][0]] if self._loading else []
        if self._running:
            times.append(self._at + max(0.0, self._running[0][0] - self._worked) / self._rate)
        return min(times, default=None)

    @property
    def busy(self) -> bool:
        """Whether anything runs or waits here."""
        return bool(self._loading or self._running or self._pending)

    @property
    def loaded(self) -> frozenset[str]:
        """The models in memory."""
        return frozenset(self._runners)

    def ask(self, now: float, job: Job) -> None:
        """Take a job; one whose model is in memory goes past those who wait for theirs."""
        self._work(now)
        if (runner := self._runners.get(job.request.model)) is not None:
            self._attach(now, runner, job)
        else:
            self._pending.append(job)
            self._schedule(now)

    def unload(self, model: str) -> None:
        """Let go of a model that nothing runs on."""
        runner = self._runners.get(model)
        if runner is not None and not runner.references:
            del self._runners[model]

    def load(self, now: float, model: str) -> float:
        """Load a model ahead; return when it is there."""
        if model not in self._runners and len(self._runners) < self._most:
            self._add(now, model)
        return self._runners[model].ready if model in self._runners else now

    def ended(self, now: float) -> list[Job]:
        """Go on until now; return what has ended, of which each left its slot to the next."""
        self._work(now)
        ended = []
        while self._loading and self._loading[0][0] <= now:
            _, _, job, slot = heapq.heappop(self._loading)
            self._begin(job, slot)
        while self._running and self._running[0][0] <= self._worked + _EXACT:
            _, _, job, slot = heapq.heappop(self._running)
            if job.first:
                self._end(now, job, slot)
                ended.append(job)
            else:
                job.first = now
                self._go_on(job.answer_tokens / self.speed.answer, job, slot)
        return ended

    @property
    def _rate(self) -> float:
        return min(1.0, self._power / len(self._running))

    def _work(self, now: float) -> None:
        if self._running:
            self._worked += (now - self._at) * self._rate
        self._at = now

    def _begin(self, job: Job, slot: int) -> None:
        usual = self.speed.request + job.prompt_seconds
        self._go_on(usual * self._chance.choice(self.speed.requests_vary), job, slot)

    def _go_on(self, seconds: float, job: Job, slot: int) -> None:
        heapq.heappush(self._running, (self._worked + seconds, next(self._numbers), job, slot))

    def _end(self, now: float, job: Job, slot: int) -> None:
        runner = self._runners[job.request.model]
        runner.busy.remove(slot)
        runner.references -= 1
        runner.used = now
        self._run(now, runner)
        self._schedule(now)

    def _schedule(self, now: float) -> None:
        """Serve the queue in its order; one that needs a model without room for it holds up the rest."""
        while self._pending:
            job = self._pending[0]
            runner = self._runners.get(job.request.model)
            if runner is None:
                if not self._make_room():
                    break
                runner = self._add(now, job.request.model)
                job.loaded = runner.took
            self._pending.popleft()
            self._attach(now, runner, job)

    def _attach(self, now: float, runner: _Runner, job: Job) -> None:
        runner.references += 1
        runner.queue.append(job)
        self._run(now, runner)

    def _add(self, now: float, model: str) -> _Runner:
        # One load after another: they share the disk.
        begins = max([now, *(runner.ready for runner in self._runners.values())])
        takes = self.speed.load * self._chance.choice(self.speed.loads_vary)
        self.load_seconds += takes
        self.loads += 1
        runner = self._runners[model] = _Runner(begins + takes, takes, self._parallel)
        return runner

    def _make_room(self) -> bool:
        if len(self._runners) < self._most:
            return True
        idle = [model for model, runner in self._runners.items() if not runner.references]
        if not idle:
            return False
        del self._runners[min(idle, key=lambda model: self._runners[model].used)]
        return True

    def _run(self, now: float, runner: _Runner) -> None:
        while runner.queue and len(runner.busy) < self._parallel:
            job = runner.queue.popleft()
            request = job.request
            free = [slot for slot in range(self._parallel) if slot not in runner.busy]
            slot = max(free, key=lambda one: memory.common(runner.slots[one], request.prefix))
            shared = memory.common(runner.slots[slot], request.prefix)
            share = shared / len(request.prefix) if request.prefix else 0.0
            job.read = int(request.prompt_tokens * (1.0 - share))
            self.prompt_tokens += request.prompt_tokens
            self.read_tokens += job.read
            runner.slots[slot] = request.prefix
            runner.busy.add(slot)
            job.prompt_seconds = job.read / self.speed.prompt
            if runner.ready > now:
                heapq.heappush(self._loading, (runner.ready, next(self._numbers), job, slot))
            else:
                self._begin(job, slot)
