"""Looks at pods in the background: what each holds, and what it has in memory.

Reconciles read what was seen last and wait for nobody. A pod that does not answer holds up no other one: each
is looked at by itself, within a total deadline, and a set has a bounded number of looks at a time.
"""

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import Callable, Collection, Mapping

from modelset_operator import background
from modelset_operator.engines import port, state

log = logging.getLogger(__name__)

Set = state.Set

# Nobody tells when Ollama gains or loses a model behind our back, so it is asked this often.
SETTLED_SECONDS = 20.0
# While something is missing or under way.
BUSY_SECONDS = 2.0
# All that one look asks for, together; and again for each model that it is the first to hear of.
LOOK_SECONDS = 15.0
AT_ONCE_A_SET = 8
# All pods of all sets together: the more there are, the longer each waits for its turn.
LOOKS_A_SECOND = 50


@dataclasses.dataclass(frozen=True)
class Sight:
    """What a pod holds: as it answered to the last look, None if it did not, and to the last that it did."""

    now: state.Store | None = None
    last: state.Store | None = None


class _Looker:
    """One pod that is looked at again and again."""

    def __init__(self, place: state.Place) -> None:
        self.place = place
        self.hurry = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self.sight: Sight | None = None
        # By digest: what a model says never changes under one digest, and no other pod's word is taken.
        self.facts: dict[str, state.Facts] = {}


class Looks:
    """Looks at the pods of all sets. `tell` is called with a set of whose pods something new is known."""

    def __init__(self, engine: port.Engine, tell: Callable[[Set], None]) -> None:
        self._engine = engine
        self._tell = tell
        self._sets: dict[Set, dict[str, _Looker]] = {}
        # All of them together: each that waits for its turn asks, and to count them takes all of them.
        self._count = 0
        self._limits: dict[Set, asyncio.Semaphore] = {}

    def view(self, owner: Set) -> Mapping[str, Sight]:
        """Return what was seen of the pods of a set that were looked at, by uid."""
        lookers = self._sets.get(owner, {})
        return {uid: looker.sight for uid, looker in lookers.items() if looker.sight is not None}

    def sync(self, owner: Set, places: Collection[state.Place]) -> None:
        """Look at these pods from now on, and at no others of the set."""
        lookers = self._sets.setdefault(owner, {})
        wanted = {place.uid: place for place in places}
        self._count += len(wanted) - len(lookers)
        for uid in lookers.keys() - wanted.keys():
            self._end(lookers.pop(uid))
        for uid, place in wanted.items():
            looker = lookers.get(uid)
            if looker is None:
                looker = lookers[uid] = _Looker(place)
            elif place != looker.place:
                looker.place = place
                looker.hurry.set()
            if looker.task is None:
                self._limits.setdefault(owner, asyncio.Semaphore(AT_ONCE_A_SET))
                looker.task = asyncio.create_task(self._keep(owner, looker), name=f"look at {uid}")
        if not lookers:
            self._sets.pop(owner)
            self._limits.pop(owner, None)

    def hurry(self, owner: Set, uid: str) -> None:
        """Look at a pod now: what it holds has just changed."""
        looker = self._sets.get(owner, {}).get(uid)
        if looker is not None:
            looker.hurry.set()

    def forget(self, owner: Set) -> None:
        """Look at no pod of a set that is gone."""
        self.sync(owner, ())

    async def close(self) -> None:
        """End all looks."""
        await background.end(
            one.task for lookers in self._sets.values() for one in lookers.values() if one.task
        )
        self._sets.clear()
        self._count = 0
        self._limits.clear()

    def _end(self, looker: _Looker) -> None:
        if looker.task is not None:
            looker.task.cancel()

    async def _keep(self, owner: Set, looker: _Looker) -> None:
        limit = self._limits[owner]
        while True:
            looker.hurry.clear()
            async with limit:
                seen = await self._look(looker)
            before = looker.sight
            if before is None or seen != before.now:
                looker.sight = Sight(seen, seen or (before.last if before else None))
                self._tell(owner)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause(looker)):
                    await looker.hurry.wait()

    def _pause(self, looker: _Looker) -> float:
        turn = self._count / LOOKS_A_SECOND
        return max(turn, BUSY_SECONDS if looker.place.busy else SETTLED_SECONDS)

    async def _look(self, looker: _Looker) -> state.Store | None:
        address = looker.place.ip
        try:
            async with asyncio.timeout(LOOK_SECONDS) as limit:
                store = await self._engine.inspect(address)
                held = dict(store.held)
                for key in held.keys() & looker.place.described:
                    held[key] = await self._described(address, store.names[key], held[key], looker)
                    # Ollama takes its time for each, and there may be a hundred.
                    limit.reschedule(asyncio.get_running_loop().time() + LOOK_SECONDS)
        except (port.UnreachableError, port.RefusedError, TimeoutError) as error:
            log.debug("%s: %s", address, error)
            return None
        return dataclasses.replace(store, held=held)

    async def _described(self, address: str, reference: str, held: state.Held, looker: _Looker) -> state.Held:
        if held.digest not in looker.facts:
            try:
                looker.facts[held.digest] = await self._engine.describe(address, reference)
            except (port.UnreachableError, port.RefusedError) as error:
                broken = isinstance(error, port.RefusedError)
                return dataclasses.replace(held, problem=str(error), broken=broken)
        return dataclasses.replace(held, facts=looker.facts[held.digest])
