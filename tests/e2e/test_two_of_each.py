"""Two proxies in front of two Ollamas: slots that are counted once, and a runner that freezes."""

from __future__ import annotations

import itertools
import re
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import httpx
import openai

from tests.e2e.support import modelset as ms
from tests.e2e.support.kube import Kube
from tests.e2e.support.waiting import until

PARALLEL = 2
CLIENTS = 24
PODS = ("pair-ollama-0", "pair-ollama-1")
ANSWER_SECONDS = 300
AVOIDED_SECONDS = 10
HEALED_SECONDS = 120
# The processes that run models; their parent serves the API.
_SIGNAL = (
    "for p in /proc/[0-9]*; do "
    "if tr '\\0' '\\n' < $p/cmdline 2>/dev/null | grep -qx runner; then kill $1 ${p#/proc/} && echo $p; fi; "
    "done"
)
_LINE = re.compile(r"^(\S+) \[GIN\] .*\| +200 \| +(\S+) \| .* POST +\"/api/chat\"")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9}


def _ask(client: openai.OpenAI, number: int, **more: Any) -> float:
    """Ask and return how many seconds the answer took."""
    began = time.monotonic()
    request: dict[str, Any] = {"max_completion_tokens": 16, "temperature": 0, **more}
    answer = client.chat.completions.create(
        model="smollm2", messages=[{"role": "user", "content": f"Count from {number}."}], **request
    )
    assert answer.choices[0].finish_reason in {"stop", "length"}
    return time.monotonic() - began


def _answered(kube: Kube, pod: str, since: str) -> list[tuple[float, float]]:
    """Return when Ollama began and ended each request, from its own log."""
    found = []
    for line in kube.run("logs", pod, "--timestamps", f"--since-time={since}").splitlines():
        if match := _LINE.match(line):
            ended = datetime.fromisoformat(match[1]).timestamp()
            spent = sum(
                float(number) * _SECONDS[unit]
                for number, unit in re.findall(r"([0-9.]+)(h|ms|m|s|µs|ns)", match[2])
            )
            found.append((ended - spent, ended))
    return found


def _most_at_once(answered: list[tuple[float, float]]) -> int:
    """Count how many ran at a time.

    On a busy machine lines of the log get their time up to a tenth of a second late, which moves a request
    as a whole and has it overlap with the next one. One too many would overlap for all its length.
    """
    seam = min(ended - began for began, ended in answered) / 4
    changes = [(began + seam, 1) for began, _ in answered] + [(ended - seam, -1) for _, ended in answered]
    return max(itertools.accumulate(change for _, change in sorted(changes)))


def _runners(kube: Kube, pod: str, signal: str) -> int:
    """Send a signal to the processes that run models; return how many there are."""
    return len(kube.run("exec", pod, "--", "sh", "-c", _SIGNAL, "sh", signal).split())


def test_slots_are_shared_and_a_frozen_runner_is_left_alone(
    kube: Kube, record_testsuite_property: Any
) -> None:
    manifest = ms.manifest("pair", [ms.CHAT])
    manifest["spec"]["ollama"] |= {"replicas": 2, "parallel": PARALLEL}
    manifest["spec"]["proxy"] |= {"replicas": 2, "limits": {"queueTimeoutSeconds": ANSWER_SECONDS}}
    kube.apply(manifest)
    pair = ms.ModelSet(kube, "pair")
    pair.await_ready()
    with (
        ThreadPoolExecutor(CLIENTS) as clients,
        pair.client() as plain,
        plain.with_options(timeout=ANSWER_SECONDS) as client,
    ):
        usual = _no_more_than_slots(client, kube, clients)
        slowest = _left_alone(client, kube, clients)
        record_testsuite_property(
            "a frozen runner", f"slowest of {CLIENTS} requests {slowest:.1f} s, unfrozen {usual:.1f} s"
        )
        assert slowest <= AVOIDED_SECONDS + 2 * usual
        until(
            lambda: httpx.get(f"{client.base_url}health").json(),
            lambda health: health["hanging"] == 0,
            seconds=HEALED_SECONDS,
            what="the server answers again",
        )
        # Ollama ends a runner that does not answer, so both are there again, with another process.
        _no_more_than_slots(client, kube, clients)


def _no_more_than_slots(client: openai.OpenAI, kube: Kube, clients: ThreadPoolExecutor) -> float:
    """Ask with many clients at once; return how long the slowest waited."""
    since = datetime.now(UTC).isoformat()
    slowest = max(clients.map(lambda number: _ask(client, number), range(CLIENTS)))
    answered = {pod: _answered(kube, pod, since) for pod in PODS}
    assert sum(map(len, answered.values())) >= CLIENTS
    for pod in PODS:
        assert len(answered[pod]) >= CLIENTS / 6, f"{pod} was hardly used: {answered}"
        assert _most_at_once(answered[pod]) == PARALLEL
    return slowest


def _left_alone(client: openai.OpenAI, kube: Kube, clients: ThreadPoolExecutor) -> float:
    """Freeze a runner while it answers, ask all the same, and return how long the slowest waited."""
    long = [clients.submit(_ask, client, number, max_completion_tokens=64) for number in range(2 * PARALLEL)]
    until(
        lambda: [pod for pod in PODS if _runners(kube, pod, "-0")],
        lambda found: len(found) == len(PODS),
        seconds=ms.READY_SECONDS,
        what="both have a runner",
    )
    assert _runners(kube, PODS[0], "-STOP") >= 1
    rest = [clients.submit(_ask, client, number) for number in range(CLIENTS - len(long))]
    return max(asked.result(timeout=ANSWER_SECONDS) for asked in [*long, *rest])
