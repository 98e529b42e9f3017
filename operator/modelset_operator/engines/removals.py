"""Models that are taken off pods in the background, on each pod one after the other."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Sequence

from modelset_operator import background
from modelset_operator.engines import port, state

log = logging.getLogger(__name__)

Set = state.Set
# (pod uid, name of the model there)
Key = tuple[str, str]

# Letting go of a model and deleting files of many gigabytes, together.
REMOVE_SECONDS = 120.0
# By then the pod was looked at again, so that what is still wanted gone is still there.
AGAIN_SECONDS = 30.0


class Removals:
    """What is being removed from pods. `tell` is called with a set of which something has gone."""

    def __init__(
        self,
        engine: port.Engine,
        tell: Callable[[Set], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._tell = tell
        self._clock = clock
        # When each was tried last.
        self._tried: dict[Set, dict[Key, float]] = {}
        self._tasks: dict[Set, dict[str, asyncio.Task[None]]] = {}
        self._removed: dict[Set, list[state.Removal]] = {}

    def sync(self, owner: Set, wanted: Collection[state.Removal]) -> None:
        """Begin what is wanted, on pods where nothing is being removed; what was begun goes on to its end.

        What fails is still there, and wanted when it is looked at again. Until then nothing is tried anew:
        that it is wanted may only mean that nobody has looked since.
        """
        tasks = self._tasks.setdefault(owner, {})
        tried = self._tried.get(owner, {})
        latest = self._clock() - AGAIN_SECONDS
        for uid in [uid for uid, task in tasks.items() if task.done()]:
            del tasks[uid]
        by_pod: dict[str, list[state.Removal]] = {}
        for removal in wanted:
            if tried.get((removal.uid, removal.reference), latest) <= latest:
                by_pod.setdefault(removal.uid, []).append(removal)
        for uid, removals in by_pod.items():
            if uid not in tasks:
                tasks[uid] = asyncio.create_task(self._remove(owner, removals), name=f"remove from {uid}")
        if not tasks:
            del self._tasks[owner]

    def take_removed(self, owner: Set) -> Sequence[state.Removal]:
        """Return what was removed since this was asked last."""
        return self._removed.pop(owner, ())

    def forget(self, owner: Set) -> None:
        """End what is under way for a set that is gone."""
        for task in self._tasks.pop(owner, {}).values():
            task.cancel()
        self._tried.pop(owner, None)
        self._removed.pop(owner, None)

    async def close(self) -> None:
        """End what is under way. Asked again, it goes on."""
        await background.end(task for of_set in self._tasks.values() for task in of_set.values())

    async def _remove(self, owner: Set, removals: Sequence[state.Removal]) -> None:
        for removal in removals:
            try:
                async with asyncio.timeout(REMOVE_SECONDS):
                    await self._engine.remove(removal.ip, removal.reference, loaded=removal.loaded)
            except (port.RefusedError, port.UnreachableError, TimeoutError) as error:
                log.warning("deleting %s from %s: %s", removal.reference, removal.pod, error)
            else:
                log.info("deleted %s from %s", removal.reference, removal.pod)
                self._removed.setdefault(owner, []).append(removal)
            self._tried.setdefault(owner, {})[removal.uid, removal.reference] = self._clock()
        self._tell(owner)
