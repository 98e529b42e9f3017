"""What loading, reading and answering takes at real servers that are all at work: the simulator's speeds."""

import asyncio
import contextlib
import dataclasses
import itertools
import time
from collections.abc import Iterable, Sequence

from benchmarks.dispatch import live, servers, workload
from modelset_proxy.engines import port


@dataclasses.dataclass(frozen=True)
class Timed:
    """One answer: whether its model had to be loaded for it, seconds and tokens."""

    loaded: bool
    first: float
    answering: float
    prompt: float
    prompt_tokens: int
    answer_tokens: int


async def timed(
    engine: port.Engine, urls: Sequence[str], models: live.Models, arrivals: Sequence[workload.Arrival]
) -> list[Timed]:
    """Have each server asked by one client, for one model twice and then for the next: every other request
    needs a load. The ``arrivals`` say how long prompts and answers are.
    """
    return [
        answer
        for found in await asyncio.gather(*(_timed(engine, url, models, arrivals) for url in urls))
        for answer in found
    ]


async def _timed(
    engine: port.Engine, url: str, models: live.Models, arrivals: Sequence[workload.Arrival]
) -> list[Timed]:
    found = []
    turns = itertools.cycle(models.values())
    for first, second in itertools.pairwise(arrivals):
        model = next(turns)
        for loads, arrival in ((True, first), (False, second)):
            attempt = port.Attempt("", url)
            asked = time.monotonic()
            began = 0.0
            job = await live.translated(engine, model, arrival)
            async with contextlib.aclosing(job.ask(url, 0, attempt)) as answer:
                async for _ in answer:
                    began = began or time.monotonic()
            how = attempt.outcome
            found.append(
                Timed(
                    loads,
                    began - asked,
                    time.monotonic() - began,
                    how.prompt_seconds,
                    how.prompt_tokens,
                    how.answer_tokens,
                )
            )
    return found


def speed(answers: Iterable[Timed]) -> servers.Speed:
    """Return what answers took on average, and how single ones differed from that."""
    answers = list(answers)
    here = [one for one in answers if not one.loaded]
    away = [one for one in answers if one.loaded]
    found = _mean(one.first for one in here)
    load = _mean(one.first for one in away) - found
    return servers.Speed(
        request=found - _mean(one.prompt for one in here),
        load=load,
        loads_vary=tuple(max(0.0, one.first - found) / load for one in away),
        requests_vary=tuple(one.first / found for one in here),
        prompt=sum(one.prompt_tokens for one in here) / sum(one.prompt for one in here),
        answer=sum(one.answer_tokens for one in answers) / sum(one.answering for one in answers),
    )


def _mean(values: Iterable[float]) -> float:
    those = list(values)
    return sum(those) / len(those)
