"""What clients ask for: who, when, which model, and how much. Seconds and tokens."""

import dataclasses
import itertools
import math
import random
from collections.abc import Iterator, Sequence

from modelset_proxy.dispatch import facts


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
