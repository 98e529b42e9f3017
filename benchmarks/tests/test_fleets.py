"""Fleets that come and go: pods as StatefulSets have them, and those who decide how many."""

import itertools
from collections.abc import Mapping, Sequence

import pytest

from benchmarks.dispatch import elastic, fleets, pods, scaling, servers, simulator, ways, workload
from benchmarks.dispatch.result import Result
from modelset_operator.api import spec
from modelset_proxy.dispatch import facts

SPEED = servers.Speed(load=5, prompt=500, answer=25)
START = 20.0


def _make(name: str, _pool: str = "") -> servers.Server:
    return servers.Server(name, memory_slots=1, parallel=4, speed=SPEED, power=4)


def _arrivals(model: str, *times: float) -> list[workload.Arrival]:
    return [
        workload.Arrival(at, facts.Request(number, model, prompt_tokens=500), 25)
        for number, at in enumerate(times)
    ]


def _asked(**active: int) -> Mapping[str, facts.Demand]:
    return {model: facts.Demand(count, 0, 0.0, 0.0) for model, count in active.items()}


def _ready(fleet: pods.Pods, now: float) -> list[str]:
    return [server.name for server in fleet.ready(now)]


def test_what_runs_beyond_a_servers_power_shares_it() -> None:
    server = servers.Server("s", memory_slots=1, parallel=4, speed=SPEED, power=1)
    arrivals = [workload.Arrival(at, facts.Request(int(at), "a", prompt_tokens=500), 25) for at in (0.0, 1.0)]
    result = simulator.Simulation([server], ways.RoundRobin(["s"])).run(arrivals)
    # Both begin when the model is there, at 5; each does half of its second's reading a second.
    assert (result.waits, result.ended) == ([7.0, 6.0], 9.0)


def test_a_pod_is_ready_when_it_has_started_and_goes_when_nobody_knows_it() -> None:
    fleet = pods.Pods(_make, START)
    fleet.want(0.0, {"set": 2})
    assert _ready(fleet, 19.9) == []
    assert _ready(fleet, 20.0) == ["set/0", "set/1"]
    fleet.want(30.0, {"set": 1})
    assert _ready(fleet, 30.0) == ["set/0"]
    assert fleet.seconds == 0.0
    fleet.seen(33.0)
    assert fleet.seconds == 33.0


def test_a_pod_goes_when_what_it_has_begun_is_done() -> None:
    fleet = pods.Pods(_make, START)
    fleet.want(0.0, {"set": 1})
    [server] = fleet.ready(20.0)
    server.ask(20.0, servers.Job(facts.Request(0, "a", prompt_tokens=500), 0, 25))
    fleet.want(21.0, {"set": 0})
    fleet.seen(23.0)
    assert fleet.seconds == 0.0
    for second in (25.0, 26.0, 27.0):
        server.ended(second)
    fleet.seen(27.0)
    assert fleet.seconds == 27.0


def test_a_pod_that_is_not_ready_yet_goes_at_once() -> None:
    fleet = pods.Pods(_make, START)
    fleet.want(0.0, {"set": 1})
    fleet.want(5.0, {"set": 0})
    assert fleet.seconds == 5.0


def test_a_pod_that_goes_is_gone_before_it_comes_again() -> None:
    fleet = pods.Pods(_make, START)
    fleet.want(0.0, {"set": 1})
    fleet.want(30.0, {"set": 0})
    fleet.want(31.0, {"set": 1})
    assert _ready(fleet, 40.0) == []
    fleet.seen(33.0)
    assert _ready(fleet, 52.9) == []
    assert _ready(fleet, 53.0) == ["set/0"]


def test_a_warm_pod_has_its_model_in_memory_before_it_is_ready() -> None:
    fleet = pods.Pods(_make, START, warm=True)
    fleet.want(0.0, {"a": 1})
    assert _ready(fleet, 24.9) == []
    [server] = fleet.ready(25.0)
    assert server.loaded == {"a"}


def test_pods_that_are_left_count_to_the_end() -> None:
    fleet = pods.Pods(_make, START)
    fleet.want(10.0, {"set": 3})
    fleet.end(20.0)
    assert fleet.seconds == 30.0


def test_the_operators_policy_decides_for_all_models_together() -> None:
    scaler = scaling.ByPolicy("set", spec.Autoscaling(0, 8, 4, 60.0))
    assert scaler.decide(0.0, {}) == {"set": 0}
    assert scaler.decide(1.0, _asked(a=4, b=1)) == {"set": 2}
    idle = {"a": facts.Demand(0, 0, 0.0, 60.0), "b": facts.Demand(0, 0, 0.0, 61.0)}
    assert scaler.decide(2.0, {"a": facts.Demand(0, 0, 0.0, 1.0)}) == {"set": 2}
    assert scaler.decide(62.0, idle) == {"set": 0}


def test_averages_wake_at_once_and_follow_slowly() -> None:
    scaler = scaling.Averages(["a", "b"], target=4, most=8, interval=10, window=30, down_delay=20)
    found = [scaler.decide(float(second), _asked(a=12 if second else 0))["a"] for second in (0, 1, 9, 10, 20)]
    assert found == [0, 1, 1, 1, 2]
    assert scaler.decide(30.0, _asked(a=12)) == {"a": 3, "b": 0}


def test_averages_go_down_when_that_was_said_often_enough() -> None:
    scaler = scaling.Averages(["a"], target=4, most=8, interval=10, window=10, down_delay=20)
    scaler.decide(0.0, _asked(a=12))
    found = [scaler.decide(float(second), _asked())["a"] for second in (10, 20, 30)]
    assert found == [3, 3, 0]


def test_by_model_holds_requests_until_a_server_has_their_model() -> None:
    way = ways.ByModel()
    request = facts.Request(0, "a")
    assert way.arrive(0.0, request) == []
    assert way.demand(0.0)["a"].in_flight == 1
    way.look(1.0, {"b/0": {"b"}, "a/0": {"a"}})
    assert [one.url for one in way.again(1.0) if isinstance(one, facts.Start)] == ["a/0"]
    assert way.demand(1.0)["a"].in_flight == 1
    way.ended(2.0, servers.Job(request, 0, 0))
    assert way.demand(2.0) == {}


def test_a_request_wakes_a_fleet_and_is_answered() -> None:
    fleet = pods.Pods(_make, START)
    way = ways.Ours(facts.Limits(max_in_flight_per_server=4, max_loaded_per_server=1), {"a"})
    scaler = scaling.ByPolicy("set", spec.Autoscaling(0, 8, 4, 60.0))
    result = elastic.Elastic(fleet, way, scaler).run_until(200.0, _arrivals("a", 0.5))
    # Seen at 1, there at 21, loaded at 26, read at 27; gone 60 s after the end of its answer.
    assert result.waits == [pytest.approx(26.5)]
    assert [(one.at, one.before, one.after) for one in fleet.changes] == [(1.0, 0, 1), (88.0, 1, 0)]
    assert fleet.seconds == pytest.approx(88 - 1, abs=3)


def test_bursts_are_the_same_each_time_and_leave_quiet_hours() -> None:
    first, second = (workload.bursts(models=3, seconds=7200, seed=5) for _ in range(2))
    assert [(one.at, one.request.model, one.answer_tokens) for one in first] == [
        (one.at, one.request.model, one.answer_tokens) for one in second
    ]
    gaps = [later.at - one.at for one, later in itertools.pairwise(first)]
    assert max(gaps) > 300
    assert {one.request.model for one in first} == set(workload.names(3))


def _outcome(waits: Sequence[float], pod_seconds: float = 0.0, *changes: pods.Change) -> fleets.Outcome:
    return fleets.Outcome(Result(list(waits)), pod_seconds, list(changes))


def test_pods_called_back_soon_after_they_were_told_to_go_are_counted() -> None:
    called_back = [pods.Change(10, "a", 2, 1), pods.Change(60, "b", 0, 1), pods.Change(69, "a", 1, 2)]
    later = [pods.Change(80, "a", 2, 0), pods.Change(140, "a", 0, 1)]
    changes = [pods.Change(0, "a", 0, 2), *called_back, *later]
    assert _outcome([], 0.0, *changes).recalls == 1


def test_figures_of_several_runs_are_of_all_their_requests_and_pods() -> None:
    found = fleets.together([_outcome([1.0, 10.0], 5.0), _outcome([11.0, 12.0], 6.0)])
    assert (found.goodput, found.p95, found.pod_seconds) == (0.5, 12.0, 11.0)


@pytest.mark.parametrize(
    ("waits", "pod_seconds", "reached"),
    [([1, 1], 10, [True] * 3), ([1, 1], 11, [True, False, True]), ([1, 11], 10, [False, True, False])],
)
def test_a_way_has_to_be_as_good_in_each_figure(
    waits: list[float], pod_seconds: float, reached: list[bool]
) -> None:
    other = _outcome([2.0, 2.0], 10.0)
    assert [one.reached for one in fleets.beside(_outcome(waits, pod_seconds), "other", other)] == reached


def test_half_an_hour_of_bursts_is_served_sooner_than_by_averages_and_with_fewer_pods() -> None:
    arrivals = workload.bursts(models=6, seconds=1800, seed=1)
    ours = fleets.by_policy(1800, arrivals)
    other = fleets.by_model(1800, arrivals, 600.0)
    assert all(one.reached for one in fleets.beside(ours, "averages", other))
    assert len(ours.result.waits) == len(other.result.waits) == len(arrivals)
