"""Work that goes on beside the requests: it is seen to, and it does not end in silence."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from modelset_proxy.telemetry import log

_logger = logging.getLogger(__name__)
_AGAIN_SECONDS = 1.0


class Background:
    """Tasks that run until ``stop``. One that fails is logged and begun again."""

    def __init__(self, *, again_seconds: float = _AGAIN_SECONDS) -> None:
        self._again_seconds = again_seconds
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Run work in the event loop; it ends only by returning, or with ``stop``."""
        self._tasks.append(asyncio.create_task(self._supervised(name, work), name=name))

    async def stop(self) -> None:
        """End all of it and wait until it has ended."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _supervised(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await work()
            except Exception:
                # Whatever the defect: without this work the proxy would go on with what it knew last.
                _logger.exception("background work failed and begins again", extra=log.facts(work=name))
                await asyncio.sleep(self._again_seconds)
            else:
                return
