"""`python3 -m benchmarks.run`: all contenders, one after another, in front of the same stub of Ollama.

With OLLAMA_BINARY and OLLAMA_MODELS set, then the same in front of a real Ollama. Results go to results.json
beside this file, tables and plot to docs/.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import contenders, folders, load_tool, machine, measures, ollama, processes, report
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
    results = {"facts": machine.facts(), **_run(set(arguments.only or ()))}
    (arguments.out or report.RESULTS).write_text(json.dumps(results, indent=1) + "\n")
    if arguments.out is None:
        report.write()
    print(report.text(results))


def _run(only: set[str]) -> dict[str, Measured]:
    load_tool.binary()
    with folders.short() as folder:
        with load_tool.stub(folder) as (url, group):
            stub = contenders.Upstream(url, group, _STUB_MODELS, "embed")
            measured = {"stub": _all(contenders.CONTENDERS, stub, folder, measures.on_the_stub, only)}
        if "OLLAMA_BINARY" in os.environ:
            with ollama.started(folder, copies=1) as (real,):
                taken = _all(contenders.REAL_CONTENDERS, real, folder, measures.on_ollama, only)
                measured["ollama"] = taken
    return measured


def _all(
    table: dict[str, contenders.Start],
    upstream: contenders.Upstream,
    folder: Path,
    take: Take,
    only: set[str],
) -> Measured:
    measured: Measured = {}
    for name, start in table.items():
        if only and name not in only:
            continue
        own = folder / f"{upstream.url.rsplit(':', 1)[1]}-{len(measured)}"
        own.mkdir()
        with step.step(f"measure {name}"):
            try:
                with start(upstream, own) as running:
                    measured[name] = take(running, upstream)
            except (processes.NotStartedError, load_tool.LoadFailedError) as problem:
                # The others are still worth knowing; the report says what is missing and why.
                measured[name] = {"failed": str(problem)}
                print(problem, file=sys.stderr)
    return measured


if __name__ == "__main__":
    step.main(main)
