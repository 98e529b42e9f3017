"""`python -m benchmarks.operator`: the operator beside 50, 200 and 1,000 sets; a line a floor.

Ends non-zero when one is missed. What was idle for five minutes goes into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import signal
import sys
from collections.abc import Iterator, Sequence

from benchmarks import floors, folders, machine, report
from benchmarks.operator import control_plane, measure, result
from stack import components, engine, golang, pins, step

_SETS = (50, 200, 1000)
_IDLE_SECONDS = 300.0
# A socket for each pod, and for each of the operator's connections to one.
_OPEN_FILES = 16384


def main() -> None:
    """Parse the command line, measure, report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.operator", description=__doc__)
    parser.add_argument("--sets", type=int, nargs="+", default=_SETS, help="how many (%(default)s)")
    parser.add_argument(
        "--idle", type=float, default=_IDLE_SECONDS, metavar="SECONDS", help="for how long (%(default)s)"
    )
    arguments = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, _OPEN_FILES)), hard))
    # Ended from outside, it still ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    engine.ensure()
    components.ensure("operator")
    sys.exit(floors.tell(_run(arguments.sets, arguments.idle)))


def _run(sets: Sequence[int], idle_seconds: float) -> Iterator[floors.Floor]:
    for count in sets:
        with folders.short() as folder, control_plane.started(folder) as plane:
            figures = asyncio.run(measure.measure(count, idle_seconds, plane, folder))
        for figure in result.FIGURES:
            step.say(f"  {figure.label}: {figure.text(figures)}")
        if idle_seconds >= _IDLE_SECONDS:
            _keep(figures)
        yield from result.asked_for(figures)


def _keep(figures: measure.Figures) -> None:
    """Put figures beside those of other numbers of sets, and all of them into the page."""
    kept = json.loads(report.OPERATOR.read_text()) if report.OPERATOR.exists() else {"sets": {}}
    kept["facts"] = {
        **machine.host(),
        "Kubernetes": golang.module_version("kubernetes", "k8s.io/kubernetes").removeprefix("v"),
        "modelset-operator": pins.load().version,
    }
    kept["sets"][str(figures.sets)] = result.stored(figures)
    report.OPERATOR.write_text(json.dumps(kept, indent=1) + "\n")
    report.write()


if __name__ == "__main__":
    step.main(main)
