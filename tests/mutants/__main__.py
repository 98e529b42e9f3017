"""``python -m tests.mutants [FILE ...]``: change the proxy in small ways and see what the unit tests notice.

Files are named from the proxy's package on, as ``dispatch/core.py``; a folder stands for all in it. Ends
non-zero where a package has less than 85 % of its mutants killed, or where one survives for which
``survivors.toml`` has no reason.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.mutants import operators, trials, verdicts

_PROXY = Path(__file__).parents[2] / "serve_app" / "modelset_proxy"
_FOLDERS = ["dispatch", "engines", "web"]
_TESTS = ["serve_app/tests", "benchmarks"]
_TOLD_EVERY = 100


def _files(names: list[str]) -> list[Path]:
    found: list[Path] = []
    for name in names:
        path = _PROXY / name
        found += sorted(path.rglob("*.py")) if path.is_dir() else [path]
    return found


def main(names: list[str]) -> int:
    """Try all mutants of the files, and tell how they fared."""
    sources = {path: path.read_bytes() for path in _files(names or _FOLDERS)}
    result = verdicts.Verdicts(verdicts.excused())
    count = sum(len(operators.mutants(source)) for source in sources.values())
    began = time.monotonic()

    def done(path: Path, mutant: operators.Mutant, verdict: str) -> None:
        inside = path.relative_to(_PROXY)
        name = verdicts.told(str(inside), mutant, sources[path])
        if result.take(inside.parts[0], name, verdict):
            print(f"survived at line {mutant.line}: {name}", flush=True)
        if not result.tried % _TOLD_EVERY:
            print(f"{result.tried} of {count} after {time.monotonic() - began:.0f} s", file=sys.stderr)

    with tempfile.TemporaryDirectory() as scratch:
        plugin = trials.Trials(sources, len(os.sched_getaffinity(0)), Path(scratch), done)
        # Pytest's own timeouts would need the alarm that ends whatever goes round for ever; what Hypothesis
        # finds under one mutant is not to be tried first under the next.
        options = [
            "-q",
            "-p",
            "no:cacheprovider",
            "--capture=no",
            "-o",
            "timeout=0",
            "--hypothesis-profile=ci",
        ]
        status = pytest.main([*options, *_TESTS], plugins=[plugin])
    if status != pytest.ExitCode.OK:
        return int(status)
    for name in result.stale({str(path.relative_to(_PROXY)) for path in sources}):
        print(f"has a reason and did not survive: {name}")
    print("\n".join(result.table()))
    return 0 if result.good() else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
