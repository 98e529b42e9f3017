"""``python -m tests.mutants [FILE ...]``: change programs in small ways and see what the unit tests notice.

Files are named from the proxy's package on, as ``dispatch/core.py``, those of the operator as
``operator/plan/decide.py``, those of the registry cache as ``cache/store.py``; a folder stands for all in it.
Ends non-zero where a package has less than 85 % of its mutants killed, or where one survives for which the
files of survivors have no reason.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.mutants import operators, programs, trials, verdicts

_TOLD_EVERY = 100


def main(names: list[str]) -> int:
    """Try all mutants of the files, and tell how they fared."""
    found = programs.selected(names)
    sources = {path: path.read_bytes() for path in found.paths.values()}
    named = {path: name for name, path in found.paths.items()}
    result = verdicts.Verdicts(verdicts.excused())
    count = sum(len(operators.mutants(source)) for source in sources.values())
    began = time.monotonic()

    def done(path: Path, mutant: operators.Mutant, verdict: str) -> None:
        name = verdicts.told(named[path], mutant, sources[path])
        if result.take(programs.package(named[path]), name, verdict):
            print(f"survived at line {mutant.line}: {name}", flush=True)
        if verdict == trials.TIMED_OUT:
            print(f"went on for ever at line {mutant.line}: {name}", file=sys.stderr)
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
        status = pytest.main([*options, *found.tests], plugins=[plugin])
    if status != pytest.ExitCode.OK:
        return int(status)
    for name in result.stale(set(found.paths)):
        print(f"has a reason and did not survive: {name}")
    print("\n".join(result.table()))
    return 0 if result.good() else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
