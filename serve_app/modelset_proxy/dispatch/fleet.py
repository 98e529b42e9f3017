"""The servers behind the given URLs: found by DNS, asked what they hold and have loaded, every few seconds.

Requests never wait for this: they read what the last round found. A failed connection asks for a round at
once, and while somebody waits for a server there are rounds all the time.
"""

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable, Sequence

from modelset_proxy.dispatch import addresses
from modelset_proxy.engines import port
from modelset_proxy.telemetry import background, log

_logger = logging.getLogger(__name__)
# From the end of a round until the next one that is asked for.
_MIN_SPACING_SECONDS = 0.25
# A server that takes longer is looked at all the same, and a round does not wait for it.
_ROUND_SECONDS = 1.0


class Fleet:
    """Knows the servers. ``sights`` maps their URLs to what they said last, None where they do not answer.

    ``seen`` is called after each round.
    """

    def __init__(self, urls: Sequence[str], engine: port.Engine, *, interval: float = 3.0) -> None:
        self._names = [addresses.Name(url) for url in urls]
        self._engine = engine
        self._interval = interval
        self._round: asyncio.Task[None] | None = None
        self._ended = -math.inf
        self._hurry = asyncio.Event()
        self._background = background.Background()
        self._looks: dict[str, asyncio.Task[None]] = {}
        self._waiting: list[asyncio.Future[None]] = []
        self.sights: dict[str, port.Sight | None] = {}
        self.seen: Callable[[], None] = _nobody

    async def start(self) -> None:
        """Run a first round and keep going in the background."""
        await self.refresh()
        self._background.start("fleet", self._run)

    async def stop(self) -> None:
        """Stop looking."""
        await self._background.stop()
        tasks = [*self._looks.values(), *([self._round] if self._round else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def refresh(self) -> None:
        """Look again, or join the round that is under way; just after one the next waits for a moment."""
        if self._round is None or self._round.done():
            self._round = asyncio.create_task(self._look(), name="fleet-round")
        # Shielded: a client that leaves while it waits must not end the round for the others.
        await asyncio.shield(self._round)

    def hurry(self, *, wanted: bool) -> None:
        """Look for servers all the time from now on, or every few seconds again."""
        if wanted:
            self._hurry.set()
        else:
            self._hurry.clear()

    async def serve(self, urls: Sequence[str]) -> None:
        """Look for the servers behind these URLs from now on; returns when they were looked for.

        Those of URLs that stay are known all the while. Servers of others are asked for nothing more, and
        what they are answering goes on.
        """
        known = {name.url: name for name in self._names}
        wanted = [known.get(url) or addresses.Name(url) for url in urls]
        if wanted == self._names:
            return
        self._names = wanted
        if self._round is not None:
            # It went by the former names, in part at least.
            await asyncio.shield(self._round)
        self._ended = -math.inf
        await self.refresh()

    async def next_round(self) -> None:
        """Wait until a round has ended."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        await waiter

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._interval):
                    await self._hurry.wait()
            await self.refresh()

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._ended + _MIN_SPACING_SECONDS - loop.time())
        try:
            await asyncio.gather(*(name.resolve() for name in self._names))
            await self._look_at_all()
            others = [name for name in self._names if self._silent(name) and name.try_other_family()]
            if others:
                await self._look_at_all()
            self.seen()
        finally:
            self._ended = loop.time()
            waiting, self._waiting = self._waiting, []
            for waiter in waiting:
                if not waiter.done():
                    waiter.set_result(None)

    def _silent(self, name: addresses.Name) -> bool:
        return not any(self.sights.get(url) for url in name.servers)

    async def _look_at_all(self) -> None:
        urls = {url for name in self._names for url in name.servers}
        for url in self.sights.keys() - urls:
            _logger.info("model server left", extra=log.facts(server=url))
            del self.sights[url]
        for url in [url for url, look in self._looks.items() if look.done() or url not in urls]:
            self._looks.pop(url).cancel()
        for url in sorted(urls - self.sights.keys()):
            self.sights[url] = None
        for url in urls - self._looks.keys():
            self._looks[url] = asyncio.create_task(self._look_at(url), name=f"look at {url}")
        if self._looks:
            done, _ = await asyncio.wait(self._looks.values(), timeout=_ROUND_SECONDS)
            for look in done:
                if not look.cancelled():
                    look.result()

    async def _look_at(self, url: str) -> None:
        before = self.sights[url]
        try:
            sight = await self._engine.look(url)
        except port.UnreachableError as problem:
            if before is not None:
                _logger.warning(
                    "model server does not answer", extra=log.facts(server=url, reason=str(problem))
                )
            self.sights[url] = None
            return
        if before is None:
            _logger.info("model server answers", extra=log.facts(server=url, models=len(sight.held)))
        self.sights[url] = sight


def _nobody() -> None:
    pass
