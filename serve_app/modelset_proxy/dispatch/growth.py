"""When another copy of a model is brought into memory, where, and what makes room for it. Pure.

An empty server comes before an eviction, the copy that others hold before the only one, and those who wait
for what is loaded before a switch, for a while.
"""

from modelset_proxy.dispatch import facts, memory
from modelset_proxy.dispatch.state import Lane, State

# A second copy is worth an eviction when those who wait would wait longer than it takes, by this factor.
_SECOND_COPY = 1.5
# While a model has copies and others wait for it, another look at whether one more pays.
_LOOK_AGAIN_SECONDS = 1.0
# Those who wait have waited together this many times what an eviction costs before it is made. More means
# fewer loads and longer waits for what is rare: `make bench-dispatch` shows both.
_PATIENCE = 3.0
# What a server keeps for itself of its memory: its own process, and what runners take beside their models.
_OWN_BYTES = 256 * 1024 * 1024


def grow(
    state: State,
    now: float,
    lane: Lane,
    decisions: list[facts.Decision],
    but: set[str] | None = None,
) -> bool:
    """Begin another copy of a model if that pays now, at no server of ``but``.

    Tell whether there is a copy now at which something may be started.
    """
    usable = _candidates(state, now, lane, but or set())
    if not usable:
        return False
    best = _cheapest(state, now, lane, usable)
    wait = _expected_wait(state, now, lane)
    if best is not None:
        total, server, victims = best
        load = lane.known.load_seconds(server.url)
        if wait is not None and but is None:
            # There are copies already, at work. Whoever waits goes where a slot is free first.
            if not victims or wait > _SECOND_COPY * total:
                _load(state, now, lane, server, victims, load, decisions).ahead = lane.model
                decisions.append(facts.Load(lane.model, server.url))
            lane.again = min(lane.again, now + _LOOK_AGAIN_SECONDS)
            return False
        if _pays(state, now, lane, total - load):
            _load(state, now, lane, server, victims, load, decisions)
            return True
    elif wait is None:
        _force(state, now, lane, usable)
    return False


def _candidates(state: State, now: float, lane: Lane, but: set[str]) -> list[memory.Server]:
    """Return the servers where a copy could be."""
    return [
        server
        for server in state.servers.values()
        if lane.model in server.held
        and server.copy_of(lane.model) is None
        and state.usable(server, lane.model, now)
        and server.url not in but
        and state.slots(server.url, server.lead(lane.model)) > 0
    ]


def _cheapest(
    state: State, now: float, lane: Lane, usable: list[memory.Server]
) -> tuple[float, memory.Server, list[memory.Copy]] | None:
    """Return where a copy costs least now: seconds in all, the server, and what has to go from it."""
    found: list[tuple[float, memory.Server, list[memory.Copy]]] = []
    for server in usable:
        if any(copy.loading for copy in server.copies.values()):
            continue  # loads at one server only hold each other up
        victims = _victims(state, now, server, lane)
        if victims is None:
            continue
        total = lane.known.load_seconds(server.url) + sum(state.worth(copy, now) for copy in victims)
        found.append((total, server, victims))
    # What nobody asked for yet costs nothing to lose, and is let alone all the same where there is room.
    return min(found, key=lambda one: (one[0], len(one[2])), default=None)


def _pays(state: State, now: float, lane: Lane, cost: float) -> bool:
    """Tell whether those who wait have waited enough for an eviction of this cost, in seconds."""
    waits = [now - one.arrived for one in lane.line]
    together, oldest = sum(waits), max(waits)
    if together >= _PATIENCE * cost or oldest >= state.limits.switch_seconds:
        return True
    due = (_PATIENCE * cost - together) / len(waits)
    lane.again = min(lane.again, now + min(due, state.limits.switch_seconds - oldest) + 1e-6)
    return False


def _expected_wait(state: State, now: float, lane: Lane) -> float | None:
    """Return how long the last one in line is going to wait for the copies there are; None without any."""
    copies = [
        copy
        for copy in state.copies(lane.model)
        if state.usable(copy.server, copy.model, now) and not state.leaves(copy)
    ]
    slots = sum(state.slots(copy.server.url, copy.model) for copy in copies)
    if not slots:
        return None
    first = min(copy.ready - now if copy.loading else 0.0 for copy in copies)
    return lane.line.length * lane.known.slot_seconds.value / slots + max(0.0, first)


def _victims(state: State, now: float, server: memory.Server, lane: Lane) -> list[memory.Copy] | None:
    """Return what has to go from a server so that a model fits, the least worth first; None: not now.

    What it takes the place of comes before that.
    """
    chosen = server.rivals(lane.model)
    unknown = state.unknown(server)
    # While one of those is in use the server would wait for it, and load nothing else meanwhile.
    if not all(_idle(state, copy) for copy in chosen) or any(
        server.excludes(lane.model, model) for model in unknown
    ):
        return None
    copies = {model: copy for model, copy in server.copies.items() if copy not in chosen}
    idle = sorted(
        (copy for copy in copies.values() if _idle(state, copy)), key=lambda copy: state.worth(copy, now)
    )
    others = sum(state.known(model).bytes for model in unknown)
    while not _fits(
        state, lane, len(copies) + len(unknown), others + sum(copy.size for copy in copies.values())
    ):
        if not idle:
            return None
        chosen.append(idle.pop(0))
        del copies[chosen[-1].model]
    return chosen


def _fits(state: State, lane: Lane, count: int, used: int) -> bool:
    most = state.limits.max_loaded_per_server
    if most is not None and count >= most:
        return False
    memory_bytes = state.limits.memory_bytes_per_server
    if memory_bytes is None or not count:
        return True
    return used + lane.known.bytes <= memory_bytes - _OWN_BYTES


def _idle(state: State, copy: memory.Copy) -> bool:
    """Tell whether a copy may go: nothing runs there, of no proxy, and nobody waits whom it would serve."""
    if copy.running or copy.loading or state.used_elsewhere(copy):
        return False
    return state.leaves(copy) or not state.awaited(copy)


def _force(state: State, now: float, lane: Lane, usable: list[memory.Server]) -> None:
    """Once somebody has waited too long, have a copy that is in use finish what it runs and go."""
    due = lane.line.oldest() + state.limits.switch_seconds
    if now < due:
        lane.again = min(lane.again, due)
        return
    busy = [
        copy
        for server in usable
        for copy in server.rivals(lane.model) or server.copies.values()
        if not copy.loading
    ]
    if busy and not any(copy.leaving == lane.model for copy in busy):
        min(busy, key=lambda copy: state.worth(copy, now)).leaving = lane.model


def _load(
    state: State,
    now: float,
    lane: Lane,
    server: memory.Server,
    victims: list[memory.Copy],
    load: float,
    decisions: list[facts.Decision],
) -> memory.Copy:
    for victim in victims:
        state.drop(victim)
        server.unloaded[victim.model] = now
        # What a model takes the place of goes by itself; the server would take the two for one.
        if not server.excludes(lane.model, victim.model):
            decisions.append(facts.Unload(victim.model, server.url))
    state.loads += 1
    lead = server.lead(lane.model)
    copy = memory.Copy(lead, server, size=lane.known.bytes, asked=now, ready=now + load)
    server.copies[lead] = copy
    return copy
