"""The simulator: it is the same each time, and what it tells is what it was told."""

import random

import pytest

from benchmarks.dispatch import cases, servers, simulator, workload
from benchmarks.dispatch.ways import Former, LeastConnections, RoundRobin
from modelset_proxy.dispatch import facts

SPEED = servers.Speed(load=5, prompt=500, answer=25)


def _arrivals(*models: str) -> list[workload.Arrival]:
    return [
        workload.Arrival(float(number), facts.Request(number, model, prompt_tokens=500), 25)
        for number, model in enumerate(models)
    ]


def _server(speed: servers.Speed = SPEED, parallel: int = 1) -> servers.Server:
    return servers.Server("s", memory_slots=1, parallel=parallel, speed=speed)


@pytest.mark.parametrize(
    ("models", "slots", "loads"),
    [("abab", 1, 4), ("abab", 2, 2), ("abcab", 2, 4), ("abcba", 2, 4), ("", 1, 0)],
)
def test_the_bound_is_the_fewest_loads_with_the_future_known(models: str, slots: int, loads: int) -> None:
    assert workload.belady_loads(_arrivals(*models), slots) == loads


def test_a_server_loads_reads_and_answers_at_its_speed() -> None:
    result = simulator.Simulation([_server()], RoundRobin(["s"])).run(_arrivals("a"))
    assert (result.waits, result.load_seconds, result.ended) == ([6.0], 5.0, 7.0)


def test_what_a_request_takes_beside_its_tokens_comes_before_them() -> None:
    speed = servers.Speed(request=0.5, load=5, prompt=500, answer=25)
    result = simulator.Simulation([_server(speed)], RoundRobin(["s"])).run(_arrivals("a"))
    assert (result.waits, result.ended) == ([6.5], 7.5)


def test_single_loads_and_requests_take_as_long_as_those_that_were_measured() -> None:
    speed = servers.Speed(request=0, load=5, prompt=500, answer=25, loads_vary=(0.5, 2), requests_vary=(1, 3))
    found, loaded = set(), set()
    for seed in range(20):
        server = servers.Server("s", memory_slots=1, parallel=1, speed=speed, chance=random.Random(seed))
        result = simulator.Simulation([server], RoundRobin(["s"])).run(_arrivals("a"))
        found.update(result.waits)
        loaded.add(result.load_seconds)
    assert found == {2.5 + 1, 2.5 + 3, 10 + 1.0, 10 + 3.0}
    assert loaded == {2.5, 10.0}


def test_a_server_without_an_idle_model_has_the_next_one_wait() -> None:
    result = simulator.Simulation([_server()], RoundRobin(["s"])).run(_arrivals("a", "b"))
    assert result.waits == [6.0, 7 + 5 + 1 - 1]


def test_requests_for_what_is_loaded_pass_those_that_wait_for_room() -> None:
    result = simulator.Simulation([_server()], RoundRobin(["s"])).run(_arrivals("a", "b", "a"))
    assert (result.waits, result.load_seconds) == ([6.0, 7 + 1 - 2, 9 + 5 + 1 - 1], 10.0)


def test_clients_ask_again_when_they_have_been_answered() -> None:
    result = simulator.Simulation([_server(parallel=4)], RoundRobin(["s"])).run(
        _arrivals("a", "a", "a", "a"), clients=2
    )
    assert (result.waits, result.ended) == ([6.0, 6.0, 1.0, 1.0], 9.0)


def test_a_run_is_the_same_each_time() -> None:
    first, second = (list(cases.memory(300)) for _ in range(2))
    assert first == second


def test_a_short_run_saves_loads_and_lets_nobody_starve() -> None:
    of_bound, of_others, _, longest = cases.memory(2000)
    assert of_bound.reached
    assert of_others.value < 0.5
    assert longest.reached


def _urls(decisions: list[facts.Decision]) -> list[str]:
    return [decision.url for decision in decisions]


def test_least_connections_counts_what_runs() -> None:
    way = LeastConnections(["one", "two"])
    first, second, third = (facts.Request(number, "a") for number in range(3))
    assert _urls(way.arrive(0.0, first) + way.arrive(0.0, second)) == ["one", "two"]
    way.ended(0.0, servers.Job(second, 0, 0))
    assert _urls(way.arrive(0.0, third)) == ["two"]


def test_the_former_router_goes_where_the_model_was_seen_until_that_server_is_swamped() -> None:
    way = Former(["one", "two"], parallel=9)
    way.look(0.0, {"one": set(), "two": {"a"}})
    urls = [_urls(way.arrive(0.0, facts.Request(number, "a"))) for number in range(18)]
    assert urls == [["two"]] * 16 + [["one"], ["two"]]


def test_the_former_router_evens_out_servers_of_which_it_knows_nothing() -> None:
    way = Former(["one", "two"], parallel=8)
    urls = [url for number in range(16) for url in _urls(way.arrive(0.0, facts.Request(number, "a")))]
    assert abs(urls.count("one") - urls.count("two")) <= 6


def test_the_former_router_bounds_what_runs_of_a_model_over_all_servers() -> None:
    way = Former(["one", "two"], parallel=1)
    requests = [facts.Request(number, "a") for number in range(3)]
    started = [decision for request in requests for decision in way.arrive(0.0, request)]
    assert len(started) == 2
    assert _urls(way.arrive(0.0, facts.Request(9, "b"))), "another model has a bound of its own"
    [next_one] = way.ended(1.0, servers.Job(requests[0], 0, 0))
    assert isinstance(next_one, facts.Start)
    assert next_one.request is requests[2]
