"""What was measured as figures of a table, and which of them are asked for."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from benchmarks import floors
from benchmarks.operator import audit, measure

_MEMORY_MB = 250
_EDIT_SECONDS = 1.0


@dataclasses.dataclass(frozen=True)
class Figure:
    """One row of the table; `most` is its floor, where it has one."""

    label: str
    of: Callable[[measure.Figures], float]
    most: float | None = None
    digits: int = 0

    def text(self, figures: measure.Figures) -> str:
        """Return a cell of the table."""
        return f"{self.of(figures):,.{self.digits}f}"


FIGURES = (
    Figure("until all are Ready, s", lambda it: it.ready_seconds),
    Figure("until then, reads a set", lambda it: it.starting.reads / it.sets, digits=2),
    Figure("until then, writes a set", lambda it: it.starting.writes / it.sets, digits=1),
    Figure("idle: minutes", lambda it: it.idle_seconds / 60, digits=1),
    Figure("idle: writes", lambda it: it.idle.writes, most=0),
    Figure("idle: reads", lambda it: it.idle.reads, most=0),
    Figure("idle: watches that were renewed", lambda it: it.idle.watches),
    Figure("idle: requests for the Lease", lambda it: it.idle.leases),
    Figure("idle: CPU, cores", lambda it: it.idle_cpu, digits=3),
    Figure("idle: memory, MB", lambda it: it.idle_memory / 1e6),
    Figure("most memory, MB", lambda it: it.most_memory / 1e6, most=_MEMORY_MB),
    Figure("from an edit to its apply, median, s", lambda it: percentile(it.edits, 0.5), digits=2),
    Figure(
        "from an edit to its apply, p99, s", lambda it: percentile(it.edits, 0.99), _EDIT_SECONDS, digits=2
    ),
    Figure("after a restart: writes", lambda it: it.restart.writes, most=0),
    Figure("after a restart: most memory, MB", lambda it: it.restart_memory / 1e6, most=_MEMORY_MB),
)


def percentile(values: tuple[float, ...], share: float) -> float:
    """Return the value that this share of all does not exceed; infinity where there is none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.inf


def asked_for(figures: measure.Figures) -> Iterator[floors.Floor]:
    """Yield what is asked of one number of sets."""
    for figure in FIGURES:
        if figure.most is not None:
            yield floors.Floor(f"{figures.sets:,} sets, {figure.label}", figure.of(figures), figure.most)


def stored(figures: measure.Figures) -> dict[str, Any]:
    """Return figures as JSON keeps them."""
    return dataclasses.asdict(figures)


def restored(found: Mapping[str, Any]) -> measure.Figures:
    """Return figures that were kept as JSON."""
    counts = {name: audit.Counts(**found[name]) for name in ("starting", "idle", "restart")}
    return measure.Figures(**{**found, **counts, "edits": tuple(found["edits"])})
