"""What is asked of the fleet: bursts, as in the simulator, in a sixth of their time."""

import dataclasses
import random

from benchmarks.dispatch import workload

MODELS = workload.names(3)
SECONDS = 300.0
_TIMES_FASTER = 6.0
# As much as small pods can answer, about three of them at the most.
_KEPT = 0.05
# Short questions and answers, as those of classifiers. Medians.
_PROMPT, _ANSWER = 24, 12
_SEED = 6


def arrivals(seconds: float = SECONDS, seed: int = _SEED) -> list[workload.Arrival]:
    """Return requests in the order of their time, the same each time."""
    chance = random.Random(seed)
    slow = workload.bursts(
        models=len(MODELS), seconds=seconds * _TIMES_FASTER, seed=seed, prompt=_PROMPT, answer=_ANSWER
    )
    return [
        dataclasses.replace(arrival, at=arrival.at / _TIMES_FASTER)
        for arrival in slow
        if chance.random() < _KEPT
    ]
