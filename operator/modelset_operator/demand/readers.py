"""Reads the demand feeds of sets in the background: one request a set that waits for news.

Reconciles read what was heard last and wait for nobody.
"""

import asyncio
import dataclasses
import logging
import time
from collections.abc import Callable

from modelset_operator import background
from modelset_operator.demand import feed

log = logging.getLogger(__name__)

# (namespace, name) of a set
Set = tuple[str, str]

# How long a request waits for news.
WAIT_SECONDS = 20.0
# After a failure, and at most after several.
_AGAIN_SECONDS, _LONGEST_SECONDS = 0.5, 5.0


@dataclasses.dataclass(frozen=True)
class _Heard:
    """The last answer; nobody has asked anything since `idle_since`."""

    answer: feed.Answer
    idle_since: float


class _Reader:
    """The reader of one set."""

    def __init__(self, source: feed.Source) -> None:
        self.source = source
        self.heard: _Heard | None = None
        self.task: asyncio.Task[None] | None = None


class Readers:
    """Reads the feeds of all sets. `tell` is called with a set of which something else is known."""

    def __init__(
        self, port: feed.Port, tell: Callable[[Set], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._port = port
        self._tell = tell
        self._clock = clock
        self._readers: dict[Set, _Reader] = {}

    def asked(self, owner: Set) -> feed.Asked | None:
        """Return what is asked of a set, None while that is not known."""
        reader = self._readers.get(owner)
        if reader is None or reader.heard is None:
            return None
        answer = reader.heard.answer
        return feed.Asked(answer.in_flight, answer.queued, self._clock() - reader.heard.idle_since)

    def sync(self, owner: Set, source: feed.Source | None) -> None:
        """Read this feed of a set from now on; None is to read none."""
        reader = self._readers.get(owner)
        if reader is not None and reader.source == source:
            return
        if reader is not None:
            del self._readers[owner]
            if reader.task is not None:
                reader.task.cancel()
        if source is not None:
            reader = self._readers[owner] = _Reader(source)
            reader.task = asyncio.create_task(self._read(owner, reader), name=f"demand of {owner}")

    def forget(self, owner: Set) -> None:
        """Read nothing of a set that is gone."""
        self.sync(owner, None)

    async def close(self) -> None:
        """Stop reading."""
        reading = [reader.task for reader in self._readers.values() if reader.task is not None]
        self._readers.clear()
        await background.end(reading)

    async def _read(self, owner: Set, reader: _Reader) -> None:
        pause = _AGAIN_SECONDS
        while True:
            version = "" if reader.heard is None else reader.heard.answer.version
            try:
                answer = await self._port.ask(reader.source, version, WAIT_SECONDS if version else 0.0)
            except feed.UnreachableError as error:
                if reader.heard is not None:
                    log.warning("%s/%s: the proxy does not tell what is asked of it: %s", *owner, error)
                    reader.heard = None
                    self._tell(owner)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_SECONDS)
                continue
            pause = _AGAIN_SECONDS
            reader.heard = self._with(reader.heard, answer)
            if answer.version != version:
                self._tell(owner)

    def _with(self, before: _Heard | None, answer: feed.Answer) -> _Heard:
        now = self._clock()
        if answer.idle_seconds is not None:
            return _Heard(answer, now - answer.idle_seconds)
        # Since when it serves no model is not known; only how long it has said so.
        quiet = before is not None and before.answer.idle_seconds is None
        return _Heard(answer, before.idle_since if quiet and before is not None else now)
