"""What is asked of the fleet: bursts, as in the simulator, in a sixth of their time."""

import dataclasses
import random

from benchmarks.dispatch import workload

MODELS = workload.names(3)
SECONDS = 300.0
_TIMES_FASTER = 6.0
# Requests, of as many as one pod answers when it answers all the time. Bursts then take two to three pods.
_SHARE = 0.8
# Short questions and answers, as those of classifiers. Medians.
_PROMPT, _ANSWER = 24, 12
_SEED = 6


def arrivals(a_second: float, seconds: float = SECONDS, seed: int = _SEED) -> list[workload.Arrival]:
    """Return requests in the order of their time, for pods that answer so many a second."""
    chance = random.Random(seed)
    slow = workload.bursts(
        models=len(MODELS), seconds=seconds * _TIMES_FASTER, seed=seed, prompt=_PROMPT, answer=_ANSWER
    )
    kept = _SHARE * a_second * seconds / len(slow)
    return [
        dataclasses.replace(arrival, at=arrival.at / _TIMES_FASTER)
        for arrival in slow
        if chance.random() < kept
    ]


def alike(count: int, seed: int = _SEED) -> list[workload.Arrival]:
    """Return so many requests as those, of one model and all at once."""
    busy = workload.bursts(
        models=1, seconds=SECONDS * _TIMES_FASTER, seed=seed, prompt=_PROMPT, answer=_ANSWER
    )
    return [dataclasses.replace(arrival, at=0.0) for arrival in busy[:count]]
