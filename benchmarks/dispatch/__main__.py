"""`python -m benchmarks.dispatch`: a line a floor; ends non-zero when one is missed."""

import argparse
import itertools
import signal
import sys
from collections.abc import Callable, Iterator

from benchmarks import floors
from benchmarks.dispatch import cases, fleets, real, stubs
from stack import step

_REQUESTS = 100_000


def main() -> None:
    """Run all parts."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dispatch", description=__doc__)
    parser.add_argument("--only", choices=_PARTS, help="one part, for trying things")
    arguments = parser.parse_args()
    # Ended from outside, it still ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    parts = [arguments.only] if arguments.only else list(_PARTS)
    sys.exit(floors.tell(itertools.chain.from_iterable(_PARTS[part]() for part in parts)))


def _simulated() -> Iterator[floors.Floor]:
    with step.step(f"simulate {_REQUESTS:,} requests, three ways"):
        yield from cases.memory(_REQUESTS)
    with step.step("simulate clients of different appetite"):
        yield from cases.fairness()


def _fleet() -> Iterator[floors.Floor]:
    with step.step("simulate hours of bursts: pods by demand, fixed, and a Deployment a model"):
        yield from fleets.compared()
    with step.step("simulate a day of bursts"):
        yield from fleets.calm()


_PARTS: dict[str, Callable[[], Iterator[floors.Floor]]] = {
    "simulated": _simulated,
    "fleet": _fleet,
    "stubs": stubs.scaling,
    "real": real.compared,
}


if __name__ == "__main__":
    step.main(main)
