"""An Ollama pod is killed under load: no unary request fails while another one holds the model."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import openai

from tests.e2e.support import modelset as ms
from tests.e2e.support.kube import Kube
from tests.e2e.support.waiting import until

UNARY_CLIENTS = 32
STREAMING_CLIENTS = 32
ANSWER_SECONDS = 300

Result = TypeVar("Result")


@dataclass(frozen=True)
class Stream:
    """How a stream ended: with its last chunk, or with an error event after some chunks."""

    chunks: int
    finished: bool
    error: str


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


def _stream(client: openai.OpenAI, begun: threading.Semaphore) -> Stream:
    chunks, finished = 0, False
    try:
        for chunk in client.chat.completions.create(
            model="smollm2",
            messages=[{"role": "user", "content": "Tell me a story."}],
            max_completion_tokens=48,
            stream=True,
        ):
            chunks += 1
            if chunks == 2:
                begun.release()
            finished = finished or bool(chunk.choices and chunk.choices[0].finish_reason)
    except openai.APIError as error:
        return Stream(chunks, finished, error.message)
    return Stream(chunks, finished, "")


def test_requests_move_to_the_other_pod_and_cut_streams_say_so(kube: Kube) -> None:
    manifest = ms.manifest("paired", [ms.CHAT])
    manifest["spec"]["ollama"]["replicas"] = 2
    manifest["spec"]["proxy"]["limits"] = {"queueTimeoutSeconds": ANSWER_SECONDS}
    kube.apply(manifest)
    paired = ms.ModelSet(kube, "paired")
    paired.await_ready()

    killed, begun = threading.Event(), threading.Semaphore(0)
    with (
        paired.client() as plain,
        plain.with_options(timeout=ANSWER_SECONDS) as client,
        ThreadPoolExecutor(UNARY_CLIENTS + STREAMING_CLIENTS) as clients,
    ):
        streams = [clients.submit(_stream, client, begun) for _ in range(STREAMING_CLIENTS)]
        unary = [clients.submit(_ask, client, killed) for _ in range(UNARY_CLIENTS)]
        assert begun.acquire(timeout=ANSWER_SECONDS), "no stream began"
        kube.run("delete", "pod", "paired-ollama-1", "--grace-period=0", "--force", "--wait=false")
        killed.set()
        answers = _results(unary)
        ended = _results(streams)

    assert len(answers) == UNARY_CLIENTS
    assert len(ended) == STREAMING_CLIENTS
    for stream in ended:
        assert stream.finished != bool(stream.error), "a stream ends whole, or with an error event"
        assert not stream.error or stream.chunks, "before its first chunk a stream moves to the other pod"
    until(
        lambda: paired.condition("OllamaReady"),
        lambda condition: condition.get("status") == "True",
        seconds=ms.READY_SECONDS,
        what="the pod is back with its model",
    )


def _results(futures: list[Future[Result]]) -> list[Result]:
    return [future.result(timeout=ANSWER_SECONDS) for future in futures]
