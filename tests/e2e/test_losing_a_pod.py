"""An Ollama pod is killed under load: what had not begun moves to the other one, what had goes on there."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import openai

from tests.e2e.support import modelset as ms
from tests.e2e.support.kube import Kube
from tests.e2e.support.waiting import until

UNARY_CLIENTS = 16
STREAMS = 20
JSON_STREAMS = 4
SLOTS = 12
TOKENS = 40
ANSWER_SECONDS = 300
# An answer that was begun elsewhere is read again in another batch, which may turn a close choice of a word.
EQUAL_AT_LEAST = 0.95
JSON = {"type": "json_schema", "json_schema": {"name": "list", "schema": {"type": "array", "minItems": 60}}}

Result = TypeVar("Result")


@dataclass(frozen=True)
class Stream:
    """What a stream said and how it ended; the longest pause after its first chunk in seconds."""

    text: str
    finished: bool
    error: str
    pause: float


def _question(number: int) -> dict[str, Any]:
    text = f"Tell me a story about {number + 2} friends."
    return {
        "model": "smollm2",
        "messages": [{"role": "user", "content": text}],
        "max_completion_tokens": TOKENS,
        "temperature": 0,
    }


def _ask(client: openai.OpenAI, killed: threading.Event) -> int:
    """Ask again and again until an answer was asked for after the kill; returns how many came."""
    answers = 0
    while True:
        asked_after_the_kill = killed.is_set()
        answer = client.chat.completions.create(
            model="smollm2", messages=[{"role": "user", "content": "hi"}], max_completion_tokens=2
        )
        assert answer.choices[0].finish_reason in {"stop", "length"}
        answers += 1
        if asked_after_the_kill:
            return answers


def _whole(client: openai.OpenAI, number: int) -> str:
    return client.chat.completions.create(**_question(number)).choices[0].message.content or ""


def _stream(client: openai.OpenAI, begun: threading.Semaphore, **request: Any) -> Stream:
    text, finished, pause, chunks = "", False, 0.0, 0
    last = time.monotonic()
    try:
        for chunk in client.chat.completions.create(stream=True, **request):
            now = time.monotonic()
            if chunks:
                pause = max(pause, now - last)
            last, chunks = now, chunks + 1
            if chunks == 2:
                begun.release()
            for choice in chunk.choices:
                text += choice.delta.content or ""
                finished = finished or bool(choice.finish_reason)
    except openai.APIError as error:
        return Stream(text, finished, error.message, pause)
    return Stream(text, finished, "", pause)


def test_streams_go_on_and_requests_move_to_the_other_pod(kube: Kube, record_testsuite_property: Any) -> None:
    manifest = ms.manifest("paired", [ms.CHAT])
    manifest["spec"]["ollama"] |= {"replicas": 2, "parallel": SLOTS}
    manifest["spec"]["proxy"]["limits"] = {"queueTimeoutSeconds": ANSWER_SECONDS}
    kube.apply(manifest)
    paired = ms.ModelSet(kube, "paired")
    paired.await_ready()

    killed, begun = threading.Event(), threading.Semaphore(0)
    with (
        paired.client() as plain,
        plain.with_options(timeout=ANSWER_SECONDS) as client,
        ThreadPoolExecutor(UNARY_CLIENTS + STREAMS + JSON_STREAMS) as clients,
    ):
        undisturbed = _results([clients.submit(_whole, client, number) for number in range(STREAMS)])
        listing = {**_question(0), "response_format": JSON, "max_completion_tokens": 4 * TOKENS}
        listings = [clients.submit(_stream, client, begun, **listing) for _ in range(JSON_STREAMS)]
        streams = [clients.submit(_stream, client, begun, **_question(number)) for number in range(STREAMS)]
        for _ in range(JSON_STREAMS + STREAMS):
            assert begun.acquire(timeout=ANSWER_SECONDS), "not all streams began"
        unary = [clients.submit(_ask, client, killed) for _ in range(UNARY_CLIENTS)]
        kube.run("delete", "pod", "paired-ollama-1", "--grace-period=0", "--force", "--wait=false")
        killed.set()
        assert len(_results(unary)) == UNARY_CLIENTS
        ended, cut = _results(streams), _results(listings)

    assert [stream.error for stream in ended] == [""] * STREAMS
    assert all(stream.finished for stream in ended)
    equal = sum(stream.text == text for stream, text in zip(ended, undisturbed, strict=True))
    pause = max(stream.pause for stream in ended)
    record_testsuite_property(
        "streams that went on", f"{equal} of {STREAMS} equal, longest pause {pause:.1f} s"
    )
    assert equal >= EQUAL_AT_LEAST * STREAMS, [
        (stream.text, text) for stream, text in zip(ended, undisturbed, strict=True) if stream.text != text
    ]
    for stream in cut:
        assert stream.finished != bool(stream.error), (
            "what follows a schema ends whole, or with an error event"
        )
    assert any(stream.error for stream in cut), "no schema was followed on the pod that was killed"
    until(
        lambda: paired.condition("OllamaReady"),
        lambda condition: condition.get("status") == "True",
        seconds=ms.READY_SECONDS,
        what="the pod is back with its model",
    )


def _results(futures: list[Future[Result]]) -> list[Result]:
    return [future.result(timeout=ANSWER_SECONDS) for future in futures]
