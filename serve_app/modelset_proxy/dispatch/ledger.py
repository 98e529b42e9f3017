"""Who of several proxies may use how many slots of a server and model. Pure; times are monotonic seconds.

Never are more slots given out than there are: one that is to be somebody else's counts as given until
whoever had it says that it is free. So a change takes as long as two messages and, where the slot is busy, as
what runs there.
"""

import zlib
from collections.abc import Iterable, Mapping

import msgspec

Key = tuple[str, str]

# A proxy that says nothing for so long is gone; by then it goes on with its share alone, see ``sharing``.
GONE_SECONDS = 3.0
# A ledger that begins anew waits so long for all that hold slots before it gives out any.
GRACE_SECONDS = 1.5
# Where there are fewer slots than proxies that want them, they change hands about so often.
_TURN_SECONDS = 2.0


class Use(msgspec.Struct, frozen=True):
    """What a proxy says of the slots of one server and model: how many it ``holds`` and keeps to, how many it
    ``wants``, and how many there are ``of``.
    """

    holds: int
    wants: int
    of: int


class _Slots:
    """Those of one server and model."""

    def __init__(self) -> None:
        self.of: int
        self.given: dict[str, int] = {}
        self.wants: dict[str, int] = {}


class Ledger:
    """Knows what was given to whom."""

    def __init__(self, now: float) -> None:
        self._began = now
        self._seen: dict[str, float] = {}
        self._slots: dict[Key, _Slots] = {}

    @property
    def members(self) -> list[str]:
        """The proxies that are there."""
        return sorted(self._seen)

    def tell(self, now: float, member: str, uses: Mapping[Key, Use]) -> None:
        """Take in what a proxy holds and wants; what it does not name it does not hold."""
        self._seen[member] = now
        for gone in [other for other, seen in self._seen.items() if now - seen > GONE_SECONDS]:
            self.leave(gone)
        for key in uses.keys() - self._slots.keys():
            self._slots[key] = _Slots()
        for key, slots in list(self._slots.items()):
            use = uses.get(key)
            if use is None:
                slots.given.pop(member, None)
                slots.wants.pop(member, None)
                if not slots.given:
                    del self._slots[key]
                continue
            slots.of = use.of
            slots.given[member] = use.holds
            slots.wants[member] = use.wants

    def leave(self, member: str) -> None:
        """Take back all that a proxy had."""
        self._seen.pop(member, None)
        for slots in self._slots.values():
            slots.given.pop(member, None)
            slots.wants.pop(member, None)

    def allowed(self, now: float, member: str) -> dict[Key, int]:
        """Return how many slots a proxy may use; those that are free are given to it here.

        Fewer than it holds means that it is to give some back.
        """
        allowed: dict[Key, int] = {}
        for key, slots in self._slots.items():
            given = slots.given.get(member)
            if given is None:
                continue
            due = divided(slots.of, in_turn(key, slots.given, now), slots.wants, slots.given)[member]
            if due > given:
                free = slots.of - sum(slots.given.values()) if now - self._began >= GRACE_SECONDS else 0
                due = slots.given[member] = given + max(0, min(due - given, free))
            allowed[key] = due
        return allowed


def divided(
    slots: int, members: list[str], wants: Mapping[str, int], given: Mapping[str, int]
) -> dict[str, int]:
    """Divide slots: as equally as it goes among members who want them, and what is left among all, so that
    whoever begins need not ask first. Odd ones go to whoever comes first, or has them.
    """
    due = dict.fromkeys(members, 0)
    for _ in range(slots):
        wanting = [member for member in members if due[member] < wants.get(member, 0)]
        if wanting:
            due[min(wanting, key=due.__getitem__)] += 1
        else:
            due[min(members, key=lambda member: (due[member], due[member] >= given.get(member, 0)))] += 1
    return due


def alone(key: Key, slots: int, members: Iterable[str], member: str) -> int:
    """Return how many slots a proxy uses when it hears of no other: its share, and one at least."""
    everybody = in_turn(key, {*members, member}, 0.0)
    return max(1, divided(slots, everybody, {}, {})[member])


def in_turn(key: Key, members: Iterable[str], now: float) -> list[str]:
    """Return members in an order of the key's own that goes round, so that odd slots are not one proxy's."""
    order = sorted(members)
    first = (zlib.crc32("\0".join(key).encode()) + int(now / _TURN_SECONDS)) % len(order)
    return order[first:] + order[:first]
