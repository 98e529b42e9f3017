"""A client that asks a set all the while that something is done to it or around it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import openai

from stack.step import StepFailed
from tests.e2e.support import modelset as ms

QUESTION = [{"role": "user", "content": "hi"}]


@dataclass
class Traffic:
    """What has come of the requests so far."""

    answers: int = 0
    problems: list[str] = field(default_factory=list)


@contextlib.contextmanager
def steady(live: ms.ModelSet) -> Iterator[Traffic]:
    """Ask while the body runs, each time on a way of its own to the Service; one answer at least."""
    traffic, stop = Traffic(), threading.Event()

    def ask_on() -> None:
        while not (stop.is_set() and traffic.answers + len(traffic.problems)):
            _ask(live, traffic)

    with ThreadPoolExecutor(1) as clients:
        asking = clients.submit(ask_on)
        try:
            yield traffic
        finally:
            stop.set()
    asking.result()


def _ask(live: ms.ModelSet, traffic: Traffic) -> None:
    try:
        with live.client() as client:
            answer = client.chat.completions.create(
                model="smollm2",
                messages=QUESTION,  # type: ignore[arg-type]
                max_completion_tokens=2,
            )
    except (openai.APIError, StepFailed) as problem:
        traffic.problems.append(str(problem))
        return
    if answer.choices[0].finish_reason:
        traffic.answers += 1
    else:
        traffic.problems.append("no end")
