"""A whole fleet by demand, beside one that never changes and beside a Deployment a model; a line a floor."""

import dataclasses
import math
from collections.abc import Iterator, Sequence

from benchmarks import floors
from benchmarks.dispatch import elastic, pods, scaling, servers, ways, workload
from benchmarks.dispatch.result import Result
from modelset_operator.api import spec
from modelset_proxy.dispatch import facts

_MODELS = 6
_PARALLEL = 4
_MEMORY_SLOTS = 3
_MOST = 8
_POOL = "set"
_POLICY = spec.Autoscaling(0, _MOST, _PARALLEL, idle_seconds=300.0)
# From a pod's making until it is Ready, its image on the node and its models on its volume.
_START_SECONDS = 20.0
# A first token that comes later is no good any more: without a pod it takes a start and a load.
_GOOD_SECONDS = 10.0
_HOUR, _DAY = 3600.0, 24 * 3600.0
_SEEDS = (1, 2, 3)
_DAY_SEED = 11
# A pod that is called back so soon after it was told to go has gone for nothing.
_SOON_SECONDS = 60.0
# What KubeAI averages over as it is installed, and what suits these bursts better.
_WINDOWS = (600.0, 60.0)

Arrivals = Sequence[workload.Arrival]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of one way: of requests, seconds of pods, and how many pods were wanted when."""

    result: Result
    pod_seconds: float
    changes: list[pods.Change]

    @property
    def goodput(self) -> float:
        """The share of the requests whose first token came in time."""
        return self.result.within(_GOOD_SECONDS)

    @property
    def p95(self) -> float:
        """What 95 % of the times to the first token do not exceed."""
        return self.result.percentile(0.95)

    @property
    def recalls(self) -> int:
        """How often pods were called back soon after they were told to go."""
        last: dict[str, pods.Change] = {}
        found = 0
        for change in self.changes:
            before = last.get(change.pool)
            if before is not None and before.after < before.before and change.after > change.before:
                found += change.at - before.at < _SOON_SECONDS
            last[change.pool] = change
        return found

    def line(self) -> str:
        """Say it in words."""
        return f"{self.goodput:.1%} in time, p95 {self.p95:.1f} s, {self.pod_seconds:,.0f} s of pods"


def together(outcomes: Sequence[Outcome]) -> Outcome:
    """Return what came of several runs in all."""
    return Outcome(
        Result([wait for one in outcomes for wait in one.result.waits]),
        sum(one.pod_seconds for one in outcomes),
        [change for one in outcomes for change in one.changes],
    )


def by_policy(seconds: float, arrivals: Arrivals) -> Outcome:
    """The dispatcher on pods that the operator's policy has made, each for all models."""
    return _shared(seconds, arrivals, scaling.ByPolicy(_POOL, _POLICY))


def fixed(seconds: float, arrivals: Arrivals, count: int) -> Outcome:
    """The dispatcher on so many of the same pods."""
    return _shared(seconds, arrivals, scaling.Fixed(_POOL, count))


def by_model(seconds: float, arrivals: Arrivals, window: float) -> Outcome:
    """Pods of one model each, as many as averages over a window say."""
    fleet = pods.Pods(lambda name, _: _server(name, 1), _START_SECONDS, warm=True)
    scaler = scaling.Averages(workload.names(_MODELS), target=_PARALLEL, most=_MOST, window=window)
    return _run(fleet, ways.ByModel(), scaler, seconds, arrivals)


def compared() -> Iterator[floors.Floor]:
    """An hour of bursts, several times over."""
    traces = [workload.bursts(models=_MODELS, seconds=_HOUR, seed=seed) for seed in _SEEDS]
    each = [by_policy(_HOUR, trace) for trace in traces]
    ours = together(each)
    # There is no part of a pod: the fixed fleet gets a whole one for what is left.
    counts = [math.ceil(one.pod_seconds / _HOUR) for one in each]
    same = together([fixed(_HOUR, trace, count) for trace, count in zip(traces, counts, strict=True)])
    others = {
        f"averages over {window:.0f} s": together([by_model(_HOUR, trace, window) for trace in traces])
        for window in _WINDOWS
    }
    yield from beside(ours, "a fixed fleet of as many seconds of pods", same)
    for name, other in others.items():
        yield from beside(ours, f"a Deployment a model by {name}", other)


def calm() -> Iterator[floors.Floor]:
    """A day of bursts: pods do not come and go all the time."""
    day = by_policy(_DAY, workload.bursts(models=_MODELS, seconds=_DAY, seed=_DAY_SEED))
    hours = _DAY / _HOUR
    yield floors.Floor("fleet: changes of the number of pods an hour", len(day.changes) / hours, 60.0)
    yield floors.Floor(
        f"fleet: pods called back within {_SOON_SECONDS:.0f} s an hour", day.recalls / hours, 3.0
    )


def beside(ours: Outcome, name: str, other: Outcome) -> Iterator[floors.Floor]:
    """Yield a floor a figure: as good in each, and the slow end twice as fast."""
    yield floors.Floor(
        f"fleet: requests in time, of {name}",
        ours.goodput / other.goodput,
        1.0,
        at_least=True,
        note=f"{ours.line()}; {other.line()}",
    )
    yield floors.Floor(f"fleet: seconds of pods, of {name}", ours.pod_seconds / other.pod_seconds, 1.0)
    yield floors.Floor(f"fleet: p95 time to first token, of {name}", ours.p95 / other.p95, 0.5)


def _shared(seconds: float, arrivals: Arrivals, scaler: scaling.Scaler) -> Outcome:
    fleet = pods.Pods(lambda name, _: _server(name, _MEMORY_SLOTS), _START_SECONDS)
    limits = facts.Limits(
        max_in_flight_per_server=_PARALLEL, max_loaded_per_server=_MEMORY_SLOTS, max_queued_requests=10**9
    )
    return _run(fleet, ways.Ours(limits, workload.names(_MODELS)), scaler, seconds, arrivals)


def _server(name: str, memory_slots: int) -> servers.Server:
    """A pod answers as many at full speed as one model has slots, of however many models they are."""
    return servers.Server(
        name, memory_slots=memory_slots, parallel=_PARALLEL, speed=servers.Speed(), power=_PARALLEL
    )


def _run(
    fleet: pods.Pods, way: ways.Scalable, scaler: scaling.Scaler, seconds: float, arrivals: Arrivals
) -> Outcome:
    result = elastic.Elastic(fleet, way, scaler).run_until(seconds, arrivals)
    return Outcome(result, fleet.seconds, fleet.changes)
