"""How many requests run at once, a model each, and who is next.

What Ollama cannot run yet waits here: so the next free server gets it, clients take turns, and who waits too
long is told so. Ollama's own queue is first come, first served and knows no clients.
"""

import asyncio
import collections
import time
from collections.abc import Callable
from typing import Annotated

import msgspec

from modelset_proxy.engines import port
from modelset_proxy.openai import errors


class Limits(msgspec.Struct, frozen=True, rename="camel"):
    """Bounds on what is accepted. None is no bound.

    ``max_in_flight_per_server`` is how many requests of one model run at one Ollama server (its
    OLLAMA_NUM_PARALLEL); ``max_queued_requests`` how many more may wait, a model; times are in seconds, sizes
    in bytes.
    """

    max_in_flight_per_server: Annotated[int, msgspec.Meta(ge=1)] | None = None
    max_queued_requests: Annotated[int, msgspec.Meta(ge=0)] = 1024
    queue_timeout_seconds: Annotated[float, msgspec.Meta(gt=0)] = 60.0
    request_timeout_seconds: Annotated[float, msgspec.Meta(gt=0)] | None = None
    max_body_bytes: Annotated[int, msgspec.Meta(ge=1)] = 64 * 1024 * 1024


class _Lane:
    """The requests of one model: ``running`` of them, the others waiting by client."""

    def __init__(self) -> None:
        self.running = 0
        self.waiting: collections.OrderedDict[str, collections.deque[asyncio.Future[None]]] = (
            collections.OrderedDict()
        )

    def queued(self) -> int:
        return sum(len(queue) for queue in self.waiting.values())

    def next(self) -> asyncio.Future[None] | None:
        """Take the next one, of the client whose turn it is, who then goes to the back."""
        while self.waiting:
            client, queue = next(iter(self.waiting.items()))
            ticket = queue.popleft()
            if queue:
                self.waiting.move_to_end(client)
            else:
                del self.waiting[client]
            if not ticket.done():
                return ticket
        return None

    def forget(self, client: str, ticket: asyncio.Future[None]) -> None:
        queue = self.waiting.get(client)
        if queue is not None and ticket in queue:
            queue.remove(ticket)
            if not queue:
                del self.waiting[client]


class Admission:
    """Lets requests in. ``servers`` tells how many servers can run a model; ``limits`` may be replaced."""

    def __init__(self, servers: Callable[[str], int], limits: Limits | None = None) -> None:
        self._servers = servers
        self.limits = limits or Limits()
        self._lanes: dict[str, _Lane] = {}

    def counts(self, model: str) -> tuple[int, int]:
        """Return how many requests of a model run and wait."""
        lane = self._lanes.get(model)
        return (lane.running, lane.queued()) if lane else (0, 0)

    def slot(self, call: port.Call) -> "Slot":
        """Return a turn, to be waited for and kept by ``async with``; the wait is told to the call."""
        return Slot(self, call)

    async def enter(self, model: str, client: str) -> None:
        """Wait for a turn, which lasts until ``leave``.

        A 429 when too many wait, a 503 when the turn does not come.
        """
        lane = self._lanes.setdefault(model, _Lane())
        if lane.waiting or lane.running >= self._capacity(model):
            await self._wait(lane, model, client)
        else:
            lane.running += 1

    def leave(self, model: str) -> None:
        """End a turn."""
        lane = self._lanes[model]
        lane.running -= 1
        self._admit(lane, model)
        if not lane.running and not lane.waiting:
            del self._lanes[model]

    def admit(self) -> None:
        """Let in whom there is room for now; to be called when servers or limits have changed."""
        for model, lane in list(self._lanes.items()):
            self._admit(lane, model)

    def _capacity(self, model: str) -> float:
        each = self.limits.max_in_flight_per_server
        # Without a server the request goes on, to be told so at once.
        return float("inf") if each is None else each * max(1, self._servers(model))

    def _admit(self, lane: _Lane, model: str) -> None:
        while lane.waiting and lane.running < self._capacity(model):
            ticket = lane.next()
            if ticket is not None:
                lane.running += 1
                ticket.set_result(None)

    async def _wait(self, lane: _Lane, model: str, client: str) -> None:
        if lane.queued() >= self.limits.max_queued_requests:
            raise errors.ApiError(
                429,
                "Too many requests are waiting for this model. Try again later.",
                kind="requests",
                code="queue_full",
                retry_after=5,
            )
        ticket: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        lane.waiting.setdefault(client, collections.deque()).append(ticket)
        try:
            async with asyncio.timeout(self.limits.queue_timeout_seconds):
                await ticket
        except BaseException as problem:
            lane.forget(client, ticket)
            if ticket.done() and not ticket.cancelled():
                # The turn came together with the end of the wait: give it to the next.
                lane.running -= 1
                self._admit(lane, model)
            if isinstance(problem, TimeoutError):
                raise errors.unavailable(
                    "The model was busy for too long. Try again later.", code="queue_timeout"
                ) from None
            raise


class Slot:
    """A turn of one request, see ``Admission.slot``; a class, because that is the quickest of its kind."""

    def __init__(self, turns: Admission, call: port.Call) -> None:
        self._turns = turns
        self._call = call

    async def __aenter__(self) -> None:
        asked = time.monotonic()
        await self._turns.enter(self._call.served, self._call.client)
        self._call.queued_seconds = max(self._call.queued_seconds, time.monotonic() - asked)

    async def __aexit__(self, *_: object) -> None:
        self._turns.leave(self._call.served)
