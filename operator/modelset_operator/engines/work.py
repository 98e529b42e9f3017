"""All work on pods, in the background: a reconcile only says what is wanted, and reads what came of it."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence

from modelset_operator.engines import loads, looks, port, pulls, removals, state

Set = state.Set


class Work:
    """Looks, downloads, loads and removals of all sets. `tell` is called with one that has something new."""

    def __init__(
        self,
        engine: port.Engine,
        tell: Callable[[Set], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._looks = looks.Looks(engine, tell)
        self._removals = removals.Removals(engine, tell, clock)
        self.pulls = pulls.Pulls(engine, tell, self._looks.hurry, clock)
        self._loads = loads.Loads(engine, tell, clock)

    def sights(self, owner: Set) -> Mapping[str, looks.Sight]:
        """See `looks.Looks.view`."""
        return self._looks.view(owner)

    def downloads(self, owner: Set) -> Mapping[pulls.Key, state.Pull]:
        """See `pulls.Pulls.view`."""
        return self.pulls.view(owner)

    def loads(self, owner: Set) -> Mapping[loads.Key, state.Load]:
        """See `loads.Loads.view`."""
        return self._loads.view(owner)

    def sync(
        self,
        owner: Set,
        places: Collection[state.Place],
        wanted: Collection[state.WantedPull],
        preloaded: Collection[state.WantedLoad],
        unwanted: Collection[state.Removal],
        unseen: Collection[str],
    ) -> float | None:
        """Look at these places, fetch what is wanted there, have it loaded, and remove what is not wanted.

        `unseen` are the uids of pods of which nothing is known: downloads onto them are let alone. Returns in
        how many seconds a download or a load is due again, None when none is waiting.
        """
        self._removals.sync(owner, unwanted)
        retries = (self.pulls.sync(owner, wanted, unseen), self._loads.sync(owner, preloaded))
        self._looks.sync(owner, places)
        return min((retry for retry in retries if retry is not None), default=None)

    def take_removed(self, owner: Set) -> Sequence[state.Removal]:
        """See `removals.Removals.take_removed`."""
        return self._removals.take_removed(owner)

    def forget(self, owner: Set) -> None:
        """Stop everything of a set that is gone."""
        for part in (self._looks, self.pulls, self._loads, self._removals):
            part.forget(owner)

    async def close(self) -> None:
        """Stop everything, and wait until it has stopped."""
        for part in (self._looks, self.pulls, self._loads, self._removals):
            await part.close()
