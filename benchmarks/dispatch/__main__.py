"""`python -m benchmarks.dispatch`: a line a floor; ends non-zero when one is missed."""

import itertools
import sys

from benchmarks.dispatch import cases, servers

_REQUESTS = 100_000


def main() -> int:
    """Run all cases."""
    speed = servers.Speed()
    print(
        f"simulated: a load takes {speed.load:g} s, prompts {speed.prompt:g} and answers {speed.answer:g} "
        "tokens/s, 4 slots a model",
        flush=True,
    )
    missed = 0
    for figure in itertools.chain(cases.memory(_REQUESTS), cases.scaling(2_000), cases.fairness()):
        missed += not figure.reached
        print(
            f"{'ok    ' if figure.reached else 'MISSED'} {figure.name}: {figure.value:.2f} "
            f"(at {'least' if figure.at_least else 'most'} {figure.floor:.2f})"
            + (f"; {figure.note}" if figure.note else ""),
            flush=True,
        )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
