"""Keeps a store in step with the API server: lists once, then watches, for ever.

Whatever ends a watch or keeps one from beginning is survived: it begins again where it was, or with a new
list where that is too long ago. Now and then everything is listed all the same: events may have been lost.
"""

import asyncio
import dataclasses
import logging
import random
import time
from collections.abc import Callable

from modelset_operator import metrics
from modelset_operator.cluster import http, kinds, store

log = logging.getLogger(__name__)

# A watch is renewed this often; so long may a connection that has died without a word go unnoticed.
WATCH_SECONDS = 300
RESYNC_SECONDS = 3600.0
_FIRST_PAUSE_SECONDS = 1.0
_LAST_PAUSE_SECONDS = 30.0
# A kind that is not there yet may be installed at any time.
_MISSING_PAUSE_SECONDS = 10.0


@dataclasses.dataclass(frozen=True)
class Selection:
    """What is watched: objects of a kind, in one namespace or in all (""), with labels ("": with any)."""

    kind: kinds.Kind
    namespace: str = ""
    labels: str = ""

    def __str__(self) -> str:
        return f"{self.kind.plural} in {self.namespace or 'all namespaces'}"


class Reflector:
    """One selection of objects, reflected into a store.

    `problem` says what keeps it from being in step, since `problem_since` (monotonic seconds); "" is nothing.
    `missing` tells that the API server does not know the kind; `found` is called when all was listed
    for the first time, and when the API server knows the kind after all.
    """

    def __init__(
        self,
        api: http.Http,
        selection: Selection,
        kept: store.Store,
        clock: Callable[[], float] = time.monotonic,
        found: Callable[[], None] = lambda: None,
    ) -> None:
        self.selection = selection
        self.problem = ""
        self.problem_since = 0.0
        self.missing = False
        self.synced = asyncio.Event()
        self._api = api
        self._store = kept
        self._clock = clock
        self._found = found
        self._failures = 0
        self._version = ""

    def failing_seconds(self) -> float:
        """Return for how long it has not been in step, 0 when it is."""
        return self._clock() - self.problem_since if self.problem else 0.0

    async def run(self) -> None:
        """Keep in step, for ever."""
        while True:
            try:
                await self._list()
                await self._follow()
            except http.ExpiredError:
                metrics.watch_ended(self.selection.kind.plural, "Expired")
                log.info("%s: what is known is too old, listing anew", self.selection)
            except http.KindMissingError:
                await self._is_missing()
            except (http.UnreachableError, http.RefusedError) as error:
                await self._failed(error)

    async def renew(self) -> None:
        """Take over what there is now, however far the watch has come; it goes on where it is."""
        try:
            await self._take_all()
        except (http.ExpiredError, http.KindMissingError, http.UnreachableError, http.RefusedError) as error:
            log.warning("%s could not be listed anew, going on with what is known: %s", self.selection, error)

    async def _take_all(self) -> str:
        selection, version = self.selection, ""
        listed: set[store.Key] = set()
        async for page, at in self._api.list(selection.kind, selection.namespace, selection.labels):
            listed |= self._store.put_all(page)
            version = at
        self._store.keep_only(selection.namespace, listed, int(version))
        return version

    async def _list(self) -> None:
        self._version = await self._take_all()
        late, self.missing = self.missing, False
        self._in_step()
        if late:
            log.info("%s: the API server knows the kind now", self.selection)
        if late or not self.synced.is_set():
            self.synced.set()
            self._found()

    async def _follow(self) -> None:
        """Watch on until everything is to be listed anew."""
        until = self._clock() + RESYNC_SECONDS * random.uniform(0.9, 1.1)  # noqa: S311 - spreads the load
        while self._clock() < until:
            try:
                await self._watch()
            except http.UnreachableError as error:
                await self._failed(error)
            except http.RefusedError as error:
                if not error.passing:
                    raise
                await self._failed(error)

    async def _watch(self) -> None:
        selection = self.selection
        events = self._api.watch(
            selection.kind, selection.namespace, selection.labels, self._version, WATCH_SECONDS
        )
        async for event, found in events:
            if event == http.BEGUN:
                # A watch may begin and break at once, again and again: that is no reason to hurry.
                self._works()
                continue
            self._in_step()
            if event == "DELETED":
                self._store.remove(found)
            elif event != "BOOKMARK":
                self._store.put(found)
            self._version = found["metadata"]["resourceVersion"]
        self._in_step()

    def _in_step(self) -> None:
        self._works()
        self._failures = 0

    def _works(self) -> None:
        if self.problem:
            log.info("%s: watching again", self.selection)
        self.problem = ""

    async def _is_missing(self) -> None:
        if not self.missing:
            log.warning("%s: the API server does not know the kind", self.selection)
        self.missing = True
        self.problem, self._failures = "", 0
        metrics.watch_ended(self.selection.kind.plural, "KindMissing")
        self._store.clear(self.selection.namespace)
        if not self.synced.is_set():
            self.synced.set()
            self._found()
        await asyncio.sleep(_MISSING_PAUSE_SECONDS)

    async def _failed(self, error: http.UnreachableError | http.RefusedError) -> None:
        reason = "Refused" if isinstance(error, http.RefusedError) else "Unreachable"
        metrics.watch_ended(self.selection.kind.plural, reason)
        if not self.problem:
            self.problem_since = self._clock()
        if self.problem != str(error):
            log.warning("%s cannot be watched, trying on: %s", self.selection, error)
        self.problem = str(error)
        pause = min(_FIRST_PAUSE_SECONDS * 2**self._failures, _LAST_PAUSE_SECONDS)
        self._failures = min(self._failures + 1, 16)
        asked = error.retry_after if isinstance(error, http.RefusedError) else None
        await asyncio.sleep(max(pause, asked or 0.0) * random.uniform(0.8, 1.2))  # noqa: S311 - not all at once
