"""What clients ask for: who, when, which model, and how much. Seconds and tokens."""

import dataclasses
import itertools
import math
import random
from collections.abc import Iterator, Sequence

from modelset_proxy.dispatch import facts

# Of ``bursts``: how long one lasts and how long after it the next comes, how many requests a second the most
# popular model gets in one, and for how long people are there and are not.
_BURST_SECONDS = 180.0
_PAUSE_SECONDS = 300.0
_BURST_RATE = 2.0
_AWAKE_SECONDS = (900.0, 1800.0)
_QUIET_SECONDS = (300.0, 1200.0)


@dataclasses.dataclass(frozen=True)
class Arrival:
    """One request, and how long its answer is going to be."""

    at: float
    request: facts.Request
    answer_tokens: int


def names(models: int) -> list[str]:
    """Return what so many models are called."""
    return [f"model-{number}" for number in range(models)]


def shifting_popularity(
    *,
    models: int,
    requests: int,
    a_second: float,
    exponent: float,
    seed: int,
    prompt: float = 150,
    answer: float = 45,
) -> Iterator[Arrival]:
    """Yield requests whose models follow Zipf's law; half-way, which models are popular changes.

    ``prompt`` and ``answer`` are the medians of their tokens.
    """
    chance = random.Random(seed)
    ranking = names(models)
    weights = [1.0 / rank**exponent for rank in range(1, models + 1)]
    chance.shuffle(ranking)
    now = 0.0
    for number in range(requests):
        if number == requests // 2:
            chance.shuffle(ranking)
        now += chance.expovariate(a_second)
        [model] = chance.choices(ranking, weights)
        read = max(1, int(chance.lognormvariate(math.log(prompt), 0.7)))
        written = max(1, int(chance.lognormvariate(math.log(answer), 0.6)))
        prefix = tuple(hash((model, number, block)) for block in range(read // 64))
        yield Arrival(now, facts.Request(number, model, "", prefix, read), written)


def bursts(
    *, models: int, seconds: float, seed: int, prompt: float = 200, answer: float = 100
) -> list[Arrival]:
    """Return what is asked of models that each have bursts of their own, and at times nothing of any.

    ``prompt`` and ``answer`` are the medians of their tokens. The most popular model has bursts of two
    requests a second, every few minutes; others fewer, and rarer ones.
    """
    chance = random.Random(seed)
    quiet: list[tuple[float, float]] = []
    now = 0.0
    while now < seconds:
        begins = now + chance.uniform(*_AWAKE_SECONDS)
        now = begins + chance.uniform(*_QUIET_SECONDS)
        quiet.append((begins, now))
    asked: list[tuple[float, str]] = []
    for rank, model in enumerate(names(models), start=1):
        now = chance.expovariate(1 / _PAUSE_SECONDS)
        while now < seconds:
            ends = now + chance.lognormvariate(math.log(_BURST_SECONDS), 0.6)
            rate = _BURST_RATE / rank * chance.lognormvariate(0.0, 0.5)
            while (now := now + chance.expovariate(rate)) < ends:
                asked.append((now, model))
            now = ends + chance.expovariate(1 / (_PAUSE_SECONDS * math.sqrt(rank)))
    arrivals = []
    for number, (at, model) in enumerate(sorted(asked)):
        if at < seconds and not any(begins <= at < ends for begins, ends in quiet):
            read = max(1, int(chance.lognormvariate(math.log(prompt), 0.7)))
            written = max(1, int(chance.lognormvariate(math.log(answer), 0.6)))
            arrivals.append(Arrival(at, facts.Request(number, model, prompt_tokens=read), written))
    return arrivals


def conversations(
    *, clients: Sequence[float], seconds: float, system_tokens: int, seed: int
) -> Iterator[Arrival]:
    """Yield more than one model can answer, by clients that send so many times as much as the others.

    Each client's prompts begin with words of its own, as those of one application do.
    """
    chance = random.Random(seed)
    ids = itertools.count()
    arrivals: list[Arrival] = []
    for client, share in enumerate(clients):
        own = tuple(hash((client, block)) for block in range(system_tokens // 64))
        now = 0.0
        while (now := now + chance.expovariate(share)) < seconds:
            rest = int(chance.lognormvariate(4.0, 0.5))
            number = next(ids)
            prefix = (*own, hash((client, number)))
            request = facts.Request(number, "model", f"client-{client}", prefix, system_tokens + rest)
            arrivals.append(Arrival(now, request, max(1, int(chance.lognormvariate(3.8, 0.6)))))
    yield from sorted(arrivals, key=lambda arrival: arrival.at)


def belady_loads(arrivals: Sequence[Arrival], slots: int) -> int:
    """Return the fewest loads with which requests can be served in their order, had all memory been one.

    The future is known: what is needed furthest ahead gives way (Belady, 1966). No server can reach it.
    """
    never = len(arrivals)
    following = [never] * len(arrivals)
    upcoming: dict[str, int] = {}
    for index in range(len(arrivals) - 1, -1, -1):
        model = arrivals[index].request.model
        following[index] = upcoming.get(model, never)
        upcoming[model] = index
    needed: dict[str, int] = {}
    loads = 0
    for index, arrival in enumerate(arrivals):
        model = arrival.request.model
        if model not in needed:
            loads += 1
            if len(needed) == slots:
                del needed[max(needed, key=lambda held: needed[held])]
        needed[model] = following[index]
    return loads
