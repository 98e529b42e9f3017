"""Models that are loaded in the background before anybody asks for them, on each pod one after the other."""

import asyncio
import dataclasses
import logging
import time
from collections.abc import Callable, Collection, Mapping

from modelset_operator import background, backoff
from modelset_operator.engines import port, state, wording

log = logging.getLogger(__name__)

Set = state.Set
# (pod uid, reference key)
Key = tuple[str, str]

# A little more than the engine's own bound on a load.
LOAD_SECONDS = 330.0
AT_ONCE_A_SET = 8
FIRST_RETRY_SECONDS = 5.0
LAST_RETRY_SECONDS = 300.0


@dataclasses.dataclass
class _Wanted:
    """One model to be loaded; `failures` since it was wanted as it is."""

    wanted: state.WantedLoad
    load: state.Load = dataclasses.field(default_factory=state.Load)
    failures: int = 0
    retry_at: float = 0.0


class Loads:
    """The loads of all sets. `tell` is called with a set of which one has ended.

    What was loaded once is not loaded again while its server runs and its context is the same: whether it
    stays in memory is for those to say who use it.
    """

    def __init__(
        self,
        engine: port.Engine,
        tell: Callable[[Set], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._tell = tell
        self._clock = clock
        self._sets: dict[Set, dict[Key, _Wanted]] = {}
        self._tasks: dict[Set, dict[str, asyncio.Task[None]]] = {}
        self._limits: dict[Set, asyncio.Semaphore] = {}

    def view(self, owner: Set) -> Mapping[Key, state.Load]:
        """Return what became of the loads of a set."""
        return {key: one.load for key, one in self._sets.get(owner, {}).items()}

    def sync(self, owner: Set, wanted: Collection[state.WantedLoad]) -> float | None:
        """Load what is wanted and was not yet; forget what is not wanted any more.

        Returns in how many seconds the next retry is due, None when none is waiting.
        """
        known = self._sets.get(owner, {})
        kept = self._sets[owner] = {}
        for one in wanted:
            before = known.get((one.uid, one.key))
            kept[one.uid, one.key] = before if before and before.wanted == one else _Wanted(one)
        tasks = self._tasks.setdefault(owner, {})
        # One that a defect has ended did not take itself away.
        for uid in [uid for uid, task in tasks.items() if task.done()]:
            del tasks[uid]
        for uid in {one.uid for one in wanted} - tasks.keys():
            if self._due(owner, uid) is not None:
                limit = self._limits.setdefault(owner, asyncio.Semaphore(AT_ONCE_A_SET))
                tasks[uid] = asyncio.create_task(self._load_all(owner, uid, limit), name=f"load on {uid}")
        for uid in tasks.keys() - {one.uid for one in wanted}:
            tasks.pop(uid).cancel()
        if not kept:
            self._drop(owner)
        waiting = [
            one.retry_at - self._clock() for one in kept.values() if one.failures and not one.load.done
        ]
        return max(0.0, min(waiting)) if waiting else None

    def forget(self, owner: Set) -> None:
        """Stop what goes on for a set that is gone."""
        self.sync(owner, ())

    async def close(self) -> None:
        """End what is under way."""
        await background.end(task for of_set in self._tasks.values() for task in of_set.values())

    def _drop(self, owner: Set) -> None:
        for part in (self._sets, self._tasks, self._limits):
            part.pop(owner, None)

    def _due(self, owner: Set, uid: str) -> _Wanted | None:
        for one in self._sets.get(owner, {}).values():
            if one.wanted.uid == uid and not one.load.done and one.retry_at <= self._clock():
                return one
        return None

    async def _load_all(self, owner: Set, uid: str, limit: asyncio.Semaphore) -> None:
        async with limit:
            while (due := self._due(owner, uid)) is not None:
                await self._load(due)
                self._tell(owner)
        self._tasks.get(owner, {}).pop(uid, None)

    async def _load(self, one: _Wanted) -> None:
        wanted = one.wanted
        try:
            async with asyncio.timeout(LOAD_SECONDS):
                await self._engine.load(
                    wanted.ip,
                    wanted.reference,
                    keep_alive=wanted.keep_alive,
                    context_length=wanted.context_length,
                )
        except (port.RefusedError, port.UnreachableError, TimeoutError) as error:
            reason = wording.lasting(str(error)) or f"it took more than {LOAD_SECONDS:.0f} s"
            log.warning("loading %s on %s: %s", wanted.reference, wanted.pod, reason)
            one.failures += 1
            one.retry_at = self._clock() + backoff.delay(
                one.failures, FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS
            )
            one.load = state.Load(message=reason)
        else:
            log.info("loaded %s on %s", wanted.reference, wanted.pod)
            one.load = state.Load(done=True)
