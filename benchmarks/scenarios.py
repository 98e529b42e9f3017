"""What clients do in the routing benchmark, the same for every front. Random, but of a fixed seed."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Sequence
from concurrent import futures

from benchmarks import asking

_WORDS = ("river", "stone", "lantern", "copper", "meadow", "winter", "harbour", "signal", "cotton", "bridge")

TWO_MODELS_CLIENTS = 8
TWO_MODELS_SECONDS = 20.0
TWO_MODELS_TOKENS = 8

CONVERSATIONS = 6
TURNS = 8
TALKERS = 2
PREFIX_WORDS = 300
TURN_WORDS = 12
TURN_TOKENS = 8

Figures = dict[str, float]


def two_models(front: asking.Front, models: Sequence[str]) -> Figures:
    """Clients that each ask one of two models at random, again and again."""
    began = time.monotonic()

    def client(number: int) -> list[asking.Answer]:
        chance = random.Random(number)  # noqa: S311 - not for secrets
        answers = []
        while time.monotonic() - began < TWO_MODELS_SECONDS:
            messages = [{"role": "user", "content": _text(chance, 6)}]
            answers.append(front.chat(chance.choice(models), messages, TWO_MODELS_TOKENS))
        return answers

    with futures.ThreadPoolExecutor(TWO_MODELS_CLIENTS) as pool:
        answers = [one for found in pool.map(client, range(TWO_MODELS_CLIENTS)) for one in found]
    seconds = max(answer.ended for answer in answers) - began
    waits = [answer.wait for answer in answers]
    return {
        "answers a second": len(answers) / seconds,
        "first token, median, s": statistics.median(waits),
        "first token, p95, s": _p95(waits),
        "answers": float(len(answers)),
    }


def conversations(front: asking.Front, model: str) -> Figures:
    """Conversations that each begin with a long text of their own, taking turns in an order that varies."""
    chance = random.Random(1)  # noqa: S311 - not for secrets
    talks: list[list[asking.Message]] = [
        [{"role": "system", "content": _text(chance, PREFIX_WORDS)}] for _ in range(CONVERSATIONS)
    ]
    firsts: list[float] = []
    later: list[float] = []
    with futures.ThreadPoolExecutor(TALKERS) as pool:
        for turn in range(TURNS):
            order = chance.sample(talks, len(talks))
            for talk in order:
                talk.append({"role": "user", "content": _text(chance, TURN_WORDS)})
            for talk, answer in zip(
                order, pool.map(lambda talk: front.chat(model, talk, TURN_TOKENS), order), strict=True
            ):
                talk.append({"role": "assistant", "content": answer.text})
                (later if turn else firsts).append(answer.wait)
    return {
        "first token, first turn, mean, s": statistics.mean(firsts),
        "first token, from the second turn on, median, s": statistics.median(later),
        "first token, from the second turn on, mean, s": statistics.mean(later),
        "first token, from the second turn on, p95, s": _p95(later),
    }


def _p95(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=20, method="inclusive")[-1]


def _text(chance: random.Random, words: int) -> str:
    return " ".join(chance.choice(_WORDS) for _ in range(words))
