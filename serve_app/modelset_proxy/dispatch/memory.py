"""What servers have in memory, and what is to give way.

A copy is a model in one server's memory. What a copy is worth is what its loss is expected to cost: the time
to load it again, times how likely somebody asks for it soon. One that another server has too is worth little.
"""

import math
from collections.abc import Mapping

from modelset_proxy.dispatch import estimates

# Whether a model is needed again is asked for this long ahead, in seconds. Further ahead nearly all models
# are, and what is rare would have to wait as long to replace a rare one as a popular one.
_HORIZON_SECONDS = 20.0
# Servers have fewer slots than this; where all requests are sent on at once, the rest are not looked at.
_MOST_MIRRORED = 64
# Up to this share of the slots that others have for a model, a copy is not missed.
_SPARE = 0.7
# What is left of a copy's worth when others hold it: evicting it still takes a load's time one day.
_SPARE_WORTH = 0.05


class Slot:
    """One of the places at which a copy answers; ``prefix`` is what was read there last."""

    __slots__ = ("busy", "prefix")

    def __init__(self) -> None:
        self.busy = False
        self.prefix: tuple[int, ...] = ()


class Copy:
    """A model in a server's memory, or on its way there until about ``ready``.

    ``model`` stands for all its variants, which share the copy and its slots. ``asked`` is when the server
    was last sent something for it, ``heard`` when something of what runs here came last; ``ahead`` names the
    model for which it is being loaded before anybody is sent there; ``leaving`` the model that it is to make
    room for: no more is started here. ``unread_tokens`` are those of prompts that run here and were not read
    here before.
    """

    __slots__ = (
        "ahead",
        "asked",
        "heard",
        "leaving",
        "loading",
        "model",
        "ready",
        "running",
        "server",
        "size",
        "slots",
        "unread_tokens",
    )

    def __init__(self, model: str, server: "Server", *, size: int, asked: float, ready: float) -> None:
        self.model = model
        self.server = server
        self.size = size
        self.asked = asked
        self.heard = asked
        self.ready = ready
        self.loading = ready > asked
        self.ahead = ""
        self.leaving = ""
        self.running = 0
        self.unread_tokens = 0.0
        self.slots: list[Slot] = []

    def free_slot(self, prefix: tuple[int, ...], allowed: int) -> tuple[Slot, int]:
        """Return a slot that is not busy, and how many blocks of a prompt it has read already.

        At most ``allowed`` slots are there; fewer than these must be busy.
        """
        free = [(common(slot.prefix, prefix), slot) for slot in self.slots if not slot.busy]
        best = max(free, key=_shared, default=None)
        if best is not None and (best[0] or len(self.slots) >= allowed):
            return best[1], best[0]
        # A slot that was never used spoils no prompt that may come again.
        new = Slot()
        if len(self.slots) < _MOST_MIRRORED:
            self.slots.append(new)
        return new, 0

    def take_over(self, other: "Copy") -> None:
        """Count as one's own what runs at a copy that turned out to be this one."""
        self.running += other.running
        self.unread_tokens += other.unread_tokens
        self.slots = (self.slots + other.slots)[:_MOST_MIRRORED]
        self.asked = max(self.asked, other.asked)
        self.heard = max(self.heard, other.heard)
        self.ready = min(self.ready, other.ready)
        self.loading = self.loading and other.loading
        self.ahead = self.ahead and other.ahead


def _shared(found: tuple[int, Slot]) -> int:
    return found[0]


class Server:
    """One model server; ``avoid_until`` and ``sick`` keep requests away from it.

    ``copies`` are by the model that leads their variants, see ``variants.leads``; ``files`` as in
    ``port.Held``.

    ``sick`` names the model for which it hangs; ``trying`` is since when it is asked whether it does, and
    ``try_after`` when it may be again.
    """

    __slots__ = (
        "avoid_until",
        "copies",
        "failures",
        "files",
        "held",
        "leads",
        "reachable",
        "sick",
        "try_after",
        "trying",
        "unloaded",
        "url",
    )

    def __init__(self, url: str) -> None:
        self.url = url
        self.held: frozenset[str] = frozenset()
        self.leads: Mapping[str, str] = {}
        self.files: Mapping[str, str] = {}
        self.copies: dict[str, Copy] = {}
        self.unloaded: dict[str, float] = {}
        self.reachable = False
        self.failures = 0
        self.avoid_until = 0.0
        self.sick = ""
        self.trying: float | None = None
        self.try_after = 0.0

    def lead(self, model: str) -> str:
        """Return the model whose copy answers for a model here."""
        return self.leads.get(model, model)

    def copy_of(self, model: str) -> Copy | None:
        """Return the copy that answers for a model, if it is in memory and held."""
        return self.copies.get(self.leads.get(model, model)) if model in self.held else None

    def excludes(self, model: str, other: str) -> bool:
        """Tell whether two models cannot be in memory side by side, since they are runners of one file."""
        file = self.files.get(model)
        return bool(file) and file == self.files.get(other) and self.lead(model) != self.lead(other)

    def rivals(self, model: str) -> list[Copy]:
        """Return the copies in whose place one of a model would come."""
        return [copy for copy in self.copies.values() if self.excludes(model, copy.model)]

    def well(self, now: float) -> bool:
        """Tell whether it answers and has not failed just now."""
        return self.reachable and not self.sick and self.avoid_until <= now

    def running(self) -> int:
        """Count the units that run there."""
        return sum(copy.running for copy in self.copies.values())


def common(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """Return how many blocks two prompts have in common at their beginning."""
    low, high = 0, min(len(one), len(other))
    # Each hash is of all blocks up to its own, so equal ones have all before them in common.
    while low < high:
        middle = (low + high + 1) // 2
        if one[middle - 1] == other[middle - 1]:
            low = middle
        else:
            high = middle - 1
    return low


def worth(copy: Copy, known: estimates.Model, rate: float, others: int) -> float:
    """Return what losing a copy is expected to cost, in seconds: ``rate`` is how many requests a second come
    for it, ``others`` counts other copies' slots.
    """
    loss = known.load_seconds(copy.server.url) * (1.0 - math.exp(-rate * _HORIZON_SECONDS))
    if others and rate * known.slot_seconds.value <= _SPARE * others:
        return loss * _SPARE_WORTH
    return loss
