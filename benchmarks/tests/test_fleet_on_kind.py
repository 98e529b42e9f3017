"""The fleet on the kind cluster: what is asked of it, and what is made of what came of it."""

import collections
import math

import pytest

from benchmarks.dispatch import fleets
from benchmarks.dispatch.result import Result
from benchmarks.fleet import __main__ as fleet
from benchmarks.fleet import trace


def test_every_way_is_asked_the_same_bursts_of_all_models() -> None:
    arrivals = trace.arrivals()
    assert repr(arrivals) == repr(trace.arrivals())
    times = [one.at for one in arrivals]
    assert times == sorted(times)
    assert times[-1] < trace.SECONDS
    assert {one.request.model for one in arrivals} == set(trace.MODELS)
    a_second = collections.Counter(int(at) for at in times)
    busy = sum(count for _, count in a_second.most_common(30)) / 30
    assert busy > 2 * len(arrivals) / trace.SECONDS


def _outcome(late: int, pod_seconds: float, first_token: float = 1.0) -> fleets.Outcome:
    waits = [first_token] * (100 - late) + [math.inf] * late
    return fleets.Outcome(Result(waits), pod_seconds, [])


OTHER = fleet.Figures.of(_outcome(2, 100.0))


@pytest.mark.parametrize(
    ("ours", "reached"),
    [
        pytest.param(_outcome(0, 79.0), [True, True, True, True], id="far fewer pods"),
        pytest.param(_outcome(0, 99.0), [True, True, True, False], id="as good, and nothing clearly better"),
        pytest.param(_outcome(0, 100.0, 0.7), [True, True, True, True], id="far sooner"),
        pytest.param(_outcome(3, 79.0), [False, True, True, True], id="more of them late"),
        pytest.param(_outcome(0, 101.0, 0.7), [True, False, True, True], id="more pods"),
        pytest.param(_outcome(0, 79.0, 1.1), [True, True, False, True], id="later"),
    ],
)
def test_demand_is_as_good_in_each_and_clearly_better_in_one(
    ours: fleets.Outcome, reached: list[bool]
) -> None:
    floors = [*fleet.as_good(ours, "other", OTHER), fleet.clearly_better(ours, "other", OTHER)]
    assert [one.reached for one in floors] == reached


@pytest.mark.parametrize(
    ("pods", "counts", "expected"),
    [
        pytest.param(2.0, [2], (0.96, 8.0), id="whole pods"),
        pytest.param(2.25, [2, 3], (0.97, 6.5), id="between two numbers of pods"),
    ],
)
def test_a_fixed_fleet_costs_what_ours_does(
    pods: float, counts: list[int], expected: tuple[float, float]
) -> None:
    run = {2: _outcome(4, 600.0, 8.0), 3: _outcome(0, 900.0, 2.0)}
    fixed = {count: run[count] for count in counts}
    found = fleet.fixed_fleet(pods * trace.SECONDS, fixed)
    assert (found.goodput, found.pod_seconds, found.p95) == pytest.approx(
        (expected[0], pods * trace.SECONDS, expected[1])
    )
