"""What figures have to reach, and a line for each that says whether they do."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable


@dataclasses.dataclass(frozen=True)
class Floor:
    """One figure: it is to be at most, or ``at_least``, its ``floor``."""

    name: str
    value: float
    floor: float
    at_least: bool = False
    note: str = ""

    @property
    def reached(self) -> bool:
        """Whether it is as good as it has to be."""
        return self.value >= self.floor if self.at_least else self.value <= self.floor

    @property
    def bound(self) -> str:
        """The floor in words."""
        return f"at {'least' if self.at_least else 'most'} {self.floor:,.4g}"

    def line(self) -> str:
        """Return what is printed of it."""
        note = f"; {self.note}" if self.note else ""
        return f"{'ok    ' if self.reached else 'MISSED'} {self.name}: {self.value:,.4g} ({self.bound}){note}"


def tell(figures: Iterable[Floor]) -> int:
    """Print a line for each as it comes; return the status to end with: 1 when one was missed."""
    missed = 0
    for figure in figures:
        missed += not figure.reached
        print(figure.line(), flush=True)
    return 1 if missed else 0
