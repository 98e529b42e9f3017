"""Downloads in the background, and what is made of them: started by reconciles, never waited for by them."""

import asyncio
import collections
import contextlib
import dataclasses
import functools
import logging
import time
from collections.abc import Callable, Collection, Mapping

from modelset_operator import background, backoff, metrics
from modelset_operator.api import sources
from modelset_operator.engines import port, state, wording

log = logging.getLogger(__name__)

Set = state.Set
# (pod uid, reference key)
Key = tuple[str, str]

AT_ONCE_PER_POD = 2
POKE_SECONDS = 3.0
FIRST_RETRY_SECONDS = 5.0
LAST_RETRY_SECONDS = 300.0
# The share of a download by which it has to get further to count as one that does.
FURTHER = 0.01
_RESULTS: dict[type[Exception], str] = {port.RefusedError: "Failed", port.UnreachableError: "Interrupted"}


@dataclasses.dataclass
class _Download:
    """One model on its way onto one pod."""

    wanted: state.WantedPull
    pull: state.Pull = dataclasses.field(default_factory=lambda: state.Pull(state.PullPhase.WAITING))
    task: asyncio.Task[None] | None = None
    retry_at: float = 0.0
    interruptions: int = 0


class Pulls:
    """The downloads of all sets.

    `poke` is called with a set that has something new to tell, `done` with a set and the uid of its pod that
    has just got a model.
    """

    def __init__(
        self,
        engine: port.Engine,
        poke: Callable[[Set], None],
        done: Callable[[Set, str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._poke = poke
        self._done = done
        self._clock = clock
        self._sets: dict[Set, dict[Key, _Download]] = {}
        self._poked: dict[Set, float] = {}

    def view(self, owner: Set) -> Mapping[Key, state.Pull]:
        """Return what became of the downloads of a set so far."""
        return {key: download.pull for key, download in self._sets.get(owner, {}).items()}

    def sync(
        self, owner: Set, wanted: Collection[state.WantedPull], unseen: Collection[str] = ()
    ) -> float | None:
        """Start what is wanted and due, stop what is not wanted any more.

        Downloads onto pods that are `unseen` (uids) go on as they are: a look that failed tells nothing.
        Returns in how many seconds the next retry is due, None when none is waiting.
        """
        downloads = self._sets.setdefault(owner, {})
        keys = {(pull.uid, pull.key): pull for pull in wanted}
        for key in [key for key in downloads if key not in keys and key[0] not in unseen]:
            self._drop(downloads, key)
        for key, pull in keys.items():
            known = downloads.get(key)
            if known is not None and _origin(known.wanted) != _origin(pull):
                self._drop(downloads, key)
                known = None
            if known is None:
                downloads[key] = _Download(pull)
            else:
                known.wanted = pull
        self._start_due(owner, downloads)
        if not downloads:
            del self._sets[owner]
        retries = [
            one.retry_at - self._clock() for one in downloads.values() if one.task is None and one.retry_at
        ]
        return max(0.0, min(retries)) if retries else None

    def forget(self, owner: Set) -> None:
        """Stop everything of a set that is gone."""
        self.sync(owner, ())
        self._poked.pop(owner, None)

    async def close(self) -> None:
        """Stop everything and wait until it has stopped. Asked again, Ollama resumes what was under way."""
        await background.end(
            one.task for downloads in self._sets.values() for one in downloads.values() if one.task
        )
        self._sets.clear()

    def _drop(self, downloads: dict[Key, _Download], key: Key) -> None:
        download = downloads.pop(key)
        if download.task is not None:
            download.task.cancel()

    def _start_due(self, owner: Set, downloads: dict[Key, _Download]) -> None:
        # A variant takes a moment, and is not to wait for downloads that take hours.
        busy = collections.Counter(_lane(one.wanted) for one in downloads.values() if one.task is not None)
        for download in downloads.values():
            lane = _lane(download.wanted)
            free = busy[lane] < AT_ONCE_PER_POD
            if download.task is None and free and download.retry_at <= self._clock():
                busy[lane] += 1
                download.pull = dataclasses.replace(
                    download.pull, phase=state.PullPhase.RUNNING, moving=False
                )
                download.task = asyncio.create_task(self._run(owner, download), name=str(download.wanted.key))
                download.task.add_done_callback(functools.partial(self._ended, owner, download))

    async def _run(self, owner: Set, download: _Download) -> None:
        wanted = download.wanted
        log.info("%s begins", _what(wanted))
        try:
            with metrics.pull(_RESULTS) if wanted.recipe is None else contextlib.nullcontext():
                await self._stream(owner, download)
        except port.RefusedError as error:
            unknown = error.unknown_model and wanted.recipe is None
            self._failed(download, wording.lasting(str(error)), unknown_model=unknown)
        except port.UnreachableError as error:
            self._interrupted(download, wording.lasting(str(error)))
        else:
            log.info("%s is done", _what(wanted))
            download.pull = dataclasses.replace(
                download.pull, phase=state.PullPhase.RUNNING, fraction=1.0, failures=0, message=""
            )
            # Should the model be found missing again, it is pulled again, but not in a busy loop.
            download.interruptions = 0
            download.retry_at = self._clock() + FIRST_RETRY_SECONDS
            self._done(owner, wanted.uid)
        download.task = None
        self._tell(owner, at_once=True)

    def _ended(self, owner: Set, download: _Download, task: asyncio.Task[None]) -> None:
        """Have a download fail whose task ended by a defect, so that it is tried again."""
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("%s met a defect", _what(download.wanted), exc_info=error)
            download.task = None
            self._failed(download, f"the operator failed: {error!r}")
            self._tell(owner, at_once=True)

    async def _stream(self, owner: Set, download: _Download) -> None:
        wanted = download.wanted
        layers: dict[str, tuple[int, int]] = {}
        # Of a full disk every attempt fills what there is, and that is no progress.
        enough = download.pull.fraction + FURTHER if wording.disk_full(download.pull.message) else 0.0
        if wanted.recipe is None:
            steps = self._engine.ensure(wanted.ip, wanted.reference, wanted.source, again=wanted.again)
        else:
            steps = self._engine.create(wanted.ip, wanted.reference, wanted.recipe)
        async for progress in steps:
            if not progress.digest or not progress.total:
                continue
            # What the first report of a layer names may have been there before.
            before, _ = layers.get(progress.digest, (progress.completed, 0))
            metrics.pulled(max(0, progress.completed - before))
            layers[progress.digest] = (progress.completed, progress.total)
            done, total = (sum(column) for column in zip(*layers.values(), strict=True))
            # Layers become known one by one, so the share may fall; people see it rise only.
            fraction = max(download.pull.fraction, done / total)
            moving = download.pull.moving or fraction >= enough
            known = max(download.pull.total, total)
            pull = dataclasses.replace(download.pull, fraction=fraction, total=known, moving=moving)
            if pull != download.pull:
                download.pull = pull
                self._tell(owner, at_once=False)

    def _failed(self, download: _Download, reason: str, *, unknown_model: bool = False) -> None:
        if unknown_model:
            reason = f"{reason} (the registry has no {download.wanted.reference})"
        reason = wording.following(reason, download.pull.message)
        failures = download.pull.failures + 1
        download.retry_at = self._clock() + backoff.delay(failures, FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS)
        download.pull = dataclasses.replace(
            download.pull,
            phase=state.PullPhase.FAILED,
            failures=failures,
            message=reason,
            moving=False,
            unknown_model=unknown_model,
        )
        log.warning("%s failed: %s", _what(download.wanted), reason)

    def _interrupted(self, download: _Download, reason: str) -> None:
        download.interruptions += 1
        download.retry_at = self._clock() + backoff.delay(
            download.interruptions, FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS
        )
        message = download.pull.message if download.pull.failures else reason
        download.pull = dataclasses.replace(
            download.pull, phase=state.PullPhase.INTERRUPTED, message=message, moving=False
        )
        log.info("%s was interrupted: %s", _what(download.wanted), reason)

    def _tell(self, owner: Set, *, at_once: bool) -> None:
        now = self._clock()
        if at_once or now - self._poked.get(owner, -POKE_SECONDS) >= POKE_SECONDS:
            self._poked[owner] = now
            self._poke(owner)


def _origin(wanted: state.WantedPull) -> tuple[sources.Source, state.Recipe | None]:
    """Return what makes it another download under the same name."""
    return wanted.source, wanted.recipe


def _lane(wanted: state.WantedPull) -> tuple[str, bool]:
    return wanted.uid, wanted.recipe is None


def _what(wanted: state.WantedPull) -> str:
    what = "pull of" if wanted.recipe is None else "making"
    return f"{what} {wanted.reference} on {wanted.pod}"
