"""What is being waited for at this moment: one lease for each unit that a server answers."""

import asyncio
from collections.abc import Iterable

from modelset_proxy.dispatch import facts
from modelset_proxy.engines import port

# A client that takes nothing for so long keeps its slot from others.
_STALLED_SECONDS = 60.0


class Lease:
    """One unit at one server.

    ``items`` counts what came of it, several where it ``streams``; ``handing`` is while its client takes the
    last.
    """

    __slots__ = ("_call", "_changed", "_given_up", "_seen", "_task", "handing", "items", "start", "streams")

    def __init__(self, start: facts.Start, call: port.Call, now: float, *, streams: bool) -> None:
        self.start = start
        self.streams = streams
        self.items = 0
        self.handing = False
        self._call = call
        self._task = asyncio.current_task()
        self._seen = 0
        self._changed = now
        self._given_up = False

    def moved(self, now: float) -> bool:
        """Tell whether anything came since this was asked last."""
        if self.items == self._seen:
            return False
        self._seen = self.items
        self._changed = now
        return True

    def drop_if_stalled(self, now: float) -> None:
        """Treat a client that takes nothing as one that has left."""
        if self.handing and now - self._changed > _STALLED_SECONDS:
            self._call.drop()

    def give_up(self) -> None:
        """End the wait for the server, and only that: a client that is being served notices nothing."""
        if self._task is not None and not self.handing and not self._given_up:
            self._given_up = True
            self._task.cancel()

    def was_given_up(self) -> bool:
        """Tell whether a cancellation that arrived was ``give_up``'s alone; it is taken back then."""
        return self._given_up and self._task is not None and self._task.uncancel() == 0


def waited_for(leases: Iterable[Lease]) -> dict[tuple[str, str], bool]:
    """Return the URLs and models of which somebody waits to hear, and whether as a stream."""
    found: dict[tuple[str, str], bool] = {}
    for lease in leases:
        if not lease.handing:
            key = lease.start.url, lease.start.request.model
            found[key] = found.get(key, False) or lease.streams
    return found
