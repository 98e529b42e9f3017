"""All that the core knows: limits, servers, models, who waits."""

import math
from collections.abc import Callable

from modelset_proxy.dispatch import estimates, facts, fairness, memory

# Where nobody says how many requests of a model a server runs, all are sent on at once.
_UNLIMITED = 1_000_000


class Lane:
    """One model: who waits for it, what runs, and where it is in memory."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.line = fairness.Line()
        self.known = estimates.Model()
        self.copies: list[memory.Copy] = []
        self.size = 0
        self.running = 0
        self.clients: dict[str, int] = {}
        self.idle_since = 0.0
        self.again = math.inf


class State:
    """What is known. ``queued`` are the models for which somebody waits, ``shunned`` the servers that hang
    for other proxies.

    ``granted`` tells how many slots of a model at a server are this proxy's, where several proxies share
    them; it gets the server's URL and the model. None is no bound.
    """

    def __init__(self, limits: facts.Limits, granted: Callable[[str, str], int | None] | None) -> None:
        self.limits = limits
        self.granted = granted
        self.servers: dict[str, memory.Server] = {}
        self.lanes: dict[str, Lane] = {}
        self.queued: dict[str, Lane] = {}
        self.shunned: frozenset[str] = frozenset()

    def lane(self, model: str) -> Lane:
        """Return what is known of a model."""
        found = self.lanes.get(model)
        if found is None:
            found = self.lanes[model] = Lane(model)
        return found

    def slots(self, url: str, model: str) -> int:
        """Return how many requests of a model may run at a server."""
        slots = self.limits.max_in_flight_per_server if self.granted is None else self.granted(url, model)
        return _UNLIMITED if slots is None else slots

    def usable(self, server: memory.Server, model: str, now: float) -> bool:
        """Tell whether requests for a model may go to a server.

        Where none that holds it works, one that failed just now may have come back.
        """
        if server.url in self.shunned:
            return False
        if server.well(now):
            return True
        if not server.reachable or server.sick:
            return False
        return not any(model in other.held and other.well(now) for other in self.servers.values())

    def takes(self, copy: memory.Copy, now: float) -> bool:
        """Tell whether something may be started at a copy."""
        return (
            not copy.ahead
            and copy.running < self.slots(copy.server.url, copy.model)
            and self.usable(copy.server, copy.model, now)
            and not self.leaves(copy)
        )

    def leaves(self, copy: memory.Copy) -> bool:
        """Tell whether a copy is to make room for somebody who still waits."""
        return copy.leaving in self.queued

    def worth(self, copy: memory.Copy, now: float) -> float:
        """Return what losing a copy is expected to cost, in seconds."""
        lane = self.lanes[copy.model]
        others = sum(
            self.slots(other.server.url, other.model)
            for other in lane.copies
            if other is not copy and self.usable(other.server, other.model, now)
        )
        return memory.worth(copy, lane.known, others, now)

    def drop(self, copy: memory.Copy) -> None:
        """Forget a copy that is gone."""
        if copy.server.copies.get(copy.model) is copy:
            del copy.server.copies[copy.model]
            self.lanes[copy.model].copies.remove(copy)
