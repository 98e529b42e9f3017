"""How many run, and at which slot of which server."""

import pytest

from modelset_proxy.dispatch import facts
from modelset_proxy.engines import port
from serve_app.tests.dispatch.bench import Bench


def test_never_more_run_than_there_are_slots() -> None:
    bench = Bench({"s1": "a", "s2": "a"}, max_in_flight_per_server=2)
    for _ in range(7):
        bench.arrive()
    urls = [url for _, url in bench.starts()]
    assert sorted(urls) == ["s1", "s1", "s2", "s2"]
    assert bench.core.counts("a") == (4, 3)


def test_without_a_limit_all_are_sent_on_at_once() -> None:
    bench = Bench({"s1": "a"}, max_in_flight_per_server=None)
    for _ in range(300):
        bench.arrive()
    assert len(bench.starts()) == 300
    assert len(bench.core._state.copies("a")[0].slots) == 64


def test_a_slot_that_is_free_again_goes_to_the_next() -> None:
    bench = Bench({"s1": "a"})
    first, _ = bench.ask()
    second = bench.arrive()
    assert bench.starts() == []
    bench.end(first)
    assert bench.starts() == [(second.id, "s1")]


def test_models_have_slots_of_their_own() -> None:
    bench = Bench({"s1": "ab"})
    bench.arrive("a")
    bench.arrive("b")
    assert len(bench.starts()) == 2


def test_slots_that_were_granted_to_others_are_left_alone() -> None:
    bench = Bench({"s1": "a", "s2": "a"}, max_in_flight_per_server=2)
    bench.core._state.granted = lambda url, _: {"s1": 0, "s2": 1}[url]
    bench.arrive()
    bench.arrive()
    assert [url for _, url in bench.starts()] == ["s2"]


def test_a_request_goes_where_its_prompt_was_read() -> None:
    bench = Bench({"s1": "a", "s2": "a"}, max_in_flight_per_server=2)
    said = (1, 2, 3)
    blocker, elsewhere = bench.ask()
    first, home = bench.ask(prefix=said, prompt_tokens=300)
    assert {elsewhere, home} == {"s1", "s2"}
    bench.end(first)
    bench.end(blocker)
    _, again = bench.ask(prefix=(*said, 4), prompt_tokens=400)
    assert again == home


def test_a_prompt_that_is_new_goes_to_the_server_that_does_least() -> None:
    bench = Bench({"s1": "ab", "s2": "a"}, max_in_flight_per_server=2)
    bench.ask("b")
    assert bench.ask("a")[1] == "s2"


def test_units_of_one_request_are_one_in_the_queue_and_run_side_by_side() -> None:
    bench = Bench({"s1": "a"}, max_in_flight_per_server=2, max_queued_requests=1)
    request = bench.arrive(units=5)
    assert [unit.unit for unit in bench.decide() if isinstance(unit, facts.Start)] == [0, 1]
    assert bench.core.counts("a") == (2, 1)
    bench.core.ended(bench.now, request, 0, port.Outcome())
    assert [unit.unit for unit in bench.decide() if isinstance(unit, facts.Start)] == [2]


def test_a_request_that_leaves_frees_all_it_holds() -> None:
    bench = Bench({"s1": "a"}, max_in_flight_per_server=2)
    greedy = bench.arrive(units=9)
    bench.starts()
    patient = bench.arrive()
    bench.core.leave(bench.now, greedy)
    assert bench.starts() == [(patient.id, "s1")]
    assert bench.core.counts("a") == (1, 0)


def test_a_request_that_leaves_the_queue_is_passed_over() -> None:
    bench = Bench({"s1": "a"})
    running, _ = bench.ask()
    leaver, stayer = bench.arrive(), bench.arrive()
    bench.core.leave(bench.now, leaver)
    bench.end(running)
    assert bench.starts() == [(stayer.id, "s1")]


@pytest.mark.parametrize(
    ("limits", "waiting", "mine"),
    [
        ({"max_queued_requests": 1}, ["other"], False),
        ({"max_queued_per_client": 1}, ["me"], True),
        ({"max_queued_requests": 0}, [], False),
    ],
)
def test_waiting_has_bounds(limits: dict[str, int], waiting: list[str], mine: bool) -> None:
    bench = Bench({"s1": "a"}, **limits)
    running, _ = bench.ask(client="me")
    for client in waiting:
        bench.arrive(client=client)
    with pytest.raises(facts.QueueFull) as full:
        bench.arrive(client="me")
    assert full.value.client is mine
    bench.end(running)
    bench.starts()
    assert bench.core.counts("a")[1] == 0


def test_without_a_queue_a_model_that_is_not_loaded_is_loaded_all_the_same() -> None:
    bench = Bench({"s1": ""}, max_queued_requests=0)
    bench.ask()
    with pytest.raises(facts.QueueFull):
        bench.arrive()


def test_another_clients_queue_takes_no_place_of_ones_own() -> None:
    bench = Bench({"s1": "a"}, max_queued_per_client=1)
    bench.ask(client="me")
    bench.arrive(client="other")
    bench.arrive(client="me")
    assert bench.core.counts("a") == (1, 2)


def test_demand_tells_who_runs_waits_and_for_how_long_nobody_has() -> None:
    bench = Bench({"s1": "a"})
    running, _ = bench.ask()
    waiting = bench.arrive()
    bench.now += 5
    demand = bench.core.demand(bench.now)["a"]
    assert demand == facts.Demand(1, 1, 5.0, 0.0)
    bench.end(running)
    bench.starts()
    bench.now += 3
    bench.end(waiting)
    bench.now += 7
    assert bench.core.demand(bench.now)["a"] == facts.Demand(0, 0, 0.0, 7.0)


@pytest.mark.parametrize(
    ("loaded_for", "beside", "where"),
    [(0.0, 1, "s2"), (4.5, 1, "s2"), (4.99, 3, "s1")],
    ids=["just begun", "half a second left", "sooner than the others are done"],
)
def test_a_load_that_is_under_way_counts_for_what_is_left_of_it(
    loaded_for: float, beside: int, where: str
) -> None:
    bench = Bench({"s1": "", "s2": "b"}, max_in_flight_per_server=9)
    assert bench.ask("a")[1] == "s1"
    bench.loaded = {"s1": [], "s2": ["a", "b"]}
    bench.look()
    for _ in range(beside):
        assert bench.ask("b")[1] == "s2"
    bench.now += loaded_for
    assert bench.ask("a")[1] == where


def test_a_prompt_that_no_slot_has_read_is_as_long_everywhere() -> None:
    bench = Bench({"s1": "a", "s2": "ab"}, max_in_flight_per_server=9)
    bench.end(bench.ask(prefix=(9,))[0])
    bench.ask("b")
    assert bench.ask(prefix=(1, 2), prompt_tokens=3000)[1] == "s1"


def test_a_slot_that_is_busy_is_no_help_with_a_prompt() -> None:
    bench = Bench({"s1": "a"}, max_in_flight_per_server=2)
    bench.end(bench.ask(prefix=(1, 2))[0])
    [copy] = bench.core._state.copies("a")
    helped, _ = bench.ask(prefix=(1, 2, 3, 4), prompt_tokens=300)
    assert copy.unread_tokens == 150
    other, _ = bench.ask(prefix=(1, 2, 3, 4), prompt_tokens=400)
    assert copy.unread_tokens == 550
    bench.end(helped)
    assert copy.unread_tokens == 400
    bench.end(other)
    assert copy.unread_tokens == 0


def test_the_model_for_which_one_waits_longest_is_first() -> None:
    bench = Bench({"s1": "c"}, max_loaded_per_server=1)
    running, _ = bench.ask("c")
    leaver = bench.arrive("a")
    bench.now += 1
    patient = bench.arrive("b")
    bench.now += 1
    bench.arrive("a")
    bench.core.leave(bench.now, leaver)
    bench.now += 60
    bench.end(running)
    assert bench.starts() == [(patient.id, "s1")]
