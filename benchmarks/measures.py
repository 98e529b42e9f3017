"""What is measured of one contender in front of the stub, and in front of a real Ollama.

A measure is one run of the driver. Beside what that saw, its result says how much CPU each part of the
contender took meanwhile (``cpu_seconds``) and everybody who has no part in this (``elsewhere_cpu_seconds``).
"""

from __future__ import annotations

import collections
import dataclasses
import resource
import time
from typing import Any

from benchmarks import contenders, load_tool, processes

Result = dict[str, Any]

IDLE_STREAMS = 1000


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


# Limits leave a contender that is too slow some seconds more than one that keeps up needs.
ON_THE_STUB = (
    Measure("unary_1", "unary", "fast", {"clients": "1", "warmup": "20", "limit": "4s"}),
    Measure("unary_32", "unary", "fast", {"clients": "32", "warmup": "64", "limit": "5s"}),
    Measure("embed_32", "embed", "embed", {"clients": "32", "warmup": "64", "limit": "4s"}),
    _streams("streams_32", "paced", 32, 400, "1s", "14s"),
    _streams("streams_32_at_once", "paced", 32, 150, "0s", "8s"),
    _streams("streams_256", "paced", 256, 400, "2s", "15s"),
    _streams("unpaced_32", "fast", 32, 2000, "0s", "8s"),
)


def on_the_stub(running: contenders.Running, upstream: contenders.Upstream) -> dict[str, Result]:
    """Check that answers arrive unchanged, then take every measure."""
    load_tool.drive("verify", url=running.url, model="fast", limit="30s")
    results = {
        measure.name: _measured(running, upstream, measure.kind, model=measure.model, **measure.flags)
        for measure in ON_THE_STUB
    }
    flags = {"model": "paced", "control": upstream.url}
    results["cancel"] = _measured(
        running, upstream, "cancel", **flags, tokens="500", count="100", limit="15s"
    )
    results["idle"] = _idle(running, upstream)
    return results


def on_ollama(running: contenders.Running, upstream: contenders.Upstream) -> dict[str, Result]:
    """Take the measures that a real model, which is slow itself, leaves anything to be seen of."""
    chat = {"model": upstream.chat_models[0], "api": running.api}
    embed = {"model": upstream.embedding_model, "api": running.api}
    return {
        "unary_1": _measured(
            running, upstream, "unary", **chat, warmup="3", count="40", tokens="1", limit="15s"
        ),
        "embed_1": _measured(running, upstream, "embed", **embed, warmup="3", count="100", limit="10s"),
        "embed_4": _measured(running, upstream, "embed", **embed, clients="4", warmup="8", limit="6s"),
    }


def _measured(running: contenders.Running, upstream: contenders.Upstream, kind: str, **flags: str) -> Result:
    before = _Usage(running, upstream)
    result = load_tool.drive(kind, url=running.url, **flags)
    after = _Usage(running, upstream)
    result["cpu_seconds"] = after.parts_since(before)
    result["elsewhere_cpu_seconds"] = round(after.elsewhere_since(before), 2)
    result["wall_seconds"] = round(after.at - before.at, 2)
    return result


def _idle(running: contenders.Running, upstream: contenders.Upstream) -> Result:
    before = _memory(running)
    flags = {"model": "idle", "control": upstream.url, "clients": str(IDLE_STREAMS), "limit": "40s"}
    with load_tool.holding(url=running.url, **flags) as result:
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
