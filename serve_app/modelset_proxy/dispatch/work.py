"""The work of one request: its turns, its attempts, and what is learnt from them."""

from __future__ import annotations

import asyncio
import collections
import itertools
import logging
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from modelset_proxy.dispatch import facts, patience
from modelset_proxy.engines import port
from modelset_proxy.openai import errors
from modelset_proxy.telemetry import log

if TYPE_CHECKING:
    from modelset_proxy.dispatch import dispatcher

_logger = logging.getLogger(__name__)
Item = TypeVar("Item")
_ATTEMPTS = 4
# An item of a stream is about a token; the counters of clients need not move with each.
_ITEMS_A_COUNT = 16


class Work(Generic[Item]):
    """Made by ``Dispatcher.open``; within ``async with``, each unit may be asked for once."""

    def __init__(
        self, owner: dispatcher.Dispatcher, job: port.Job[Item], request: facts.Request, call: port.Call
    ) -> None:
        self._owner = owner
        self._job = job
        self._call = call
        self.request = request
        self._arrived: float
        self._patience: patience.Patience
        self._begun = False
        self._starts: collections.deque[facts.Start] = collections.deque()
        self._takers: collections.deque[asyncio.Future[facts.Start]] = collections.deque()
        self._waits: dict[asyncio.Timeout, patience.Patience] = {}

    async def __aenter__(self) -> Self:
        owner = self._owner
        await self._job.check()
        if not self._has_server() and not self._may_wait_for_server():
            # Pods may have moved, or hold more than they did.
            await owner.fleet.refresh()
        self._arrived = owner.clock()
        self._patience = patience.Patience(self._arrived, stranded=not self._has_server())
        try:
            owner.enter(self)
        except facts.QueueFull as full:
            whose = "of yours " if full.client else ""
            raise errors.ApiError(
                429,
                f"Too many requests {whose}are waiting for this model. Try again later.",
                kind="requests",
                code="queue_full",
                retry_after=5,
            ) from None
        except facts.NeverFits as problem:
            _logger.warning(
                "model is larger than the memory of a server",
                extra=log.facts(
                    model=self.request.model, weights_bytes=problem.needed, memory_bytes=problem.memory
                ),
            )
            raise errors.ApiError(
                503,
                f"The model '{self._call.served}' needs more memory than any of its servers has.",
                kind="server_error",
                code="model_too_large",
                may_retry=False,
            ) from None
        return self

    async def __aexit__(self, *_: object) -> None:
        self._owner.leave(self)

    @property
    def units(self) -> int:
        """How many answers are wanted."""
        return self.request.units

    @property
    def stranded(self) -> bool:
        """Whether it waits, and no server holds its model."""
        return bool(self._waits) and not self._has_server()

    def deliver(self, start: facts.Start) -> None:
        """Take a turn, for the unit that has waited longest for one."""
        while self._takers:
            taker = self._takers.popleft()
            if not taker.done():
                taker.set_result(start)
                return
        self._starts.append(start)

    def check(self) -> None:
        """Go by whether there is a server that holds the model now, which decides how long units wait."""
        now, stranded = self._owner.clock(), not self._has_server()
        for waiting in {self._patience, *self._waits.values()}:
            waiting.note(now, stranded=stranded)
        self._reschedule()

    async def answer(self, unit: int) -> AsyncGenerator[Item, None]:
        """Yield the answer to one unit; raises ApiError.

        Each item passes one generator here: what is done for it is done for every token.
        """
        owner, core, call = self._owner, self._owner.core, self._call
        told = port.Told()
        begun = False
        for attempts in itertools.count(1):
            start = await self._turn(again=attempts > 1)
            url = start.url
            await owner.settled(url)
            attempt = port.Attempt(call.request_id, url, told=told)
            call.server, call.attempts = url, max(call.attempts, attempts)
            if attempts > 1:
                owner.metrics.upstream_retry(call.served)
            if begun:
                owner.metrics.stream_continued(call.served)
                _logger.info(
                    "an answer goes on",
                    extra=log.facts(request_id=call.request_id, server=url, tokens=told.tokens),
                )
            lease = owner.lease(start, call, streams=self._job.streams)
            answer = self._job.ask(url, unit, attempt)
            try:
                async for item in answer:
                    lease.items += 1
                    lease.handing = True
                    yield item
                    lease.handing = False
                    if not lease.items % _ITEMS_A_COUNT:
                        core.served(self.request, start.unit, lease.items)
            except port.ServerFailure as problem:
                failure = problem
            except asyncio.CancelledError:
                if not lease.was_given_up():
                    raise
                failure = _hung()
            else:
                call.load_seconds = max(call.load_seconds, attempt.outcome.load_seconds)
                core.ended(owner.clock(), self.request, start.unit, attempt.outcome)
                owner.decide()
                return
            finally:
                owner.leases.discard(lease)
                await answer.aclose()
            begun = begun or lease.items > 0
            final = attempts == _ATTEMPTS or (begun and not self._job.goes_on(told))
            await self._failed(start, failure, begun=begun, final=final)

    async def _turn(self, *, again: bool) -> facts.Start:
        if self._starts:
            self._begin()
            return self._starts.popleft()
        taker: asyncio.Future[facts.Start] = asyncio.get_running_loop().create_future()
        self._takers.append(taker)
        now = self._owner.clock()
        waiting = patience.Patience(now, stranded=not self._has_server()) if again else self._patience
        try:
            async with asyncio.timeout_at(self._due(waiting)) as wait:
                self._waits[wait] = waiting
                start = await taker
        except TimeoutError:
            raise self._too_late() from None
        finally:
            del self._waits[wait]
        self._begin()
        self._call.queued_seconds = max(self._call.queued_seconds, self._owner.clock() - self._arrived)
        return start

    def _begin(self) -> None:
        """Have the other units wait however long it takes: what is made of the first is not thrown away."""
        if not self._begun:
            self._begun = True
            self._reschedule()

    def _reschedule(self) -> None:
        for wait, waiting in self._waits.items():
            if not wait.expired():
                wait.reschedule(self._due(waiting))

    def _due(self, waiting: patience.Patience) -> float | None:
        """Return when a wait ends, by the clock of the event loop."""
        owner = self._owner
        due = waiting.due(
            wake_seconds=owner.wake_seconds(self.request.model),
            queue_seconds=None
            if self._begun and waiting is self._patience
            else owner.limits.queue_timeout_seconds,
        )
        return None if due is None else asyncio.get_running_loop().time() + due - owner.clock()

    async def _failed(
        self, start: facts.Start, failure: port.ServerFailure, *, begun: bool, final: bool
    ) -> None:
        """Have the unit wait for another server; raise what the client is told when there is none to try."""
        owner, core, request = self._owner, self._owner.core, self.request
        owner.metrics.upstream_failure(self._call.served, failure.error.code or "")
        core.failed(owner.clock(), request, start.unit, absent=failure.absent)
        if not final and not core.untried(request):
            # Pods may have moved, or hold more than they did.
            await owner.fleet.refresh()
            if failure.lost:
                # The server may have been restarted, and counts again.
                core.retry(request)
            waits = not begun and not self._has_server() and self._may_wait_for_server()
            final = not waits and not core.untried(request)
        if final:
            raise failure.error from None
        owner.decide()

    def _has_server(self) -> bool:
        return self._owner.core.holders(self.request.model) > 0

    def _may_wait_for_server(self) -> bool:
        return self._owner.wake_seconds(self.request.model) > 0

    def _too_late(self) -> errors.ApiError:
        """Return what a client is told that has waited for as long as it may, be it no time at all."""
        if self._has_server():
            return errors.unavailable(
                "The model was busy for too long. Try again later.", code="queue_timeout"
            )
        if self._may_wait_for_server():
            return errors.unavailable(
                "No model server came in time that holds this model. Try again later.",
                code="wake_timeout",
                retry_after=10,
            )
        if not self._owner.core.state()["reachable"]:
            return errors.unavailable("No model server can be reached.", code="upstream_unavailable")
        return errors.model_not_ready()


def _hung() -> port.ServerFailure:
    error = errors.unavailable("The model server stopped answering.", code="upstream_hung")
    return port.ServerFailure(error, "it stopped answering", lost=True)
