"""Keeps the connection of a stream that has nothing to tell yet, by comments, which clients of events skip.

Proxies in between, and clients, close a connection on which nothing comes for a minute or so. Once a comment
is out so is the status, and a failure can only be told by an event: so there is none while one waits for its
turn, and what a server says at once still decides the status.
"""

import asyncio
import contextlib
from collections.abc import Callable

from modelset_proxy.web import exchange

COMMENT = b": waiting for a model server\n\n"
_LOOK_SECONDS = 2.0
# A server that has the request has loaded most models by then, and said what it thinks of it.
_LOOKS_AT_SERVER = 10
_AGAIN_SECONDS = 10.0


class Holding:
    """Within ``async with``, until ``end``, the stream of ``web`` is kept.

    ``stranded`` tells whether there is no server for the request, ``asked`` whether one has it. Where neither
    is so, it waits for its turn, and nothing is said.
    """

    def __init__(
        self, web: exchange.Exchange, *, stranded: Callable[[], bool], asked: Callable[[], bool]
    ) -> None:
        self._web = web
        self._stranded = stranded
        self._asked = asked
        self._over = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._begin)

    async def __aexit__(self, *_: object) -> None:
        await self.end()

    @property
    def ended(self) -> bool:
        """Tell whether the stream is the caller's."""
        return self._over.is_set()

    async def end(self) -> None:
        """Say nothing more; from here on the stream is the caller's."""
        if self._timer is not None:
            self._timer.cancel()
        self._over.set()
        if self._task is not None:
            await self._task

    def _begin(self) -> None:
        # Most streams have begun long before, and need no task for this.
        self._task = asyncio.create_task(self._keep())

    async def _keep(self) -> None:
        at_server = 0
        while not self._stranded() and at_server < _LOOKS_AT_SERVER:
            if await self._is_over(_LOOK_SECONDS):
                return
            at_server += self._asked()
        await self._web.start_events()
        while True:
            await self._web.write(COMMENT)
            if await self._is_over(_AGAIN_SECONDS):
                return

    async def _is_over(self, seconds: float) -> bool:
        """Wait for so long at most, and tell whether it is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._over.wait()
        return self.ended
