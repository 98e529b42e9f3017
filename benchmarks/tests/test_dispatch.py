"""The simulator: it is the same each time, and what it tells is what it was told."""

import pytest

from benchmarks.dispatch import cases, servers, simulator, ways, workload
from modelset_proxy.dispatch import facts


def _arrivals(*models: str) -> list[workload.Arrival]:
    return [
        workload.Arrival(float(number), facts.Request(number, model, prompt_tokens=500), 25)
        for number, model in enumerate(models)
    ]


@pytest.mark.parametrize(
    ("models", "slots", "loads"),
    [("abab", 1, 4), ("abab", 2, 2), ("abcab", 2, 4), ("abcba", 2, 4), ("", 1, 0)],
)
def test_the_bound_is_the_fewest_loads_with_the_future_known(models: str, slots: int, loads: int) -> None:
    assert workload.belady_loads(_arrivals(*models), slots) == loads


def test_a_server_loads_reads_and_answers_at_its_speed() -> None:
    fleet = [
        servers.Server("s", memory_slots=1, parallel=1, speed=servers.Speed(load=5, prompt=500, answer=25))
    ]
    result = simulator.Simulation(fleet, ways.RoundRobin(["s"])).run(_arrivals("a"))
    assert (result.waits, result.load_seconds, result.ended) == ([6.0], 5.0, 7.0)


def test_a_server_without_an_idle_model_has_the_next_one_wait() -> None:
    fleet = [
        servers.Server("s", memory_slots=1, parallel=1, speed=servers.Speed(load=5, prompt=500, answer=25))
    ]
    result = simulator.Simulation(fleet, ways.RoundRobin(["s"])).run(_arrivals("a", "b"))
    assert result.waits == [6.0, 7 + 5 + 1 - 1]


def test_a_short_run_saves_loads_lets_nobody_starve_and_is_the_same_each_time() -> None:
    first, second = (list(cases.memory(2000)) for _ in range(2))
    assert first == second
    of_bound, of_others, _, longest = first
    assert of_bound.reached
    assert of_others.value < 0.5
    assert longest.reached
