"""What is measured of one contender in front of the stub, and in front of a real Ollama.

A measure is one run of the driver. Beside what that saw, its result says how much CPU each part of the
contender took meanwhile (``cpu_seconds``) and everybody who has no part in this (``elsewhere_cpu_seconds``).
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
import resource
import time
from collections.abc import Sequence
from typing import Any

from benchmarks import contenders, load_tool, loopback, processes

Result = dict[str, Any]

IDLE_STREAMS = 1000
_SETTLE_SECONDS = 3.0


@dataclasses.dataclass(frozen=True)
class Measure:
    """One run of the driver: which kind of load, of which model, with which flags."""

    name: str
    kind: str
    model: str
    flags: dict[str, str]


def _streams(name: str, model: str, clients: int, tokens: int, spread: str, limit: str) -> Measure:
    flags = {"clients": str(clients), "tokens": str(tokens), "spread": spread, "limit": limit}
    return Measure(name, "streams", model, flags)


# Limits leave a contender that is too slow some seconds more than one that keeps up needs. The measures that
# leave such a one with unread streams come last.
ON_THE_STUB = (
    Measure("unary_1", "unary", "fast", {"clients": "1", "warmup": "20", "limit": "3s"}),
    Measure("unary_32", "unary", "fast", {"clients": "32", "warmup": "64", "limit": "4s"}),
    Measure("embed_32", "embed", "embed", {"clients": "32", "warmup": "64", "limit": "4s"}),
    _streams("streams_32", "paced", 32, 250, "1s", "9s"),
    _streams("streams_32_at_once", "paced", 32, 100, "0s", "4s"),
    Measure("cancel", "cancel", "paced", {"tokens": "200", "count": "100", "limit": "15s"}),
    Measure("idle", "hold", "idle", {"clients": str(IDLE_STREAMS), "limit": "12s"}),
    _streams("unpaced_32", "fast", 32, 1000, "0s", "5s"),
    _streams("streams_256", "paced", 256, 250, "2s", "10s"),
)
ON_OLLAMA = (
    Measure("unary_1", "unary", "chat", {"warmup": "3", "count": "40", "tokens": "1", "limit": "15s"}),
    Measure("embed_1", "embed", "embed", {"warmup": "3", "count": "100", "limit": "10s"}),
    Measure("embed_4", "embed", "embed", {"clients": "4", "warmup": "8", "limit": "6s"}),
)


def on_the_stub(running: contenders.Running, upstream: contenders.Upstream) -> dict[str, Result]:
    """Check that answers arrive unchanged, then take every measure."""
    load_tool.drive("verify", url=running.url, model="fast", limit="30s")
    return _all(running, upstream, ON_THE_STUB, settle=True)


def on_ollama(running: contenders.Running, upstream: contenders.Upstream) -> dict[str, Result]:
    """Take the measures that a real model, which is slow itself, leaves anything to be seen of."""
    names = {"chat": upstream.chat_models[0], "embed": upstream.embedding_model}
    real = [dataclasses.replace(measure, model=names[measure.model]) for measure in ON_OLLAMA]
    return _all(running, upstream, real, settle=False)


def _all(
    running: contenders.Running, upstream: contenders.Upstream, wanted: Sequence[Measure], *, settle: bool
) -> dict[str, Result]:
    results: dict[str, Result] = {}
    failures: Result = {}
    for measure in wanted:
        flags = {"url": running.url, "api": running.api, "model": measure.model, **measure.flags}
        if measure.kind in ("cancel", "hold"):
            flags["control"] = upstream.url
        take = _idle if measure.kind == "hold" else _measured
        try:
            results[measure.name] = take(running, upstream, measure.kind, flags)
        except load_tool.LoadFailedError as problem:
            failures[measure.name] = str(problem)
        if settle:
            _settle(upstream)
    return {**results, "failures": failures} if failures else results


def _settle(upstream: contenders.Upstream) -> None:
    """Wait until the stub sends no stream any more; a contender may go on reading what nobody wants."""

    def quiet() -> bool:
        counts = loopback.get(f"{upstream.url}/stub/counts")
        return counts is not None and json.loads(counts)["running"] == 0

    with contextlib.suppress(processes.NotStartedError):
        upstream.group.until(quiet, seconds=_SETTLE_SECONDS, what="the stub is idle")


def _measured(
    running: contenders.Running, upstream: contenders.Upstream, kind: str, flags: dict[str, str]
) -> Result:
    before = _Usage(running, upstream)
    result = load_tool.drive(kind, **flags)
    after = _Usage(running, upstream)
    result["cpu_seconds"] = after.parts_since(before)
    result["elsewhere_cpu_seconds"] = round(after.elsewhere_since(before), 2)
    result["wall_seconds"] = round(after.at - before.at, 2)
    return result


def _idle(
    running: contenders.Running, _upstream: contenders.Upstream, _kind: str, flags: dict[str, str]
) -> Result:
    before = _memory(running)
    with load_tool.holding(**flags) as result:
        held = _memory(running)
    result["memory_bytes"] = dict(held)
    result["memory_before_bytes"] = dict(before)
    return result


def _memory(running: contenders.Running) -> collections.Counter[str]:
    sizes: collections.Counter[str] = collections.Counter()
    for process in running.group.processes():
        sizes[running.part(processes.command_line(process.pid))] += processes.memory(process.pid)
    return sizes


class _Usage:
    """CPU seconds up to now: of the contender's processes, and of the whole machine."""

    def __init__(self, running: contenders.Running, upstream: contenders.Upstream) -> None:
        own = running.group.processes()
        self.at = time.monotonic()
        self._parts = {
            (process.pid, process.started): (running.part(processes.command_line(process.pid)), process.cpu)
            for process in own
        }
        driver = resource.getrusage(resource.RUSAGE_CHILDREN)
        involved = {process.pid: process.cpu for process in [*own, *upstream.group.processes()]}
        self._involved = sum(involved.values()) + driver.ru_utime + driver.ru_stime
        self._machine = processes.machine_cpu()

    def parts_since(self, before: _Usage) -> dict[str, float]:
        sums: dict[str, float] = collections.defaultdict(float)
        for key, (part, cpu) in self._parts.items():
            sums[part] += cpu - before._parts.get(key, (part, 0.0))[1]
        return {part: round(cpu, 2) for part, cpu in sorted(sums.items())}

    def elsewhere_since(self, before: _Usage) -> float:
        return max(0.0, (self._machine - before._machine) - (self._involved - before._involved))
