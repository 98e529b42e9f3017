"""`python3 -m benchmarks.routing`: two real Ollamas, ours in front of both against taking turns between them.

Results go to routing.json beside this file, tables to docs/.
"""

from __future__ import annotations

import argparse
import functools
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import asking, contenders, folders, machine, models, ollama, report, scenarios
from stack import step

Scenario = Callable[[asking.Front], scenarios.Figures]

# Of the operator, when a set says nothing else.
_PARALLEL = "4"
_MODELS = ("first:135m", "second:135m")


def main() -> None:
    """Parse the command line, measure, report."""
    parser = argparse.ArgumentParser(prog="python3 -m benchmarks.routing", description=__doc__)
    parser.add_argument("--out", type=Path, help="results here, and no report")
    parser.add_argument("--only", choices=_SCENARIOS, help="measure one, and keep what is known of the other")
    arguments = parser.parse_args()
    # Ended from outside, it still ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    target = arguments.out or report.ROUTING
    found: dict[str, dict[str, scenarios.Figures]] = {}
    if arguments.only and target.exists():
        found = json.loads(target.read_text())["scenarios"]
    results = {"facts": machine.facts(), "scenarios": found}
    for name in [arguments.only] if arguments.only else _SCENARIOS:
        title, measure = _SCENARIOS[name]
        found[title] = measure()
        target.write_text(json.dumps(results, indent=1) + "\n")
    if arguments.out is None:
        report.write()
    print(report.routing_text(results))


def _two_models() -> dict[str, scenarios.Figures]:
    return _both(
        functools.partial(scenarios.two_models, models=_MODELS),
        _MODELS,
        OLLAMA_MAX_LOADED_MODELS="1",
        OLLAMA_NUM_PARALLEL=_PARALLEL,
    )


def _conversations() -> dict[str, scenarios.Figures]:
    return _both(
        functools.partial(scenarios.conversations, model=_MODELS[0]),
        _MODELS[:1],
        OLLAMA_NUM_PARALLEL=_PARALLEL,
    )


def _both(scenario: Scenario, asked: tuple[str, ...], **settings: str) -> dict[str, scenarios.Figures]:
    """Run a scenario both ways, each on servers that were just started, with its models loaded in turn."""
    found = {}
    for name, ours in (("round robin", False), ("ours", True)):
        with (
            step.step(f"measure {name}"),
            folders.short() as folder,
            ollama.started(folder, copies=2, **settings) as servers,
        ):
            models.make_copies(servers[0].url, _MODELS)
            for number, server in enumerate(servers):
                asking.Front([server.url]).chat(
                    asked[number % len(asked)], [{"role": "user", "content": "hi"}], 1
                )
            if ours:
                with contenders.in_front_of(servers, folder) as running:
                    found[name] = scenario(asking.Front([running.url]))
            else:
                found[name] = scenario(asking.Front([server.url for server in servers]))
    return found


_SCENARIOS: dict[str, tuple[str, Callable[[], dict[str, scenarios.Figures]]]] = {
    "two-models": ("Two models, two Ollamas that each keep one loaded", _two_models),
    "conversations": ("Conversations of eight turns", _conversations),
}


if __name__ == "__main__":
    step.main(main)
