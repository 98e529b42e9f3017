"""Who is next among the clients that wait for a model: the one that has been served least.

Virtual token counters (Sheng et al., "Fairness in Serving Large Language Models", 2024): a client's counter
grows with the tokens that it is served, an answer's weighing more than a prompt's; one that comes back after
a pause does not find credit. Within a small lead, a request goes first whose prompt a free slot has read.
"""

import collections
import math
from collections.abc import Callable, Iterator

from modelset_proxy.dispatch import facts

# A prompt counts whole, whether or not a slot has read it: it is answers that are shared out, not work.
PROMPT_WEIGHT = 1.0
ANSWER_WEIGHT = 2.0
# How far a client may be ahead of the one served least and still go first for its prefix, in weighted tokens.
LEAD = 1024.0
# Clients that neither wait nor run are remembered up to this many.
_MOST_IDLE = 1024


class Waiting:
    """A request with the units of it that are still to be started."""

    __slots__ = ("arrived", "first", "request", "tried", "units")

    def __init__(self, request: facts.Request, arrived: float) -> None:
        self.request = request
        self.arrived = arrived
        self.units = collections.deque(range(request.units))
        self.tried: set[str] = set()


class Line:
    """The requests that wait for one model."""

    def __init__(self) -> None:
        self._queues: dict[str, collections.deque[Waiting]] = {}
        self._counters: collections.OrderedDict[str, float] = collections.OrderedDict()
        self.length = 0

    def __bool__(self) -> bool:
        return bool(self._queues)

    def __iter__(self) -> Iterator[Waiting]:
        for queue in self._queues.values():
            yield from queue

    def of_client(self, client: str) -> int:
        """Count the requests of a client that wait."""
        return len(self._queues.get(client, ()))

    def oldest(self) -> float:
        """Return when the one that waits longest came; infinity when nobody waits."""
        return min((queue[0].arrived for queue in self._queues.values()), default=math.inf)

    def append(self, waiting: Waiting, *, active: bool) -> None:
        """Let a request wait; ``active`` tells whether others of its client run or wait already."""
        client = waiting.request.client
        if not active:
            self._lift(client)
        self._queues.setdefault(client, collections.deque()).append(waiting)
        self.length += 1

    def put_back(self, waiting: Waiting) -> None:
        """Let a request wait again, before all others of its client."""
        self._queues.setdefault(waiting.request.client, collections.deque()).appendleft(waiting)
        self.length += 1

    def remove(self, waiting: Waiting) -> None:
        """Take a request out."""
        client = waiting.request.client
        queue = self._queues[client]
        queue.remove(waiting)
        self.length -= 1
        if not queue:
            del self._queues[client]

    def next(self, gain: Callable[[facts.Request], int]) -> Waiting:
        """Return whose turn it is, and leave it where it is; ``gain`` is what going now would spare."""
        if len(self._queues) == 1:
            return next(iter(self._queues.values()))[0]
        counters = self._counters
        least = min(counters.get(client, 0.0) for client in self._queues)
        near = [
            queue[0] for client, queue in self._queues.items() if counters.get(client, 0.0) <= least + LEAD
        ]
        if len(near) == 1:
            return near[0]
        return min(
            near,
            key=lambda one: (-gain(one.request), counters.get(one.request.client, 0.0), one.arrived),
        )

    def charge(self, client: str, tokens: float) -> None:
        """Count weighted tokens that a client was served."""
        self._counters[client] = self._counters.get(client, 0.0) + tokens
        self._counters.move_to_end(client)
        if len(self._counters) > _MOST_IDLE:
            self._forget()

    def _lift(self, client: str) -> None:
        others = [self._counters.get(other, 0.0) for other in self._queues]
        if others:
            self._counters[client] = max(self._counters.get(client, 0.0), min(others))

    def _forget(self) -> None:
        for client in self._counters:
            if client not in self._queues:
                del self._counters[client]
                return
