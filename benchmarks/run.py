"""`python3 -m benchmarks.run`: all contenders, one after another, in front of the same stub of Ollama.

Then the same in front of a real Ollama. Results go to results.json beside this file, tables and plot to
docs/. Ends non-zero when a figure misses its floor.
"""

from __future__ import annotations

import argparse
import json
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import (
    container,
    contenders,
    floors,
    folders,
    load_tool,
    machine,
    measures,
    models,
    ollama,
    processes,
    report,
)
from stack import step

_STUB_MODELS = ("fast", "paced", "idle")

_OPEN_FILES = 16384

Measured = dict[str, Any]
Take = Callable[[contenders.Running, contenders.Upstream], dict[str, Any]]


def main() -> None:
    """Parse the command line, measure, report."""
    parser = argparse.ArgumentParser(prog="python3 -m benchmarks.run", description=__doc__)
    parser.add_argument(
        "--only", action="append", help="a contender, as the tables name it; for trying things"
    )
    parser.add_argument("--out", type=Path, help="results here, and no report")
    arguments = parser.parse_args()
    # A thousand streams are two thousand connections to most contenders, which inherit this.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, _OPEN_FILES)), hard))
    # Ended from outside, it still ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    container.ensure()
    results: Measured = {"facts": machine.facts()}

    def save() -> None:
        (arguments.out or report.RESULTS).write_text(json.dumps(results, indent=1) + "\n")

    _run(set(arguments.only or ()), results, save)
    if arguments.out is None:
        report.write()
    print(report.text(results))
    if not arguments.only:
        sys.exit(floors.tell(report.asked_for(results["stub"])))


def _run(only: set[str], results: Measured, save: Callable[[], None]) -> None:
    """Fill in the results, and save them after each contender."""
    load_tool.binary()
    with folders.short() as folder:
        with load_tool.stub(folder) as (url, group):
            stub = contenders.Upstream(url, group, _STUB_MODELS, "embed")
            measured = results["stub"] = {}
            for name, found in _each(contenders.CONTENDERS, stub, folder, measures.on_the_stub, only):
                measured[name] = found
                save()
        with ollama.started(folder, copies=1) as (real,):
            models.make_demo(real.url)
            measured = results["ollama"] = {}
            for name, found in _each(contenders.REAL_CONTENDERS, real, folder, measures.on_ollama, only):
                measured[name] = found
                save()


def _each(
    table: dict[str, contenders.Start],
    upstream: contenders.Upstream,
    folder: Path,
    take: Take,
    only: set[str],
) -> Iterator[tuple[str, Measured]]:
    for number, (name, start) in enumerate(table.items()):
        if only and name not in only:
            continue
        own = folder / f"{upstream.url.rsplit(':', 1)[1]}-{number}"
        own.mkdir()
        with step.step(f"measure {name}"):
            try:
                with start(upstream, own) as running:
                    found = take(running, upstream)
            except (processes.NotStartedError, load_tool.LoadFailedError) as problem:
                # The others are still worth knowing; the report says what is missing and why.
                found = {"failed": str(problem)}
                print(problem, file=sys.stderr)
        yield name, found


if __name__ == "__main__":
    step.main(main)
