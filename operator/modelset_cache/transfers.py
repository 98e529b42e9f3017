"""Blobs on their way from outside: fetched once, whoever and however many read them meanwhile."""

import asyncio
import collections
import contextlib
import dataclasses
import logging
from collections.abc import AsyncGenerator, Callable

from modelset_cache import metrics, store, upstream

log = logging.getLogger(__name__)

READ_BYTES = 1024 * 1024
# Downloads from outside at a time, of all blobs.
AT_ONCE = 16
# So often in a row a registry may fail that sends nothing in between.
TRIES = 5
FIRST_RETRY_SECONDS = 0.5


class BrokenOffError(Exception):
    """A blob does not come to its end; it goes on where it was when it is asked for again."""


@dataclasses.dataclass
class _Run:
    """A chunk that is being fetched; `error` is why it has ended early."""

    task: asyncio.Task[None] | None = None
    error: BaseException | None = None


class Transfer:
    """One blob, whole or on its way, and who reads it. Each chunk is fetched by itself, for all who read."""

    def __init__(
        self,
        blob: store.Blob,
        place: upstream.Place,
        source: upstream.Upstream,
        limit: asyncio.Semaphore,
        lied: Callable[[store.Blob], None],
    ) -> None:
        self.blob = blob
        self.place = place
        self.readers = 0
        self._source = source
        self._limit = limit
        self._lied = lied
        # By chunk: which request is to bring it.
        self._runs: dict[int, _Run] = {}
        self._changed = asyncio.Condition()
        self._verifying: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether somebody reads it, or something is done with it."""
        return bool(self.readers or self._runs or self._verifying)

    async def read(self, start: int, end: int) -> AsyncGenerator[bytes, None]:
        """Yield bytes as soon as they are there. Raises BrokenOffError."""
        self.readers += 1
        try:
            self.blob.used()
            while start < end:
                index, within = divmod(start, self.blob.chunk_bytes)
                if self.blob.have[index] <= within:
                    await self._await_more(index, within, end)
                data = await asyncio.to_thread(self.blob.read, start, min(READ_BYTES, end - start))
                if not data:
                    raise BrokenOffError("its files are not what they were")
                start += len(data)
                yield data
        except OSError as error:
            raise BrokenOffError(str(error)) from error
        finally:
            self.readers -= 1

    def verify(self) -> None:
        """Have the blob checked once it has come, unless it was, or thrown away if it is another one."""
        if self._verifying is None and self.blob.complete and not self.blob.whole:
            self._verifying = asyncio.create_task(self._verify(), name=f"verify {self.blob.digest}")

    async def close(self) -> None:
        """End what is under way."""
        found = {*(run.task for run in self._runs.values()), self._verifying}
        tasks = [task for task in found if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _await_more(self, index: int, within: int, end: int) -> None:
        run = self._run(index)
        if (index + 1) * self.blob.chunk_bytes < end:
            # Meanwhile, so that nobody waits for each answer to begin.
            self._run(index + 1)
        async with self._changed:
            await self._changed.wait_for(
                lambda: self.blob.have[index] > within or self._runs.get(index) is not run
            )
        if self.blob.have[index] <= within and run.error is not None:
            raise BrokenOffError(str(run.error))

    def _run(self, index: int) -> _Run:
        """Have a chunk fetched, unless it is, or is there."""
        run = self._runs.get(index)
        if run is None:
            run = _Run()
            if self.blob.have[index] < self.blob.length(index):
                self._runs[index] = run
                run.task = asyncio.create_task(self._fill(run, index), name=f"fetch {self.blob.digest}")
        return run

    async def _fill(self, run: _Run, index: int) -> None:
        try:
            async with self._limit:
                await self._fill_all(index)
        except asyncio.CancelledError as error:
            run.error = error
            raise
        except (upstream.UpstreamError, OSError) as error:
            run.error = error
            log.warning("%s from %s: %s", self.blob.digest, self.place.host, error)
        finally:
            del self._runs[index]
            self.verify()
            async with self._changed:
                self._changed.notify_all()

    async def _fill_all(self, index: int) -> None:
        failures = 0
        while (before := self.blob.have[index]) < self.blob.length(index):
            try:
                await self._fill_once(index)
            except upstream.UpstreamError as error:
                failures = 0 if self.blob.have[index] > before else failures + 1
                if failures >= TRIES or error.status != upstream.BAD_GATEWAY:
                    raise
                log.info("%s from %s, again: %s", self.blob.digest, self.place.host, error)
                await asyncio.sleep(FIRST_RETRY_SECONDS * 2**failures)

    async def _fill_once(self, index: int) -> None:
        blob = self.blob
        first = index * blob.chunk_bytes
        asked = (first + blob.have[index], first + blob.length(index))
        async with contextlib.aclosing(self._source.bytes(self.place, blob.digest, *asked)) as pieces:
            async for piece in pieces:
                await asyncio.to_thread(blob.append, index, piece)
                metrics.FETCHED.inc(len(piece))
                async with self._changed:
                    self._changed.notify_all()

    async def _verify(self) -> None:
        blob = self.blob
        try:
            await asyncio.to_thread(blob.verify)
            log.info("%s from %s is whole: %d bytes", blob.digest, self.place.host, blob.size)
        except store.LyingError as error:
            log.warning("%s from %s is thrown away: %s", blob.digest, self.place.host, error)
            self._lied(blob)
        except OSError as error:
            log.warning("%s from %s: %s", blob.digest, self.place.host, error)
        finally:
            self._verifying = None


class Transfers:
    """All blobs that somebody reads."""

    def __init__(self, kept: store.Store, source: upstream.Upstream) -> None:
        self._store = kept
        self._source = source
        self._limit = asyncio.Semaphore(AT_ONCE)
        self._transfers: dict[str, Transfer] = {}
        # A registry that takes its time keeps nobody waiting who wants something else.
        self._making: dict[str, asyncio.Lock] = collections.defaultdict(asyncio.Lock)

    async def of(self, place: upstream.Place, digest: str) -> Transfer:
        """Return a blob, to be read. Raises UpstreamError, NoRoomError, OSError."""
        async with self._making[digest]:
            known = self._transfers.get(digest)
            if known is None:
                blob = self._store.find(digest)
                if blob is None:
                    size = await self._source.size(place, digest)
                    self._forget_idle()
                    blob = self._store.make(digest, size, frozenset(self._transfers))
                known = self._transfers[digest] = Transfer(
                    blob, place, self._source, self._limit, self._threw_away
                )
                known.verify()
            known.place = place
            return known

    async def close(self) -> None:
        """End what is under way; what has come of it stays."""
        for transfer in list(self._transfers.values()):
            await transfer.close()

    def _forget_idle(self) -> None:
        self._transfers = {digest: one for digest, one in self._transfers.items() if one.busy}
        for digest in [one for one, lock in self._making.items() if not lock.locked()]:
            del self._making[digest]

    def _threw_away(self, blob: store.Blob) -> None:
        self._store.drop(blob.digest)
        self._transfers.pop(blob.digest, None)
