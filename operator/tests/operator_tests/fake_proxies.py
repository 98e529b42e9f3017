"""Proxies that tell what a test has them asked, as `GET /demand` does: an answer waits for a change."""

import asyncio

from modelset_operator.demand import feed


class FakeProxies:
    """Implements `feed.Port`. `answer` is None while no proxy answers; `asked` are the sources asked."""

    def __init__(self) -> None:
        self.answer: feed.Answer | None = None
        self.sources: list[feed.Source] = []
        self._news = asyncio.Event()
        self._asked = asyncio.Event()

    def tell(self, in_flight: int = 0, queued: int = 0, idle_seconds: float | None = 0.0) -> None:
        """Have the proxy be asked so much from now on."""
        version = f"{in_flight} {queued} {idle_seconds}"
        self.answer = feed.Answer(version, in_flight, queued, idle_seconds)
        self._change()

    def fall_silent(self) -> None:
        """Have no proxy answer."""
        self.answer = None
        self._change()

    async def until_asked(self, times: int) -> None:
        """Wait until that many requests more have come."""
        wanted = len(self.sources) + times
        while len(self.sources) < wanted:
            self._asked.clear()
            await self._asked.wait()

    async def ask(self, source: feed.Source, version: str, wait_seconds: float) -> feed.Answer:
        """See `feed.Port`."""
        self.sources.append(source)
        self._asked.set()
        deadline = asyncio.get_running_loop().time() + wait_seconds
        while self.answer is not None and self.answer.version == version:
            try:
                async with asyncio.timeout_at(deadline):
                    await self._news.wait()
            except TimeoutError:
                break
        if self.answer is None:
            raise feed.UnreachableError("no proxy answers")
        return self.answer

    def _change(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
