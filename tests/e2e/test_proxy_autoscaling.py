"""The proxy goes from one pod to three and back with what is asked of it, and no answer suffers from it."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import openai
import pytest

from tests.e2e.support import modelset as ms
from tests.e2e.support.kube import Kube
from tests.e2e.support.waiting import until

pytestmark = pytest.mark.long

NAME = "scaled"
MOST = 3
# Two are running at Ollama, the others wait in the proxy: it counts both.
CLIENTS, PARALLEL, TARGET = 9, 2, 3
MORE_SECONDS, FEWER_SECONDS = 300, 420


class Load:
    """Clients that stream one answer after the other, until they are told to stop."""

    def __init__(self, client: openai.OpenAI, pool: ThreadPoolExecutor, clients: int) -> None:
        self._client = client
        self._stop = threading.Event()
        self._running: list[Future[int]] = [pool.submit(self._stream, number) for number in range(clients)]

    def end(self) -> int:
        """Return how many answers there were; raises what went wrong with any of them."""
        self._stop.set()
        return sum(future.result(timeout=ms.READY_SECONDS) for future in self._running)

    def _stream(self, number: int) -> int:
        answers = 0
        while not self._stop.is_set():
            chunks = self._client.chat.completions.create(
                model="smollm2",
                messages=[{"role": "user", "content": f"Count from {number + answers}."}],
                max_completion_tokens=24,
                stream=True,
            )
            reasons = [choice.finish_reason for chunk in chunks for choice in chunk.choices]
            assert reasons[-1] in {"stop", "length"}
            answers += 1
        return answers


def _proxies(kube: Kube) -> dict[str, bool]:
    """The pods of the proxy, and whether each is ready."""
    pods = kube.find("pods", f"modelset.dev/set={NAME},app.kubernetes.io/component=proxy")
    conditions = {pod["metadata"]["name"]: pod["status"].get("conditions", []) for pod in pods}
    return {
        name: any(one["type"] == "Ready" and one["status"] == "True" for one in found)
        for name, found in conditions.items()
    }


@pytest.mark.timeout(ms.READY_SECONDS * 2 + MORE_SECONDS + FEWER_SECONDS)
def test_one_to_three_and_back_without_a_failed_request(kube: Kube, record_testsuite_property: Any) -> None:
    manifest = ms.manifest(NAME, [ms.CHAT])
    manifest["spec"]["ollama"] |= {"parallel": PARALLEL}
    manifest["spec"]["proxy"] |= {
        "autoscaling": {"maxReplicas": MOST, "targetOngoingRequests": TARGET},
        # Two proxies begin on a machine that Ollama keeps busy.
        "limits": {"queueTimeoutSeconds": ms.READY_SECONDS},
    }
    kube.apply(manifest)
    scaled = ms.ModelSet(kube, NAME)
    scaled.await_ready()
    before = scaled.condition("Ready")
    assert list(_proxies(kube).values()) == [True]
    with (
        ThreadPoolExecutor(CLIENTS) as pool,
        scaled.client() as plain,
        plain.with_options(timeout=ms.READY_SECONDS) as client,
    ):
        many = Load(client, pool, CLIENTS)
        until(
            lambda: _proxies(kube),
            lambda pods: len(pods) == MOST and all(pods.values()),
            seconds=MORE_SECONDS,
            what="there are three proxies",
        )
        answers = many.end()
        few = Load(client, pool, 1)
        until(
            lambda: _proxies(kube),
            lambda pods: list(pods.values()) == [True],
            seconds=FEWER_SECONDS,
            what="there is one proxy again",
        )
        answers += few.end()
    record_testsuite_property("proxy autoscaling", f"{answers} answers, none failed")
    # Neither Serve's scaling nor Ray's is a change of the set: it has been Ready all the time.
    assert scaled.condition("Ready") == before
