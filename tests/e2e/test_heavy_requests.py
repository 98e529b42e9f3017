"""Requests that nobody's model can take hold up nobody: they are refused before Ollama sees them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import httpx
import pytest

from tests.e2e.support import modelset as ms
from tests.e2e.support.waiting import until

# An ordinary chat takes some tenths of a second here, and the test itself makes, and sends through a port
# forward, megabytes on the same two cores: that is not the proxy's doing.
ALLOWANCE_SECONDS = 0.3
# What a model was loaded with is seen within a few seconds.
SEEN_SECONDS = 30
CHATS_BEFORE = 12
CHATS_DURING = 12
# What a request holds up it holds up each time; what else the machine does comes and goes.
ROUNDS = 3


@pytest.fixture
def url(assistants: ms.ModelSet) -> Iterator[str]:
    with assistants.kube.forward(f"service/{assistants.name}-serve-svc", 8000) as port:
        yield f"http://127.0.0.1:{port}/v1/chat/completions"


def _alternating(count: int) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[number % 2], "content": ""} for number in range(count)]


HEAVY = {
    "100,000 messages": _alternating(100_000),
    "10 MB in one message": [{"role": "user", "content": "word " * 2_000_000}],
}


def _body(messages: list[dict[str, str]]) -> bytes:
    fields = {"model": "smollm2", "messages": messages, "max_tokens": 8, "temperature": 0, "seed": 1}
    return json.dumps(fields).encode()


def _ask(url: str, body: bytes) -> tuple[float, int, dict[str, Any]]:
    """Return how long an answer of a few tokens took, its status and its body."""
    began = time.monotonic()
    response = httpx.post(url, content=body, headers={"content-type": "application/json"}, timeout=120)
    return time.monotonic() - began, response.status_code, response.json()


def _chat(url: str) -> float:
    seconds, status, body = _ask(url, _body([{"role": "user", "content": "Say hello."}]))
    assert status == 200, body
    return seconds


def _chats_beside(url: str, heavy_body: bytes) -> list[float]:
    """Return how long chats took while a heavy request was refused."""
    took: list[float] = []
    with futures.ThreadPoolExecutor(1) as another:
        heavy = another.submit(_ask, url, heavy_body)
        while len(took) < CHATS_DURING or not heavy.done():
            took.append(_chat(url))
        _, status, body = heavy.result()
    assert (status, body["error"]["code"]) == (400, "context_length_exceeded")
    assert "maximum context length is" in body["error"]["message"]
    return took


@pytest.mark.parametrize("messages", HEAVY.values(), ids=HEAVY.keys())
def test_a_request_that_cannot_fit_holds_up_nobody(url: str, messages: list[dict[str, str]]) -> None:
    usual = max(_chat(url) for _ in range(CHATS_BEFORE))
    until(
        lambda: _ask(url, _body(_alternating(9_000)))[2],
        lambda body: "the request has at least" in body.get("error", {}).get("message", ""),
        seconds=SEEN_SECONDS,
        what="the proxy knows what the model was loaded with",
    )

    # Made before anything is timed: it would hold up the chats of this process.
    heavy_body = _body(messages)
    bound = 2 * usual + ALLOWANCE_SECONDS
    rounds: list[list[float]] = []
    while not rounds or (max(rounds[-1]) > bound and len(rounds) < ROUNDS):
        rounds.append(_chats_beside(url, heavy_body))

    assert max(rounds[-1]) <= bound, f"usually up to {usual:.2f} s, beside it {rounds}"
