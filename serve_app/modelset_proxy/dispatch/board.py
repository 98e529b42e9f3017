"""Where proxies tell each other what they do: who holds which slots, what is to be in memory, and what is
asked of each model.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping

import msgspec

from modelset_proxy.dispatch import facts, ledger


class Told(msgspec.Struct, frozen=True):
    """What a proxy tells: the slots it uses, what is asked of its models, and what it has in memory."""

    uses: Mapping[ledger.Key, ledger.Use]
    feed: facts.Feed
    memory: facts.Memory = facts.Memory()


class Heard(msgspec.Struct, frozen=True):
    """What it hears: the slots it may use, who else there is, what all of them are asked, and what the others
    have in memory.
    """

    allowed: Mapping[ledger.Key, int]
    members: list[str]
    feed: facts.Feed
    memory: facts.Memory = facts.Memory()


class Board:
    """Runs in one process, for all proxies."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ledger = ledger.Ledger(clock())
        self._told: dict[str, Told] = {}
        self._turns: dict[str, int] = {}
        self._waiting: set[asyncio.Event] = set()

    async def exchange(self, member: str, told: Told, known: Heard | None, hold_seconds: float) -> Heard:
        """Take in what a proxy tells, and answer as soon as there is something that it does not know.

        The answer comes after ``hold_seconds`` at the latest, and at once when the proxy tells more.
        """
        turn = self._turns[member] = self._turns.get(member, 0) + 1
        self._ledger.tell(self._clock(), member, told.uses)
        self._told[member] = told
        self._wake()
        deadline = self._clock() + hold_seconds
        while True:
            if known is not None and self._turns.get(member) != turn:
                return known
            heard = self._hear(member)
            left = deadline - self._clock()
            if known is None or left <= 0 or _differs(heard, known):
                return heard
            await self._news(left)

    async def leave(self, member: str) -> None:
        """Forget a proxy that ends."""
        self._ledger.leave(member)
        self._told.pop(member, None)
        self._turns.pop(member, None)
        self._wake()

    def _wake(self) -> None:
        for waiting in self._waiting:
            waiting.set()

    async def _news(self, seconds: float) -> None:
        waiting = asyncio.Event()
        self._waiting.add(waiting)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await waiting.wait()
        finally:
            self._waiting.discard(waiting)

    def _hear(self, member: str) -> Heard:
        allowed = self._ledger.allowed(self._clock(), member)
        members = self._ledger.members
        told = {one: self._told[one] for one in members if one in self._told}
        return Heard(
            allowed,
            members,
            facts.together([one.feed for one in told.values()]),
            facts.united([one.memory for other, one in told.items() if other != member]),
        )


def _differs(heard: Heard, known: Heard) -> bool:
    return _outline(heard) != _outline(known)


def _outline(heard: Heard) -> tuple[object, ...]:
    return heard.allowed, heard.members, heard.feed.outline(), heard.memory.outline()
