"""What the trials have shown, and whether that is good enough."""

import collections
import tomllib
from pathlib import Path

import msgspec

from tests.mutants import operators, trials

LEAST_SHARE = 0.85
REASONS = (Path(__file__).with_name("survivors.toml"), Path(__file__).with_name("survivors_operator.toml"))


class Group(msgspec.Struct, forbid_unknown_fields=True):
    """Mutants that may survive, as ``told`` names them, and why."""

    reason: str
    mutants: list[str]


class _File(msgspec.Struct, forbid_unknown_fields=True):
    survivors: list[Group] = []


def excused() -> dict[str, str]:
    """Return the reason of each mutant that may survive."""
    files = [msgspec.convert(tomllib.loads(path.read_text()), _File) for path in REASONS]
    groups = [group for file in files for group in file.survivors]
    return {mutant: group.reason for group in groups for mutant in group.mutants}


def told(path: str, mutant: operators.Mutant, source: bytes) -> str:
    """Name a mutant by what it changes where, so that it keeps its name when lines move."""
    return f"{path} {mutant.place}: {mutant.told(source)}"


class Verdicts:
    """Counts how mutants fared, by package."""

    def __init__(self, reasons: dict[str, str]) -> None:
        self._reasons = reasons
        self._counts: dict[str, collections.Counter[str]] = {}
        self._met: set[str] = set()
        self._unexcused = 0

    def take(self, package: str, name: str, verdict: str) -> bool:
        """Take in how a mutant fared; tell whether it survived without a reason."""
        self._counts.setdefault(package, collections.Counter())[verdict] += 1
        if verdict != trials.SURVIVED:
            return False
        self._met.add(name)
        unexcused = name not in self._reasons
        self._unexcused += unexcused
        return unexcused

    @property
    def tried(self) -> int:
        """How many there were so far."""
        return sum(counts.total() for counts in self._counts.values())

    def good(self) -> bool:
        """Tell whether enough were killed in each package, and there is a reason for each that was not."""
        return not self._unexcused and all(_share(counts) >= LEAST_SHARE for counts in self._counts.values())

    def table(self) -> list[str]:
        """Return a line for each package."""
        rows = [(package, counts) for package, counts in self._counts.items()]
        if len(rows) > 1:
            rows.append(("all", sum(self._counts.values(), collections.Counter[str]())))
        heading = f"{'':<20}{'mutants':>9}{'killed':>9}{'timed out':>11}{'survived':>10}{'killed':>9}"
        return [
            heading,
            *(
                f"{name:<20}{counts.total():>9}{counts[trials.KILLED]:>9}{counts[trials.TIMED_OUT]:>11}"
                f"{counts[trials.SURVIVED]:>10}{_share(counts):>9.1%}"
                for name, counts in rows
            ),
        ]

    def stale(self, paths: set[str]) -> list[str]:
        """Return what has a reason to survive in one of these files and did not."""
        return [name for name in self._reasons if name.split(" ", 1)[0] in paths and name not in self._met]


def _share(counts: collections.Counter[str]) -> float:
    """Return how many were noticed: a test that never ends is one that fails."""
    return 1.0 - counts[trials.SURVIVED] / counts.total()
