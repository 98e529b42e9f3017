"""What was measured of variants, and what it has to reach."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from benchmarks import floors

_MIB = 2**20


@dataclasses.dataclass(frozen=True)
class Figures:
    """``alone`` are the answers of each variant and of Ollama's own model of the same words, asked one at a
    time; ``interleaved`` each variant's number and its answer among all others, None where there was none.

    ``disk`` are the bytes of all variants, ``loads`` how often Ollama loaded a model.
    """

    disk: int
    loads: int
    alone: Sequence[tuple[str, str]]
    interleaved: Sequence[tuple[int, str | None]]
    seconds: float

    @property
    def answered(self) -> int:
        """How many of the interleaved requests were answered."""
        return sum(answer is not None for _, answer in self.interleaved)

    @property
    def equal(self) -> int:
        """How many variants answer as Ollama's own model does."""
        return sum(ours == own for ours, own in self.alone)

    @property
    def different(self) -> int:
        """How many answers there are that differ: were all the same, being equal would say little."""
        return len({ours for ours, _ in self.alone})

    @property
    def steady(self) -> int:
        """How many of the interleaved answers are what the same variant said when it was asked alone."""
        return sum(answer == self.alone[number][0] for number, answer in self.interleaved)


def asked_for(figures: Figures) -> Iterator[floors.Floor]:
    """Yield what is asked of variants."""
    count, requests = len(figures.alone), len(figures.interleaved)
    yield floors.Floor(
        f"{count} variants of one base: disk each, MiB",
        figures.disk / count / _MIB,
        1,
    )
    yield floors.Floor(
        f"{requests:,} requests, interleaved: answered",
        figures.answered,
        requests,
        at_least=True,
        note=f"{requests / figures.seconds:.1f} a second, {figures.steady:,} as when asked alone",
    )
    yield floors.Floor("loads of the base", figures.loads, 1)
    yield floors.Floor(
        "variants that answer as Ollama's own model of the same words",
        figures.equal,
        count,
        at_least=True,
        note=f"{figures.different} different answers",
    )
