"""What the core of the dispatcher is told, and what it decides. Times are monotonic seconds, sizes bytes."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec


class Limits(msgspec.Struct, frozen=True, rename="camel"):
    """Bounds on what is accepted. None is no bound.

    ``max_in_flight_per_server`` is how many requests of one model run at one server (Ollama's
    OLLAMA_NUM_PARALLEL), ``max_loaded_per_server`` how many models it has in memory at most
    (OLLAMA_MAX_LOADED_MODELS), and ``memory_bytes_per_server`` the memory it has for all that it does;
    ``max_queued_requests`` how many more may wait, a model, and
    ``max_queued_per_client`` how many of them may be one client's; ``switch_seconds`` how long requests wait
    at most before models that are in use must make room; ``queue_timeout_seconds`` how long they wait for
    their turn, and ``wake_timeout_seconds`` for a server where none holds their model: with 0 they are
    refused then; times are in seconds, sizes in bytes.
    """

    max_in_flight_per_server: Annotated[int, msgspec.Meta(ge=1)] | None = None
    max_loaded_per_server: Annotated[int, msgspec.Meta(ge=1)] | None = None
    memory_bytes_per_server: Annotated[int, msgspec.Meta(ge=1)] | None = None
    max_queued_requests: Annotated[int, msgspec.Meta(ge=0)] = 1024
    max_queued_per_client: Annotated[int, msgspec.Meta(ge=0)] | None = None
    switch_seconds: Annotated[float, msgspec.Meta(gt=0)] = 30.0
    queue_timeout_seconds: Annotated[float, msgspec.Meta(gt=0)] = 60.0
    wake_timeout_seconds: Annotated[float, msgspec.Meta(ge=0)] = 300.0
    request_timeout_seconds: Annotated[float, msgspec.Meta(gt=0)] | None = None
    max_body_bytes: Annotated[int, msgspec.Meta(ge=1)] = 64 * 1024 * 1024


class Report(msgspec.Struct, frozen=True):
    """What a look at a server that ``began`` then found: models by key, on its disk, and in its memory with
    the bytes they take there (0 where it does not tell).

    ``leads`` are as in ``variants.leads``; ``weights`` are the bytes of models on disk, where it tells, and
    ``files`` as in ``port.Held``.
    """

    began: float
    held: frozenset[str]
    loaded: Mapping[str, int]
    leads: Mapping[str, str] = {}
    weights: Mapping[str, int] = {}
    files: Mapping[str, str] = {}


class Request(msgspec.Struct, eq=False):
    """A request that asks one model for ``units`` answers.

    ``prefix`` and ``prompt_tokens`` are as in ``prompts.Prompt``.
    """

    id: int
    model: str
    client: str = ""
    prefix: tuple[int, ...] = ()
    prompt_tokens: int = 0
    units: int = 1


class Start(msgspec.Struct, frozen=True, gc=False):
    """Decision: ask this server for one unit of a request now. It loads the model if it has to."""

    request: Request
    unit: int
    url: str


class Load(msgspec.Struct, frozen=True):
    """Decision: have the server load a model before anybody is sent there; ``loaded`` tells how it went."""

    model: str
    url: str


class Unload(msgspec.Struct, frozen=True):
    """Decision: have the server let go of a model, before anything else is started there."""

    model: str
    url: str


class Try(msgspec.Struct, frozen=True):
    """Decision: find out whether a server still answers for a model, by a touch or, as a ``whole``, by having
    it answer something short; ``tried`` tells how it went.
    """

    model: str
    url: str
    whole: bool


class GiveUp(msgspec.Struct, frozen=True):
    """Decision: wait no longer for a unit's answer, since its server hangs."""

    request: Request
    unit: int
    url: str


Decision = Start | Load | Unload


class Demand(msgspec.Struct, frozen=True, rename="camel"):
    """What is asked of one model now: units that run, requests that wait and the longest wait; and for how
    many seconds nobody has asked anything.
    """

    in_flight: int
    queued: int
    longest_wait_seconds: float
    idle_seconds: float


class Feed(msgspec.Struct, frozen=True):
    """What is asked of each model, by first served name; and which servers hang, by URL, for which model."""

    models: Mapping[str, Demand] = {}
    sick: Mapping[str, str] = {}

    def outline(self) -> tuple[Mapping[str, tuple[bool, bool]], Mapping[str, str]]:
        """Return what is worth telling at once: who begins or ends to run or to wait, and who hangs."""
        busy = {name: (one.in_flight > 0, one.queued > 0) for name, one in self.models.items()}
        return busy, self.sick


def together(feeds: Sequence[Feed]) -> Feed:
    """Return what several proxies are asked in all."""
    by_model: dict[str, list[Demand]] = {}
    for feed in feeds:
        for name, demand in feed.models.items():
            by_model.setdefault(name, []).append(demand)
    models = {
        name: Demand(
            in_flight=sum(one.in_flight for one in found),
            queued=sum(one.queued for one in found),
            longest_wait_seconds=max(one.longest_wait_seconds for one in found),
            idle_seconds=min(one.idle_seconds for one in found),
        )
        for name, found in by_model.items()
    }
    return Feed(models, {url: model for feed in feeds for url, model in feed.sick.items()})


class Memory(msgspec.Struct, frozen=True):
    """What proxies tell each other of the servers' memory: the copies that are ``used``, or on their way, and
    those that are ``leaving`` to make room, each by URL and model; and arrivals a second by model.
    """

    used: frozenset[tuple[str, str]] = frozenset()
    leaving: frozenset[tuple[str, str]] = frozenset()
    rates: Mapping[str, float] = {}

    def outline(self) -> tuple[frozenset[tuple[str, str]], frozenset[tuple[str, str]]]:
        """Return what is worth telling at once."""
        return self.used, self.leaving


def united(memories: Sequence[Memory]) -> Memory:
    """Return what several proxies tell in all."""
    rates: dict[str, float] = {}
    for memory in memories:
        for model, rate in memory.rates.items():
            rates[model] = rates.get(model, 0.0) + rate
    return Memory(
        frozenset().union(*(memory.used for memory in memories)),
        frozenset().union(*(memory.leaving for memory in memories)),
        rates,
    )


class QueueFull(Exception):
    """As many wait as may; ``client`` tells whether it is the client's own bound."""

    def __init__(self, *, client: bool) -> None:
        self.client = client


class NeverFits(Exception):
    """No server has the memory for the model, which takes as much as ``needed`` or more; sizes in bytes."""

    def __init__(self, needed: int, memory: int) -> None:
        self.needed = needed
        self.memory = memory
