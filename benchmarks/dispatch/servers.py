"""A model server as Ollama is one: few models in memory, few slots each, the least recently used goes."""

import collections
import dataclasses

from modelset_proxy.dispatch import facts, memory


@dataclasses.dataclass(frozen=True)
class Speed:
    """What things take, in seconds and tokens a second; ``request`` is what each takes beside its tokens."""

    request: float = 0.0
    load: float = 5.0
    prompt: float = 500.0
    answer: float = 25.0


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
    """A model in memory from ``ready`` on."""

    def __init__(self, ready: float, parallel: int) -> None:
        self.ready = ready
        self.slots: list[tuple[int, ...]] = [()] * parallel
        self.busy: set[int] = set()
        self.queue: collections.deque[Job] = collections.deque()
        self.used = ready
        self.references = 0


class Server:
    """One server. ``ask`` and ``end`` return what begins now, as (job, slot, end time)."""

    def __init__(self, name: str, *, memory_slots: int, parallel: int, speed: Speed) -> None:
        self.name = name
        self.speed = speed
        self.load_seconds = 0.0
        self.loads = 0
        self.prompt_tokens = self.read_tokens = 0
        self._most = memory_slots
        self._parallel = parallel
        self._runners: dict[str, _Runner] = {}
        self._pending: collections.deque[Job] = collections.deque()

    @property
    def loaded(self) -> frozenset[str]:
        """The models in memory."""
        return frozenset(self._runners)

    def ask(self, now: float, job: Job) -> list[tuple[Job, int, float]]:
        """Take a job; one whose model is in memory goes past those who wait for theirs."""
        if (runner := self._runners.get(job.request.model)) is not None:
            return self._attach(now, runner, job)
        self._pending.append(job)
        return self._schedule(now)

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

    def end(self, now: float, job: Job, slot: int) -> list[tuple[Job, int, float]]:
        """End a job; return what begins now that there is room."""
        runner = self._runners[job.request.model]
        runner.busy.remove(slot)
        runner.references -= 1
        runner.used = now
        begun = self._run(now, runner)
        return begun + self._schedule(now)

    def _schedule(self, now: float) -> list[tuple[Job, int, float]]:
        """Serve the queue in its order; one that needs a model without room for it holds up the rest."""
        begun: list[tuple[Job, int, float]] = []
        while self._pending:
            job = self._pending[0]
            runner = self._runners.get(job.request.model)
            if runner is None:
                if not self._make_room():
                    break
                runner = self._add(now, job.request.model)
                job.loaded = self.speed.load
            self._pending.popleft()
            begun += self._attach(now, runner, job)
        return begun

    def _attach(self, now: float, runner: _Runner, job: Job) -> list[tuple[Job, int, float]]:
        runner.references += 1
        runner.queue.append(job)
        return self._run(now, runner)

    def _add(self, now: float, model: str) -> _Runner:
        # One load after another: they share the disk.
        begins = max([now, *(runner.ready for runner in self._runners.values())])
        self.load_seconds += self.speed.load
        self.loads += 1
        runner = self._runners[model] = _Runner(begins + self.speed.load, self._parallel)
        return runner

    def _make_room(self) -> bool:
        if len(self._runners) < self._most:
            return True
        idle = [model for model, runner in self._runners.items() if not runner.references]
        if not idle:
            return False
        del self._runners[min(idle, key=lambda model: self._runners[model].used)]
        return True

    def _run(self, now: float, runner: _Runner) -> list[tuple[Job, int, float]]:
        begun = []
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
            job.first = max(now, runner.ready) + self.speed.request + job.prompt_seconds
            begun.append((job, slot, job.first + job.answer_tokens / self.speed.answer))
        return begun
