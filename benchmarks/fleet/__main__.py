"""`python -m benchmarks.fleet`: the same bursts, three ways, on the kind cluster; a line a floor.

Ends non-zero when one is missed.
"""

import argparse
import asyncio
import dataclasses
import math
import signal
import sys
from collections.abc import Iterator, Mapping

from benchmarks import floors
from benchmarks.dispatch import fleets, scaling
from benchmarks.fleet import driven, installed, trace
from stack import step

_FEWEST, _MOST = 1, 3
_POLICY = {
    "minReplicas": _FEWEST,
    "maxReplicas": _MOST,
    "targetInFlight": installed.PARALLEL,
    "idleSeconds": 30,
}
# A minute suits the simulator's bursts; these are six times as short, so all that is six times as short too.
_AVERAGES = {"interval": 10 / 6, "window": 10.0, "down_delay": 5.0}


def main() -> None:
    """Run all three."""
    argparse.ArgumentParser(prog="python -m benchmarks.fleet", description=__doc__).parse_args()
    # Ended from outside, it still removes what it made.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(floors.tell(_compared()))


def _compared() -> Iterator[floors.Floor]:
    arrivals = trace.arrivals()
    told = f"{len(arrivals)} requests in {trace.SECONDS:.0f} s"
    with installed.namespace(), installed.proxied() as url:
        installed.prepare(trace.MODELS)
        with step.step("make a set, and every pod's volume"):
            installed.apply_set(trace.MODELS, replicas=_MOST)
            installed.apply_set(trace.MODELS, autoscaling=_POLICY)
            installed.await_pods(_FEWEST)
        with step.step(f"{told}: pods by demand"):
            ours = asyncio.run(driven.by_set(url, arrivals, trace.SECONDS))
        pods = ours.pod_seconds / trace.SECONDS
        fixed = {}
        for count in sorted({math.floor(pods), math.ceil(pods)}, reverse=True):
            with step.step(f"{told}: {count} pods"):
                installed.apply_set(trace.MODELS, replicas=count)
                installed.await_pods(count)
                fixed[count] = asyncio.run(driven.by_set(url, arrivals, trace.SECONDS))
        with step.step("make a Deployment a model"):
            installed.remove_set()
            installed.apply_deployments(trace.MODELS)
        with step.step(f"{told}: a Deployment a model"):
            scaler = scaling.Averages(trace.MODELS, target=installed.PARALLEL, most=_MOST, **_AVERAGES)
            others = asyncio.run(driven.by_model(url, arrivals, trace.SECONDS, scaler))
    yield from as_good(ours, f"a fixed fleet of {pods:.1f}", fixed_fleet(ours.pod_seconds, fixed))
    yield from as_good(ours, "a Deployment a model", Figures.of(others))
    yield clearly_better(ours, "a Deployment a model", Figures.of(others))


@dataclasses.dataclass(frozen=True)
class Figures:
    """What came of a fleet: the share of requests in time, and seconds of pods and to the first token."""

    goodput: float
    pod_seconds: float
    p95: float

    @classmethod
    def of(cls, outcome: fleets.Outcome) -> "Figures":
        """Return those of one run."""
        return cls(outcome.goodput, outcome.pod_seconds, outcome.p95)


def fixed_fleet(pod_seconds: float, fixed: Mapping[int, fleets.Outcome]) -> Figures:
    """Return what a fixed fleet of just so many seconds of pods would come to: there is no part of a pod.

    `fixed` are the fleets of the next whole numbers of pods, or the one of just as many.
    """
    fewest, most = min(fixed), max(fixed)
    share = pod_seconds / trace.SECONDS - fewest
    less, more = fixed[fewest], fixed[most]
    return Figures(
        goodput=(1 - share) * less.goodput + share * more.goodput,
        pod_seconds=pod_seconds,
        p95=(1 - share) * less.p95 + share * more.p95,
    )


def as_good(ours: fleets.Outcome, name: str, other: Figures) -> Iterator[floors.Floor]:
    """Yield a floor a figure."""
    goodput, pods, p95 = _ratios(ours, other)
    yield floors.Floor(f"fleet on kind: requests in time, of {name}", goodput, 1.0, at_least=True)
    yield floors.Floor(f"fleet on kind: seconds of pods, of {name}", pods, 1.0)
    yield floors.Floor(f"fleet on kind: p95 time to first token, of {name}", p95, 1.0)


def clearly_better(ours: fleets.Outcome, name: str, other: Figures) -> floors.Floor:
    """Return the floor of the best figure.

    There is none beside a fixed fleet: a burst is hardly longer here than pods take to start.
    """
    goodput, pods, p95 = _ratios(ours, other)
    return floors.Floor(f"fleet on kind: the best of these, of {name}", min(1 / goodput, pods, p95), 0.8)


def _ratios(ours: fleets.Outcome, other: Figures) -> tuple[float, float, float]:
    return ours.goodput / other.goodput, ours.pod_seconds / other.pod_seconds, ours.p95 / other.p95


if __name__ == "__main__":
    step.main(main)
