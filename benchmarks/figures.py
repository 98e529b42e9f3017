"""From results to figures: one row a figure, with its unit, how to get it and how to print it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

Measured = Mapping[str, Any]

# Ray's own processes take CPU and memory whether there are requests or not, so they are listed by themselves.
REST = "rest of Ray"


@dataclasses.dataclass(frozen=True)
class Figure:
    """One number of a contender; ``value`` is None where it could not be measured."""

    label: str
    value: Callable[[Measured], float | None]
    decimals: int = 0

    def text(self, measured: Measured) -> str:
        """Return the number as tables show it."""
        number = self.of(measured)
        return "-" if number is None else f"{number:,.{self.decimals}f}"

    def of(self, measured: Measured) -> float | None:
        """Return the number, None also for a contender that failed."""
        return None if "failed" in measured else self.value(measured)


def _at(measure: str, *path: str) -> Callable[[Measured], float | None]:
    def value(measured: Measured) -> float | None:
        found: Any = measured.get(measure)
        for name in path:
            # Of nothing that came there is no median.
            if found is None or (isinstance(found.get(name), dict) and found[name]["count"] == 0):
                return None
            found = found[name]
        return None if found is None else float(found)

    return value


def cpu(measure: str, per: str, parts: Callable[[str], bool]) -> Callable[[Measured], float | None]:
    """Microseconds of CPU of some parts of a contender for each of what ``per`` counts."""

    def value(measured: Measured) -> float | None:
        result = measured.get(measure)
        if result is None or not result[per]:
            return None
        seconds = [spent for part, spent in result["cpu_seconds"].items() if parts(part)]
        return 1e6 * sum(seconds) / float(result[per]) if seconds else None

    return value


def _serving(part: str) -> bool:
    return part != REST


def _idle(value: Callable[[Measured], float | None]) -> Callable[[Measured], float | None]:
    return lambda measured: value(measured["idle"]) if measured.get("idle", {}).get("held") else None


def _each_stream(result: Measured) -> float:
    grown = sum(result["memory_bytes"].values()) - sum(result["memory_before_bytes"].values())
    return float(grown / result["held"] / 1024)


def _freed(name: str) -> Callable[[Measured], float | None]:
    def value(measured: Measured) -> float | None:
        freed = measured.get("cancel", {}).get("freed_ms", {"count": 0})
        return float(freed[name]) if freed["count"] else None

    return value


def _elsewhere(measured: Measured) -> float | None:
    timed = [result for result in measured.values() if "wall_seconds" in result]
    seconds = sum(result["wall_seconds"] for result in timed)
    return float(sum(result["elsewhere_cpu_seconds"] for result in timed) / seconds) if seconds else None


UNARY_P50 = Figure("not streamed, 1 client: median, ms", _at("unary_1", "latency_ms", "p50"), 2)
UNARY_RATE = Figure("not streamed, 32 clients: requests/s", _at("unary_32", "requests_per_second"))
EMBED_RATE = Figure("embeddings, 32 clients: requests/s", _at("embed_32", "requests_per_second"))
CHUNK_CPU = Figure("32 streams: CPU a chunk, us", cpu("streams_32", "tokens", _serving))
CHUNK_REST = Figure(
    "32 streams: CPU a chunk of Ray's other processes, us", cpu("streams_32", "tokens", REST.__eq__)
)
FIRST_P50 = Figure("32 streams: first token, median, ms", _at("streams_32", "first_token_ms", "p50"), 1)
FIRST_P99 = Figure("32 streams: first token, p99, ms", _at("streams_32", "first_token_ms", "p99"), 1)
MANY_FIRST_P99 = Figure("256 streams: first token, p99, ms", _at("streams_256", "first_token_ms", "p99"), 1)
UNPACED = Figure("32 streams without pauses: chunks/s", _at("unpaced_32", "tokens_per_second"))
STREAM_MEMORY = Figure("1,000 idle streams: memory each, KiB", _idle(_each_stream))
HELD = Figure("1,000 idle streams: opened", _idle(lambda result: float(result["held"])))
ENDED = Figure("1,000 idle streams: ended well", _idle(lambda result: float(result["ended"])))

ON_THE_STUB = (
    UNARY_P50,
    Figure("not streamed, 1 client: p99, ms", _at("unary_1", "latency_ms", "p99"), 2),
    UNARY_RATE,
    Figure("not streamed, 32 clients: CPU each, us", cpu("unary_32", "requests", _serving)),
    EMBED_RATE,
    Figure("32 streams: chunks/s", _at("streams_32", "tokens_per_second")),
    CHUNK_CPU,
    Figure("32 streams: of it in HAProxy, us", cpu("streams_32", "tokens", "HAProxy".__eq__)),
    CHUNK_REST,
    FIRST_P50,
    FIRST_P99,
    Figure("32 streams: between chunks, p99, ms", _at("streams_32", "gap_ms", "p99"), 1),
    Figure(
        "32 streams begun at once: first token, median, ms",
        _at("streams_32_at_once", "first_token_ms", "p50"),
        1,
    ),
    Figure(
        "32 streams begun at once: first token, p99, ms",
        _at("streams_32_at_once", "first_token_ms", "p99"),
        1,
    ),
    Figure("256 streams: chunks/s", _at("streams_256", "tokens_per_second")),
    Figure("256 streams: CPU a chunk, us", cpu("streams_256", "tokens", _serving)),
    Figure("256 streams: first token, median, ms", _at("streams_256", "first_token_ms", "p50"), 1),
    MANY_FIRST_P99,
    Figure("256 streams: between chunks, p99, ms", _at("streams_256", "gap_ms", "p99"), 1),
    Figure("256 streams: not at their end in time", _at("streams_256", "unfinished")),
    Figure("256 streams: errors", _at("streams_256", "errors")),
    UNPACED,
    HELD,
    ENDED,
    STREAM_MEMORY,
    Figure(
        "1,000 idle streams: memory of all processes, MiB",
        _idle(lambda result: sum(result["memory_bytes"].values()) / 2**20),
    ),
    Figure("client leaves: Ollama freed after, median, ms", _freed("p50"), 1),
    Figure("client leaves: Ollama freed after, worst of 100, ms", _freed("max"), 1),
    Figure("client leaves: not noticed within 2 s", _at("cancel", "unnoticed")),
    Figure("cores that others on the machine used meanwhile", _elsewhere, 2),
)
ON_OLLAMA = (
    Figure("one token, 1 client: median, ms", _at("unary_1", "latency_ms", "p50"), 1),
    Figure("one token, 1 client: p99, ms", _at("unary_1", "latency_ms", "p99"), 1),
    Figure("embeddings, 1 client: median, ms", _at("embed_1", "latency_ms", "p50"), 1),
    Figure("embeddings, 4 clients: requests/s", _at("embed_4", "requests_per_second")),
)
# Compared with ours on Serve; all but the memory that Ray's own processes take.
RATIOS = (UNARY_P50, UNARY_RATE, EMBED_RATE, CHUNK_CPU, FIRST_P50, UNPACED, STREAM_MEMORY)
