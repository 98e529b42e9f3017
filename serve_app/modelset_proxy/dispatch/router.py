"""Which server gets a request. Pure: it looks at what is known and does nothing else.

In order: servers that hold the model and were not tried yet; of these, ones that work; of these, ones that
have a slot free; of these, ones that have the model in memory; of these, the one where requests with the same
prompt prefix go, unless it is busier than the rest; else the one with the fewest requests in flight.
"""

import collections
import hashlib
import math
from collections.abc import Collection, Iterable

import msgspec

# As many requests of a model a server is taken to run at once where nobody says how many.
PARALLEL = 16
# How much busier than the mean a server may be and still get requests for the prefixes it knows.
_LOAD_BOUND = 1.25


class Server(msgspec.Struct, kw_only=True):
    """What is known of one model server.

    ``held`` and ``loaded`` are canonical model names on its disk and in its memory; ``in_flight`` counts this
    process's requests, ``running`` those of each model; ``reachable`` is what the last probe found;
    ``avoid_until`` is a monotonic time in seconds, moved ahead by requests that failed.
    """

    url: str
    held: frozenset[str] = frozenset()
    loaded: frozenset[str] = frozenset()
    in_flight: int = 0
    running: collections.Counter[str] = msgspec.field(default_factory=collections.Counter)
    reachable: bool = False
    failures: int = 0
    avoid_until: float = 0.0

    def begin(self, model: str) -> None:
        """Count a request that is about to be sent; ``end`` follows it."""
        self.in_flight += 1
        self.running[model] += 1

    def end(self, model: str) -> None:
        """Count a request that has ended."""
        self.in_flight -= 1
        self.running[model] -= 1
        if not self.running[model]:
            del self.running[model]

    def failed(self, now: float) -> None:
        """Keep requests away after a failure: a second, then twice as long each time, up to half a minute."""
        self.failures += 1
        self.avoid_until = now + min(2.0 ** (self.failures - 1), 30.0)

    def succeeded(self) -> None:
        """Forget failures after a request that worked."""
        self.failures = 0
        self.avoid_until = 0.0


def choose(
    servers: Iterable[Server],
    model: str,
    *,
    now: float,
    tried: Collection[str] = (),
    affinity: int | None = None,
    turn: int = 0,
    parallel: int | None = None,
) -> Server | None:
    """Return the server for a request, or None when no server holds the model or all were tried.

    ``model`` is canonical, ``tried`` holds URLs, ``affinity`` is equal for requests with a common prefix,
    ``turn`` counts requests and breaks ties in rotation; ``parallel`` is how many requests of one model a
    server runs at once.
    """
    holders = [server for server in servers if model in server.held and server.url not in tried]
    if not holders:
        return None
    # With none that works, one that did not may have come back.
    pool = [server for server in holders if server.reachable and server.avoid_until <= now] or holders
    room = [server for server in pool if server.running[model] < (parallel or PARALLEL)] or pool
    # A load takes seconds, so a second copy is worth it only once the first has no slot left.
    pool = [server for server in room if model in server.loaded] or room
    if affinity is not None and len(pool) > 1:
        return _by_affinity(pool, affinity)
    return min(enumerate(pool), key=lambda place: (place[1].in_flight, (place[0] - turn) % len(pool)))[1]


def _by_affinity(pool: list[Server], affinity: int) -> Server:
    """Rendezvous hashing with bounded load: servers that come or go move only their own share of prefixes."""
    total = sum(server.in_flight for server in pool)
    bound = math.ceil(_LOAD_BOUND * (total + 1) / len(pool)) + 1
    ranked = sorted(pool, key=lambda server: _weight(server.url, affinity), reverse=True)
    return next((server for server in ranked if server.in_flight < bound), ranked[0])


def _weight(url: str, affinity: int) -> bytes:
    return hashlib.blake2b(f"{affinity}:{url}".encode(), digest_size=8).digest()
