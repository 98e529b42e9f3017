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
TWO_MODELS_SECONDS = 40.0
# As a classifier is asked. The model is small and its file in memory already, so it loads in half a second;
# larger ones take longer to load by more than they take longer to answer.
TWO_MODELS_WORDS = 3
TWO_MODELS_TOKENS = 1

TALKERS = 6
CONVERSATIONS_EACH = 2
TURNS = 8
PREFIX_WORDS = 600
TURN_WORDS = 12
TURN_TOKENS = 8

Figures = dict[str, float]


def two_models(front: asking.Front, models: Sequence[str]) -> Figures:
    """Clients that each ask one of two models at random, again and again."""
    began = time.monotonic()

    def client(number: int) -> list[asking.Answer]:
        chance = random.Random(number)
        answers = []
        while time.monotonic() - began < TWO_MODELS_SECONDS:
            messages = [{"role": "user", "content": _text(chance, TWO_MODELS_WORDS)}]
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
    """People who each hold one conversation after another; every one begins with a long text of its own."""

    def person(number: int) -> list[list[asking.Answer]]:
        chance = random.Random(number)
        return [_conversation(front, model, chance) for _ in range(CONVERSATIONS_EACH)]

    with futures.ThreadPoolExecutor(TALKERS) as pool:
        talks = [talk for held in pool.map(person, range(TALKERS)) for talk in held]
    firsts = [talk[0].wait for talk in talks]
    later = [answer.wait for talk in talks for answer in talk[1:]]
    return {
        "first token, first turn, mean, s": statistics.mean(firsts),
        "first token, from the second turn on, median, s": statistics.median(later),
        "first token, from the second turn on, mean, s": statistics.mean(later),
        "first token, from the second turn on, p95, s": _p95(later),
    }


def _conversation(front: asking.Front, model: str, chance: random.Random) -> list[asking.Answer]:
    messages: list[asking.Message] = [{"role": "system", "content": _text(chance, PREFIX_WORDS)}]
    answers = []
    for _ in range(TURNS):
        messages.append({"role": "user", "content": _text(chance, TURN_WORDS)})
        answers.append(front.chat(model, messages, TURN_TOKENS))
        messages.append({"role": "assistant", "content": answers[-1].text})
    return answers


def _p95(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=20, method="inclusive")[-1]


def _text(chance: random.Random, words: int) -> str:
    return " ".join(chance.choice(_WORDS) for _ in range(words))
