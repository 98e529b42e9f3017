"""A queue of keys to work on: each at most once at a time, later again when it failed."""

import asyncio
import functools
import logging
import time
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

from modelset_operator import backoff

log = logging.getLogger(__name__)

Key = TypeVar("Key", bound=Hashable)

FIRST_BACKOFF_SECONDS = 1.0
LAST_BACKOFF_SECONDS = 60.0
# The dispatcher takes a turn at least this often, so that a healthy queue can be told from a dead one.
TURN_SECONDS = 5.0


class WorkQueue(Generic[Key]):
    """Runs `work` for keys that were added.

    `work` returns in how many seconds to look at the key again, or None for never; when it raises, the key
    comes back after an exponentially growing delay. A key added while it is worked on is worked on once more.
    Errors of the `expected` kinds are logged in one line, others with their traceback.
    """

    def __init__(
        self,
        work: Callable[[Key], Coroutine[Any, Any, float | None]],
        at_once: int = 8,
        expected: tuple[type[Exception], ...] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._work = work
        self._expected = expected
        self._at_once = at_once
        self._clock = clock
        self._due: dict[Key, float] = {}
        self._active: dict[Key, float] = {}
        self._failures: dict[Key, int] = {}
        self._tasks: set[asyncio.Task[float | None]] = set()
        self._wake = asyncio.Event()
        # None until it runs.
        self._last_turn: float | None = None

    def add(self, key: Key, delay: float = 0.0) -> None:
        """Ask for a key to be worked on after `delay` seconds, or earlier when that was asked before."""
        due = self._clock() + delay
        if due < self._due.get(key, float("inf")):
            self._due[key] = due
            self._wake.set()

    def stuck_seconds(self) -> float:
        """Return for how long the queue has not taken its turn, or the slowest work has been under way.

        Keys that are due and wait for others do not count: where the API server is slow, many do.
        """
        now = self._clock()
        late = [now - self._last_turn - TURN_SECONDS] if self._last_turn is not None else []
        late += [now - started for started in self._active.values()]
        return max(0.0, *late) if late else 0.0

    def waiting(self) -> tuple[int, float]:
        """Return how many keys are due and not begun, and for how many seconds the first has been."""
        now = self._clock()
        late = [now - due for due in self._due.values() if due <= now]
        return len(late), max(late, default=0.0)

    async def run(self) -> None:
        """Dispatch until cancelled; work under way is cancelled too."""
        try:
            while True:
                self._wake.clear()
                self._last_turn = now = self._clock()
                self._start_due(now)
                await self._rest(now)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start_due(self, now: float) -> None:
        for key in [key for key, due in self._due.items() if due <= now and key not in self._active]:
            if len(self._active) >= self._at_once:
                return
            del self._due[key]
            self._active[key] = now
            task = asyncio.create_task(self._work(key), name=f"work on {key}")
            self._tasks.add(task)
            task.add_done_callback(functools.partial(self._finished, key))

    async def _rest(self, now: float) -> None:
        """Wait until something is due, finished or added, or until the next turn is."""
        waiting = [due - now for key, due in self._due.items() if key not in self._active]
        pause = min([TURN_SECONDS, *waiting]) if len(self._active) < self._at_once else TURN_SECONDS
        try:
            async with asyncio.timeout(max(0.0, pause)):
                await self._wake.wait()
        except TimeoutError:
            return

    def _finished(self, key: Key, task: asyncio.Task[float | None]) -> None:
        self._tasks.discard(task)
        self._active.pop(key, None)
        self._wake.set()
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            self._failures.pop(key, None)
            again = task.result()
        else:
            failures = self._failures[key] = self._failures.get(key, 0) + 1
            pause = backoff.delay(failures, FIRST_BACKOFF_SECONDS, LAST_BACKOFF_SECONDS)
            again = max(pause, getattr(error, "retry_after", None) or 0.0)
            trace = None if isinstance(error, self._expected) else error
            log.error("%s failed, trying again in %.0f s: %s", key, again, error, exc_info=trace)
        if again is not None:
            self.add(key, again)
