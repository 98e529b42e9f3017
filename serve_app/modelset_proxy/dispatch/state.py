"""All that the core knows: limits, servers, models, who waits."""

import math
from collections.abc import Callable

from modelset_proxy.dispatch import estimates, facts, fairness, memory

# Where nobody says how many requests of a model a server runs, all are sent on at once.
_UNLIMITED = 1_000_000
# Models that are nowhere and that nobody asks for are remembered up to this many.
_MOST_IDLE = 1024


class Lane:
    """One model: who waits for it and what runs; what is ``known`` it has in common with its variants."""

    def __init__(self, model: str, known: estimates.Model) -> None:
        self.model = model
        self.line = fairness.Line()
        self.known = known
        self.running = 0
        self.clients: dict[str, int] = {}
        self.idle_since = math.inf
        self.again = math.inf


class State:
    """What is known. ``queued`` are the models for which somebody waits, ``shunned`` the servers that hang
    for other proxies, ``others`` is what these have in memory; ``loads`` counts loads that were decided.

    ``granted`` tells how many slots of a copy are this proxy's, where several proxies share them; it gets the
    server's URL and the copy's model. None is no bound.
    """

    def __init__(self, limits: facts.Limits, granted: Callable[[str, str], int | None] | None) -> None:
        self.limits = limits
        self.granted = granted
        self.servers: dict[str, memory.Server] = {}
        self.lanes: dict[str, Lane] = {}
        self.queued: dict[str, Lane] = {}
        self.shunned: frozenset[str] = frozenset()
        self.others = facts.Memory()
        self.loads = 0
        self._known: dict[str, estimates.Model] = {}
        self._leads: dict[str, str] = {}

    def lane(self, model: str) -> Lane:
        """Return the queue of a model."""
        found = self.lanes.get(model)
        if found is None:
            found = self.lanes[model] = Lane(model, self.known(model))
        return found

    def known(self, model: str) -> estimates.Model:
        """Return what is known of a model and its variants."""
        lead = self._leads.get(model, model)
        found = self._known.get(lead)
        if found is None:
            found = self._known[lead] = estimates.Model()
        return found

    def regroup(self) -> None:
        """Take over which models turned out to be variants of each other."""
        leads = {model: lead for server in self.servers.values() for model, lead in server.leads.items()}
        if leads != self._leads:
            self._leads = leads
            for lane in self.lanes.values():
                lane.known = self.known(lane.model)

    def forget_server(self, url: str) -> None:
        """Drop what was measured at a server that is gone."""
        for known in self._known.values():
            known.forget(url)

    def forget(self) -> None:
        """Drop models that no server holds and nobody asks for, when there are many of them."""
        if len(self.lanes) > _MOST_IDLE:
            here = {model for server in self.servers.values() for model in (*server.held, *server.copies)}
            self.lanes = {model: lane for model, lane in self.lanes.items() if lane.clients or model in here}
            kept = {id(self.known(model)) for model in (*self.lanes, *here)}
            self._known = {lead: known for lead, known in self._known.items() if id(known) in kept}

    def copies(self, model: str) -> list[memory.Copy]:
        """Return the copies that answer for a model."""
        found = (server.copy_of(model) for server in self.servers.values())
        return [copy for copy in found if copy is not None]

    def slots(self, url: str, model: str) -> int:
        """Return how many requests may run at a server's copy of a model."""
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
        """Tell whether a copy is to make room for somebody who still waits, here or at another proxy."""
        return copy.leaving in self.queued or (copy.server.url, copy.model) in self.others.leaving

    def used_elsewhere(self, copy: memory.Copy) -> bool:
        """Tell whether another proxy uses a copy."""
        return (copy.server.url, copy.model) in self.others.used

    def unknown(self, server: memory.Server) -> list[str]:
        """Return the models that are at a server because of another proxy, and of which no look has told."""
        return [model for url, model in self.others.used if url == server.url and model not in server.copies]

    def awaited(self, copy: memory.Copy) -> bool:
        """Tell whether somebody waits for a model that a copy answers for."""
        return any(copy.server.copy_of(model) is copy for model in self.queued)

    def worth(self, copy: memory.Copy, now: float) -> float:
        """Return what losing a copy is expected to cost, in seconds."""
        others = sum(
            self.slots(other.server.url, other.model)
            for other in self.copies(copy.model)
            if other is not copy and self.usable(other.server, other.model, now)
        )
        known = self.known(copy.model)
        rate = known.rate.a_second(now) + self.others.rates.get(copy.model, 0.0)
        return memory.worth(copy, known, rate, others)

    def drop(self, copy: memory.Copy) -> None:
        """Forget a copy that is gone."""
        if copy.server.copies.get(copy.model) is copy:
            del copy.server.copies[copy.model]
