"""Tables and plot of docs/benchmarks.md and docs/costs.md: what stands between their marks is replaced."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import figures, floors, plot
from benchmarks.operator import result
from stack import cache

RESULTS = Path(__file__).parent / "results.json"
ROUTING = Path(__file__).parent / "routing.json"
OPERATOR = Path(__file__).parent / "operator.json"
IDLE = Path(__file__).parent / "idle.json"
_PAGE = cache.REPOSITORY / "docs" / "benchmarks.md"
_COSTS = cache.REPOSITORY / "docs" / "costs.md"
_PLOT = cache.REPOSITORY / "docs" / "benchmarks.svg"
_PODS = {
    "proxy": "the proxy's pod",
    "ollama": "an Ollama pod",
    "operator": "the operator's pod, for all sets",
}
_OURS = "Serve + HAProxy"
_LITELLM = ("LiteLLM ollama_chat/", "LiteLLM openai/")

Results = Mapping[str, Any]


def write() -> None:
    """Put what the last runs found into the pages and the plot."""
    page = _PAGE.read_text()
    if RESULTS.exists():
        results = json.loads(RESULTS.read_text())
        page = _between(page, "proxy", text(results))
        _PLOT.write_text(plot.svg(results["stub"]))
    if ROUTING.exists():
        page = _between(page, "routing", routing_text(json.loads(ROUTING.read_text())))
    if OPERATOR.exists():
        page = _between(page, "operator", operator_text(json.loads(OPERATOR.read_text())))
    _PAGE.write_text(page)
    if IDLE.exists():
        _COSTS.write_text(_between(_COSTS.read_text(), "idle", idle_text(json.loads(IDLE.read_text()))))


def text(results: Results) -> str:
    """Return all tables of one run."""
    stub = results["stub"]
    parts = [_facts(results["facts"])]
    if asked_for(stub):
        parts += ["### What is asked for", _floors(stub)]
    parts += ["### All figures, in front of the stub", _figures(figures.ON_THE_STUB, stub)]
    if _OURS in stub and "failed" not in stub[_OURS]:
        parts += [f"### As multiples of {_OURS}", _ratios(stub)]
    if "ollama" in results:
        parts += ["### In front of a real Ollama", _figures(figures.ON_OLLAMA, results["ollama"])]
    failures = {
        name: measured["failed"].splitlines()[0]
        for kind in ("stub", "ollama")
        for name, measured in results.get(kind, {}).items()
        if "failed" in measured
    }
    parts += [f"{name} could not be measured: {why}" for name, why in failures.items()]
    parts += [
        f"{name}: {measure} failed: {why}"
        for kind in ("stub", "ollama")
        for name, measured in results.get(kind, {}).items()
        for measure, why in measured.get("failures", {}).items()
    ]
    return "\n\n".join(parts)


def routing_text(results: Results) -> str:
    """Return the tables of the routing benchmark."""
    names = ("round robin", "ours", "ours / round robin")
    tables = [_facts(results["facts"])]
    for title, ways in results["scenarios"].items():
        rows = []
        for label in ways["ours"]:
            values = [ways[name][label] for name in ("round robin", "ours")]
            ratio = f"{values[1] / values[0]:.2f}" if values[0] else "-"
            rows.append((label, *(f"{value:,.2f}" for value in values), ratio))
        tables += [f"### {title}", _table(("", *names), rows)]
    return "\n\n".join(tables)


def operator_text(results: Results) -> str:
    """Return the table of the operator's benchmark, a column for each number of sets."""
    columns = sorted((result.restored(found) for found in results["sets"].values()), key=lambda it: it.sets)
    rows = [
        (
            figure.label,
            "" if figure.most is None else f"at most {figure.most:,.4g}",
            *(figure.text(column) for column in columns),
        )
        for figure in result.FIGURES
    ]
    heads = [f"{column.sets:,} sets" for column in columns]
    return "\n\n".join([_facts(results["facts"]), _table(("", "floor", *heads), rows)])


def idle_text(results: Results) -> str:
    """Return the table of an idle set: each pod as a whole, then its processes, the largest first.

    What is below a MiB, such as a pod's pause, counts in the whole alone.
    """
    rows = []
    for pod in sorted(results["pods"], key=list(_PODS).index):
        costs = sorted(results["pods"][pod].items(), key=lambda entry: -entry[1]["memory"])
        total = {what: sum(cost[what] for _, cost in costs) for what in ("memory", "cpu")}
        large = [(called, cost) for called, cost in costs if cost["memory"] >= 2**20]
        for called, cost in [(f"**{_PODS[pod]}**", total), *large]:
            rows.append((called, f"{cost['memory'] / 2**20:,.0f}", f"{cost['cpu'] * 1000:,.0f}"))
    return "\n\n".join([_facts(results["facts"]), _table(("", "memory, MiB", "CPU, millicores"), rows)])


def _facts(facts: Mapping[str, str]) -> str:
    return "Measured with " + "; ".join(f"{name}: {value}" for name, value in facts.items()) + "."


def _figures(rows: Sequence[figures.Figure], measured: Mapping[str, Any]) -> str:
    return _table(
        ("", *measured), [(row.label, *(row.text(found) for found in measured.values())) for row in rows]
    )


def _ratios(stub: Mapping[str, Any]) -> str:
    def ratio(figure: figures.Figure, measured: Mapping[str, Any]) -> str:
        one, other = figure.of(measured), figure.of(stub[_OURS])
        return f"{one / other:.3g}" if one is not None and other else "-"

    rows = [
        (figure.label, *(ratio(figure, measured) for measured in stub.values())) for figure in figures.RATIOS
    ]
    return _table(("", *stub), rows)


def asked_for(stub: Mapping[str, Any]) -> list[floors.Floor]:
    """Return what is asked of ours, beside the others of the same run; nothing where it was not measured."""
    if any(name not in stub or "failed" in stub[name] for name in (_OURS, "direct")):
        return []
    ours, direct = stub[_OURS], stub["direct"]

    def reached(figure: figures.Figure) -> float:
        value = figure.of(ours)
        return math.nan if value is None else value

    def added(figure: figures.Figure) -> float:
        return reached(figure) - (figure.of(direct) or 0)

    rates = [rate for name in _LITELLM if name in stub and (rate := figures.UNARY_RATE.of(stub[name]))]
    times = reached(figures.UNARY_RATE) / max(rates) if rates else math.nan
    rest = f"Ray's other processes: {reached(figures.CHUNK_REST):.0f} us more"
    late = f"p99 {added(figures.FIRST_P99):.1f} ms"
    return [
        floors.Floor("requests/s, 32 clients, over LiteLLM's faster provider", times, 15, at_least=True),
        floors.Floor(
            "CPU a chunk, 32 streams of 50 tokens/s, us", reached(figures.CHUNK_CPU), 150, note=rest
        ),
        floors.Floor(
            "first token, 32 streams, median over direct, ms", added(figures.FIRST_P50), 5, note=late
        ),
        floors.Floor("first token, 256 streams, p99, ms", reached(figures.MANY_FIRST_P99), 60),
        floors.Floor("not streamed, 1 client, median over direct, ms", added(figures.UNARY_P50), 3),
        floors.Floor("1,000 streams at once: opened", reached(figures.HELD), 1000, at_least=True),
        floors.Floor("1,000 streams at once: ended well", reached(figures.ENDED), 1000, at_least=True),
    ]


def _floors(stub: Mapping[str, Any]) -> str:
    rows = [
        (floor.name, floor.bound, f"{floor.value:,.4g}" + (f" ({floor.note})" if floor.note else ""))
        for floor in asked_for(stub)
    ]
    return _table(("", "floor", "reached"), rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|---|{'---:|' * (len(head) - 1)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _between(page: str, name: str, new: str) -> str:
    start, end = f"<!-- {name}: written by make bench -->", f"<!-- end of {name} -->"
    pattern = re.compile(re.escape(start) + ".*?" + re.escape(end), re.DOTALL)
    return pattern.sub(lambda _: f"{start}\n{new}\n{end}", page)


if __name__ == "__main__":
    write()
