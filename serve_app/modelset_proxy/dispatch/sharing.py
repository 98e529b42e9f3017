"""Keeps this proxy's slots in step with those of the other proxies.

They agree through a board. Who has not heard from it for a while goes on alone with its share.
"""

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Set
from typing import Protocol

from modelset_proxy.dispatch import board, facts, ledger
from modelset_proxy.telemetry import log

_logger = logging.getLogger(__name__)
# How long the board may hold an answer back: what is given up without being asked for is told that late.
_BUSY_SECONDS = 0.25
_IDLE_SECONDS = 1.0
# Within this time the board has forgotten nobody, see ``ledger.GONE_SECONDS``.
_ALONE_SECONDS = 2.0
_AGAIN_SECONDS = 1.0


class BoardLost(Exception):
    """The board cannot be reached; the message says why."""


class Reach(Protocol):
    """A way to the board, wherever it is."""

    async def exchange(
        self, member: str, told: board.Told, known: board.Heard | None, hold_seconds: float
    ) -> board.Heard:
        """See ``board.Board``; raises BoardLost."""

    async def leave(self, member: str) -> None:
        """See ``board.Board``; raises BoardLost."""


class Dispatching(Protocol):
    """What is shared: this proxy's side of it."""

    @property
    def slots(self) -> int | None:
        """How many there are of each server and model; None where nobody counts."""

    @property
    def stranded(self) -> Set[str]:
        """The models for which somebody waits here and that no server holds."""

    def wants(self) -> Mapping[ledger.Key, tuple[int, int]]:
        """Return how many slots of which servers and models are busy, and how many would be."""

    def feed(self) -> facts.Feed:
        """Return what is asked of the models."""

    def memory(self) -> facts.Memory:
        """Return what of the servers' memory this proxy uses."""

    def others(self, memory: facts.Memory) -> None:
        """Take in what the others use."""

    def decide(self) -> None:
        """Go on, with other slots."""

    def shun(self, urls: Set[str]) -> None:
        """Keep away from servers that hang for others."""

    def note(self) -> None:
        """Take in that others told something."""


class Sharing:
    """One proxy's part. ``member`` is its name, another one than all others'."""

    def __init__(self, member: str, reach: Reach, dispatching: Dispatching) -> None:
        self._member = member
        self._reach = reach
        self._dispatching = dispatching
        self._news = asyncio.Event()
        self._told: dict[ledger.Key, ledger.Use] = {}
        self._told_stranded: Set[str] = frozenset()
        self._heard: board.Heard | None = None
        self._alone = False
        self._settled = asyncio.Event()
        self._owes = False

    @property
    def feed(self) -> facts.Feed:
        """What is asked of all proxies."""
        return self._dispatching.feed() if self._heard is None or self._alone else self._heard.feed

    def granted(self, url: str, model: str, slots: int) -> int:
        """Return how many of the slots of a server and model are this proxy's."""
        members = [] if self._heard is None else self._heard.members
        if self._alone:
            return ledger.alone((url, model), slots, members, self._member)
        return 0 if self._heard is None else self._heard.allowed.get((url, model), 0)

    def look(self, *, waits: bool) -> None:
        """Tell the board at once what it would want to know; to be called after each decision.

        ``waits`` tells whether anybody waits: else there is only what is to be given back.
        """
        if not waits and not self._owes:
            return
        if self._dispatching.stranded - self._told_stranded:
            # There is no slot to ask for; whoever decides how many servers there are hears it from any proxy.
            self._news.set()
            return
        for key, use in self._uses().items():
            told = self._told.get(key)
            if told is None or use.wants > told.wants or use.holds < told.holds:
                self._news.set()
                return

    async def settle(self, seconds: float) -> None:
        """Wait until it is known what may be used, for so long at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._settled.wait()

    async def run(self) -> None:
        """Keep in step, for ever."""
        while True:
            self._news.clear()
            self._told = self._uses()
            self._told_stranded = self._dispatching.stranded
            told = board.Told(self._told, self._dispatching.feed(), self._dispatching.memory())
            busy = any(use.wants for use in self._told.values())
            hold = _BUSY_SECONDS if busy else _IDLE_SECONDS
            known = None if self._alone else self._heard
            asking = asyncio.create_task(self._reach.exchange(self._member, told, known, hold))
            news = asyncio.create_task(self._news.wait())
            try:
                await asyncio.wait(
                    {asking, news}, timeout=_ALONE_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
                if asking.done():
                    self._hear(asking.result())
                elif not news.done():
                    self._go_alone("no answer")
            except BoardLost as problem:
                self._go_alone(str(problem))
                await asyncio.sleep(_AGAIN_SECONDS)
            finally:
                for task in (asking, news):
                    task.cancel()
                await asyncio.gather(asking, news, return_exceptions=True)

    async def leave(self) -> None:
        """Give all slots back."""
        with contextlib.suppress(BoardLost, TimeoutError):
            async with asyncio.timeout(_AGAIN_SECONDS):
                await self._reach.leave(self._member)

    def _uses(self) -> dict[ledger.Key, ledger.Use]:
        slots = self._dispatching.slots
        if slots is None:
            return {}
        uses = {}
        for key, (running, wanted) in self._dispatching.wants().items():
            holds = max(running, self.granted(*key, slots))
            uses[key] = ledger.Use(holds, min(wanted, slots), slots)
        return uses

    def _hear(self, heard: board.Heard) -> None:
        if self._alone:
            _logger.info("slots are shared again", extra=log.facts(proxies=len(heard.members)))
        before = None if self._alone or self._heard is None else self._heard
        changed = before is None or _what_decides(before) != _what_decides(heard)
        self._heard, self._alone = heard, False
        self._owes = any(use.holds > heard.allowed.get(key, 0) for key, use in self._told.items())
        self._settled.set()
        self._dispatching.shun(heard.feed.sick.keys())
        self._dispatching.others(heard.memory)
        if changed:
            self._dispatching.decide()
        # What is to be given back and is free was told as held.
        self.look(waits=True)
        self._dispatching.note()

    def _go_alone(self, reason: str) -> None:
        if not self._alone:
            _logger.warning("cannot share slots, going on alone", extra=log.facts(reason=reason))
            self._alone = True
            self._settled.set()
            self._dispatching.shun(set())
            self._dispatching.others(facts.Memory())
            self._dispatching.decide()


def _what_decides(heard: board.Heard) -> tuple[object, ...]:
    return heard.allowed, heard.feed.sick, heard.memory.outline()
