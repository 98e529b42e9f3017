"""Tables and plot from results, whole and with holes."""

from __future__ import annotations

import copy
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks import figures, floors, plot, report

SPREAD = {"count": 10, "p50": 2.0, "p99": 4.0, "max": 5.0}
STREAMS: dict[str, Any] = {
    "tokens": 1000,
    "tokens_per_second": 1500.0,
    "unfinished": 0,
    "errors": 0,
    "first_token_ms": SPREAD,
    "gap_ms": SPREAD,
    "cpu_seconds": {"HAProxy": 0.04, "replica": 0.1, "rest of Ray": 0.5},
    "elsewhere_cpu_seconds": 1.0,
    "wall_seconds": 10.0,
}
RATES: dict[str, Any] = {
    "requests": 100,
    "requests_per_second": 300.0,
    "latency_ms": SPREAD,
    "cpu_seconds": {"all": 0.2},
}
ONE: dict[str, Any] = {
    **dict.fromkeys(("unary_1", "unary_32", "embed_32"), RATES),
    **dict.fromkeys(("streams_32", "streams_32_at_once", "streams_256", "unpaced_32"), STREAMS),
    "cancel": {"unnoticed": 0, "freed_ms": SPREAD},
    "idle": {
        "held": 1000,
        "ended": 1000,
        "memory_bytes": {"all": 30_000 * 1024},
        "memory_before_bytes": {"all": 20_000 * 1024},
    },
}


def _results() -> dict[str, Any]:
    slow = copy.deepcopy(ONE)
    slow["unary_32"]["requests_per_second"] = 10.0
    slow["cancel"] = {"unnoticed": 3, "freed_ms": {"count": 0, "p50": 0, "p99": 0, "max": 0}}
    stub = {
        "direct": ONE,
        "Serve + HAProxy": ONE,
        "LiteLLM openai/": slow,
        "uvicorn": {"failed": "port\ntaken"},
    }
    return {"facts": {"date": "today"}, "stub": stub}


def test_serving_and_housekeeping_are_told_apart() -> None:
    assert figures.CHUNK_CPU.of(ONE) == 140.0
    assert figures.CHUNK_REST.of(ONE) == 500.0
    assert figures.STREAM_MEMORY.of(ONE) == 10.0


def test_the_floor_compares_with_the_faster_provider() -> None:
    text = report.text(_results())
    assert "| at least 15 | 30 |" in text
    assert "| 1,000 streams at once: ended well | at least 1,000 | 1,000 |" in text


@pytest.mark.parametrize(
    ("measure", "found", "missed"),
    [
        ("streams_256", {"first_token_ms": {**SPREAD, "p99": 60.1}}, "first token, 256 streams, p99, ms"),
        ("streams_256", {"first_token_ms": {**SPREAD, "count": 0}}, "first token, 256 streams, p99, ms"),
        ("streams_32", {"cpu_seconds": {"replica": 0.151}}, "CPU a chunk, 32 streams of 50 tokens/s, us"),
        (
            "unary_32",
            {"requests_per_second": 149.0},
            "requests/s, 32 clients, over LiteLLM's faster provider",
        ),
        ("idle", {"ended": 999}, "1,000 streams at once: ended well"),
    ],
)
def test_a_floor_is_missed_by_little_and_by_what_was_not_measured(
    measure: str, found: dict[str, Any], missed: str
) -> None:
    results = _results()
    assert floors.tell(report.asked_for(results["stub"])) == 0
    results["stub"]["Serve + HAProxy"] = {**ONE, measure: {**ONE[measure], **found}}
    asked = report.asked_for(results["stub"])
    assert [floor.name for floor in asked if not floor.reached] == [missed]
    assert floors.tell(asked) == 1


def test_what_is_missing_is_a_dash_and_said() -> None:
    text = report.text(_results())
    assert "uvicorn could not be measured: port" in text
    assert "| not streamed, 32 clients: requests/s | 300 | 300 | 10 | - |" in text
    assert "| client leaves: Ollama freed after, median, ms | 2.0 | 2.0 | - | - |" in text


def test_the_plot_is_xml_with_a_bar_for_each_that_was_measured() -> None:
    root = ElementTree.fromstring(plot.svg(_results()["stub"]))  # noqa: S314 - it was just written here
    bars = [found for found in root.iter("{http://www.w3.org/2000/svg}rect") if found.get("x")]
    assert len(bars) == 3 * 5


def test_prose_around_the_tables_stays() -> None:
    page = "before\n<!-- proxy: written by make bench -->\nold\n<!-- end of proxy -->\nafter\n"
    wanted = "before\n<!-- proxy: written by make bench -->\nnew \\1\n<!-- end of proxy -->\nafter\n"
    assert report._between(page, "proxy", "new \\1") == wanted
