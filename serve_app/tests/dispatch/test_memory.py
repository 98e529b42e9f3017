"""What is in memory where, and what gives way."""

import math

import pytest

from modelset_proxy.dispatch import estimates, facts, growth, memory, state
from modelset_proxy.engines import port
from serve_app.tests.dispatch.bench import MODELS, Bench


def _loads(bench: Bench) -> list[facts.Decision]:
    return [one for one in bench.decide() if not isinstance(one, facts.Start)]


def test_a_first_request_has_its_model_loaded_and_the_next_goes_there_too() -> None:
    bench = Bench({"s1": "", "s2": ""}, max_in_flight_per_server=4)
    first, url = bench.ask()
    assert bench.ask()[1] == url
    assert bench.core.counts("a") == (2, 0)
    bench.end(first)


def test_an_empty_server_comes_before_an_eviction() -> None:
    bench = Bench({"s1": "b", "s2": ""}, max_loaded_per_server=1)
    assert bench.ask("a")[1] == "s2"


def test_once_all_slots_are_taken_another_server_with_room_loads_the_model() -> None:
    bench = Bench({"s1": "a", "s2": ""})
    running, _ = bench.ask()
    waiting = bench.arrive()
    assert bench.decide() == [facts.Load("a", "s2")]
    assert bench.decide() == []
    bench.core.loaded(bench.now + 2, "a", "s2", 2.0)
    assert bench.starts() == [(waiting.id, "s2")]
    bench.end(running)


def test_who_waits_for_a_load_ahead_takes_a_slot_that_is_free_before() -> None:
    bench = Bench({"s1": "a", "s2": ""})
    running, _ = bench.ask()
    waiting = bench.arrive()
    bench.decide()
    bench.end(running)
    assert bench.starts() == [(waiting.id, "s1")]


def test_a_load_ahead_that_failed_is_not_used() -> None:
    bench = Bench({"s1": "a", "s2": ""})
    bench.ask()
    bench.arrive()
    bench.decide()
    bench.core.loaded(bench.now, "a", "s2", None)
    assert bench.decide() == []


def test_the_copy_that_others_hold_gives_way_before_the_only_one() -> None:
    bench = Bench({"s1": "ab", "s2": "b"}, max_loaded_per_server=2)
    for model in "aab":
        bench.end(bench.ask(model)[0])
    bench.loaded["s2"] = ["b", "c"]
    bench.look()
    bench.core.limits = facts.Limits(max_in_flight_per_server=1, max_loaded_per_server=2)
    bench.arrive("d")
    bench.now += 60
    [unload, start] = bench.decide()
    assert isinstance(start, facts.Start)
    assert isinstance(unload, facts.Unload)
    assert (unload.model, unload.url) != ("a", "s1")


def test_what_is_asked_for_more_often_stays() -> None:
    bench = Bench({"s1": "ab"}, max_loaded_per_server=2, max_in_flight_per_server=4)
    bench.end(bench.ask("b")[0])
    for _ in range(9):
        bench.end(bench.ask("a")[0])
    bench.arrive("c")
    bench.now += 60
    assert bench.decide()[0] == facts.Unload("b", "s1")


def test_an_eviction_waits_until_it_is_worth_it() -> None:
    bench = Bench({"s1": "a"}, max_loaded_per_server=1, max_in_flight_per_server=4)
    for _ in range(50):
        bench.end(bench.ask("a")[0])
    bench.arrive("b")
    assert bench.decide() == []
    due = bench.core.wake(bench.now)
    assert due is not None
    assert 1 < due - bench.now < 15
    bench.now = due
    assert [type(one) for one in bench.decide()] == [facts.Unload, facts.Start]


def test_many_who_wait_together_wait_less() -> None:
    def seconds(count: int) -> float:
        bench = Bench({"s1": "a"}, max_loaded_per_server=1, max_in_flight_per_server=4)
        for _ in range(50):
            bench.end(bench.ask("a")[0])
        for _ in range(count):
            bench.arrive("b")
        bench.decide()
        return (bench.core.wake(bench.now) or 0.0) - bench.now

    assert seconds(4) == pytest.approx(seconds(1) / 4, rel=0.01)


def test_what_is_asked_for_seldom_gives_way_much_sooner() -> None:
    def seconds(count: int) -> float:
        bench = Bench({"s1": "a"}, max_loaded_per_server=1, max_in_flight_per_server=4)
        for _ in range(count):
            bench.end(bench.ask("a")[0])
        bench.arrive("b")
        bench.decide()
        return (bench.core.wake(bench.now) or 0.0) - bench.now

    assert 0 < seconds(10) < seconds(50) / 2


def test_a_second_copy_takes_the_place_of_another_model_only_when_waits_are_long() -> None:
    def decided(seconds: float) -> list[type]:
        bench = Bench({"s1": "a", "s2": "b"}, max_loaded_per_server=1)
        slow, _ = bench.ask("a")
        bench.now += seconds
        bench.end(slow)
        bench.ask("a")
        for _ in range(3):
            bench.arrive("a")
        return [type(one) for one in bench.decide()]

    assert decided(1.0) == []
    assert decided(20.0) == [facts.Unload, facts.Load]


def test_what_runs_is_never_let_go() -> None:
    bench = Bench({"s1": "a"}, max_loaded_per_server=1, switch_seconds=10)
    running, _ = bench.ask("a")
    bench.arrive("b")
    bench.now += 5
    assert bench.decide() == []
    bench.end(running)
    bench.now += 5
    assert [type(one) for one in bench.decide()] == [facts.Unload, facts.Start]


def test_those_who_wait_for_what_is_loaded_go_before_a_switch_but_not_for_ever() -> None:
    bench = Bench({"s1": "a"}, max_loaded_per_server=1, switch_seconds=10)
    running, _ = bench.ask("a")
    patient = bench.arrive("b")
    for _ in range(3):
        bench.now += 3
        following = bench.arrive("a")
        bench.end(running)
        assert bench.starts() == [(following.id, "s1")]
        running = following
    assert bench.core.wake(bench.now) == pytest.approx(110.0)
    bench.now = 110.0
    late = bench.arrive("a")
    assert bench.decide() == []
    bench.end(running)
    [unload, start] = bench.decide()
    assert unload == facts.Unload("a", "s1")
    assert isinstance(start, facts.Start)
    assert start.request is patient
    bench.end(patient)
    bench.now += 60
    assert (late.id, "s1") in bench.starts()


def test_a_copy_that_was_to_go_serves_on_when_nobody_waits_for_its_place() -> None:
    bench = Bench({"s1": "a"}, max_loaded_per_server=1, switch_seconds=10, max_in_flight_per_server=2)
    bench.ask("a")
    leaver = bench.arrive("b")
    bench.now += 11
    bench.decide()
    bench.core.leave(bench.now, leaver)
    assert bench.ask("a")[1] == "s1"


GIB = 2**30


def test_a_copy_serves_on_at_once_when_whoever_it_was_to_make_room_for_is_served() -> None:
    bench = Bench({"s1": "a", "s2": ""}, max_loaded_per_server=1, switch_seconds=10)
    bench.look(s2=None)
    running, _ = bench.ask("a")
    bench.arrive("b")
    bench.now += 11
    bench.decide()
    bench.now -= 12  # the one for the first model has waited longer, and is looked at first
    waiting = bench.arrive("a")
    bench.now += 12
    bench.end(running)
    bench.loaded["s2"] = ["b"]
    bench.core.report(
        {
            "s1": facts.Report(bench.now, frozenset("a"), {"a": 0}),
            "s2": facts.Report(bench.now, frozenset("b"), {"b": 0}),
        }
    )
    assert (waiting.id, "s1") in bench.starts()


def test_where_no_copy_can_be_used_one_that_is_in_use_makes_room_elsewhere() -> None:
    bench = Bench({"s1": "a", "s2": "b"}, max_loaded_per_server=1, switch_seconds=10)
    running, _ = bench.ask("b")
    bench.look(s1=None)
    bench.arrive("a")
    bench.now += 11
    bench.decide()
    bench.arrive("b")
    bench.end(running)
    assert facts.Unload("b", "s2") in bench.decide()


def test_loads_ahead_end_for_the_model_they_were_for() -> None:
    bench = Bench({"s1": "a", "s2": ""})
    bench.ask()
    waiting = bench.arrive()
    bench.decide()
    bench.core.loaded(bench.now, "b", "s2", 1.0)
    assert bench.decide() == []
    bench.core.loaded(bench.now, "a", "s2", 1.0)
    assert bench.starts() == [(waiting.id, "s2")]


def test_models_that_come_and_go_are_not_remembered_for_ever() -> None:
    bench = Bench({"s1": ""})
    bench.end(bench.ask("a")[0])
    for number in range(3000):
        bench.now += 1
        model = f"passing-{number}"
        bench.look(s1=facts.Report(bench.now, frozenset([*MODELS, model]), {model: 0}))
        bench.core.load_patience(model, "s1")
        bench.core._state.lane(model)
    state = bench.core._state
    assert "a" in state.lanes
    assert max(len(state.lanes), len(state._known)) < 1100


def test_as_many_models_as_may_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "_MOST_IDLE", 2)
    bench = Bench({"s1": ""})
    known = bench.core._state
    for passing, remembered in (("x", {"x"}), ("y", {"x", "y"}), ("z", set())):
        known.lane(passing)
        bench.look()
        assert known.lanes.keys() == remembered


def test_nobody_has_ever_asked_for_what_could_not_be_had() -> None:
    bench = Bench({"s1": ""}, memory_bytes_per_server=800)
    bench.look(s1=facts.Report(bench.now, frozenset(MODELS), {}, weights={"a": 900}))
    with pytest.raises(facts.NeverFits):
        bench.arrive("a")
    assert bench.core.demand(bench.now) == {}


def test_what_another_server_has_too_is_worth_little() -> None:
    bench = Bench({"s1": "ab", "s2": "b"})
    for model in "ab":
        bench.end(bench.ask(model)[0])
    known = bench.core._state
    only, spare = (
        next(known.worth(copy, bench.now) for copy in known.copies(model) if copy.server.url == "s1")
        for model in "ab"
    )
    assert spare == pytest.approx(only * memory._SPARE_WORTH)


def test_what_can_never_fit_is_refused() -> None:
    bench = Bench({"s1": ""}, memory_bytes_per_server=800)
    bench.look(s1=facts.Report(bench.now, frozenset(MODELS), {}, weights={"a": 900, "b": 800}))
    with pytest.raises(facts.NeverFits) as refusal:
        bench.arrive("a")
    assert (refusal.value.needed, refusal.value.memory) == (900, 800)
    assert bench.ask("b")[1] == "s1"
    bench.core.limits = facts.Limits(max_in_flight_per_server=1)
    bench.arrive("a")


def test_memory_is_counted_in_bytes_where_it_is_known() -> None:
    held = frozenset(MODELS)
    bench = Bench({"s1": ""}, memory_bytes_per_server=10 * GIB + growth._OWN_BYTES)
    bench.look(s1=facts.Report(bench.now, held, {"c": 5 * GIB}))
    bench.now += 1
    bench.look(s1=facts.Report(bench.now, held, {"a": 6 * GIB, "b": 3 * GIB}))
    bench.end(bench.ask("b")[0])
    bench.now += 60
    bench.arrive("c")
    assert bench.decide()[0] == facts.Unload("a", "s1")
    assert set(bench.core._state.servers["s1"].copies) == {"b", "c"}


@pytest.mark.parametrize(("weights", "goes"), [(4 * GIB, []), (5 * GIB, ["a"])])
def test_what_was_never_loaded_counts_with_the_size_of_its_weights(weights: int, goes: list[str]) -> None:
    bench = Bench({"s1": ""}, memory_bytes_per_server=10 * GIB + growth._OWN_BYTES)
    bench.look(s1=facts.Report(bench.now, frozenset(MODELS), {"a": 6 * GIB}, weights={"c": weights}))
    bench.now += 60
    bench.arrive("c")
    assert [one.model for one in bench.decide() if isinstance(one, facts.Unload)] == goes


def test_a_server_keeps_some_memory_for_itself() -> None:
    bench = Bench({"s1": ""}, memory_bytes_per_server=10 * GIB)
    bench.look(s1=facts.Report(bench.now, frozenset(MODELS), {"a": 5 * GIB}, weights={"b": 5 * GIB}))
    bench.now += 60
    bench.arrive("b")
    assert bench.decide()[0] == facts.Unload("a", "s1")


def test_a_model_may_have_a_server_for_itself_whatever_it_takes() -> None:
    bench = Bench({"s1": ""}, memory_bytes_per_server=GIB)
    bench.look(s1=facts.Report(bench.now, frozenset(MODELS), {}, weights={"a": GIB}))
    assert bench.ask("a")[1] == "s1"


class TestLooks:
    """What servers say, and what was asked of them since."""

    def test_an_old_look_does_not_undo_what_was_asked_for(self) -> None:
        bench = Bench({"s1": "", "s2": ""}, max_in_flight_per_server=4)
        stale = bench.now
        bench.now += 1
        first, url = bench.ask()
        bench.end(first)
        bench.core.report({one: facts.Report(stale, frozenset(MODELS), {}) for one in ("s1", "s2")})
        assert bench.ask()[1] == url

    def test_a_new_look_corrects_what_is_thought_to_be_loaded(self) -> None:
        bench = Bench({"s1": "a", "s2": ""}, max_in_flight_per_server=4)
        bench.now += 1
        bench.look(
            s1=facts.Report(bench.now, frozenset(MODELS), {}),
            s2=facts.Report(bench.now, frozenset(MODELS), {"a": 0}),
        )
        assert bench.ask()[1] == "s2"

    def test_what_was_let_go_is_not_back_because_of_an_old_look(self) -> None:
        bench = Bench({"s1": "a"}, max_loaded_per_server=1)
        stale = bench.now
        bench.now += 1
        bench.arrive("b")
        bench.now += 60
        bench.decide()
        bench.core.report({"s1": facts.Report(stale, frozenset(MODELS), {"a": 0})})
        assert [copy.model for copy in bench.core._state.copies("a")] == []

    def test_what_is_being_loaded_is_not_missed(self) -> None:
        bench = Bench({"s1": "a", "s2": ""})
        bench.ask()
        waiting = bench.arrive()
        bench.decide()
        bench.now += 1
        bench.look()
        bench.core.loaded(bench.now, "a", "s2", 1.0)
        assert bench.starts() == [(waiting.id, "s2")]

    def test_a_look_tells_that_a_load_has_ended_that_nobody_waits_for(self) -> None:
        bench = Bench({"s1": ""})
        request = bench.ask()[0]
        bench.core.leave(bench.now, request)
        bench.now += 1
        bench.loaded["s1"] = ["a"]
        bench.look()
        [copy] = bench.core._state.copies("a")
        assert not copy.loading

    def test_a_server_that_is_gone_leaves_nothing_behind(self) -> None:
        bench = Bench({"s1": "a", "s2": "a"})
        bench.end(bench.ask()[0], port.Outcome(load_seconds=9.0))
        bench.core.report({})
        lane = bench.core._state.lane("a")
        assert bench.core._state.copies("a") == []
        assert not lane.known.has_loaded

    def test_measured_loads_decide_where_the_next_goes(self) -> None:
        bench = Bench({"s1": "", "s2": ""})
        for away, seconds in (("s2", 9.0), ("s1", 2.0)):
            bench.look(**{away: None})
            request, _ = bench.ask("a")
            bench.end(request, port.Outcome(load_seconds=seconds))
            bench.now += 60
            bench.look()
        assert bench.ask("a")[1] == "s2"


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [((), (), 0), ((1,), (), 0), ((1, 2), (1, 3), 1), ((1, 2, 3), (1, 2, 3), 3), ((9, 2), (1, 2), 0)],
)
def test_common_beginnings_are_counted(one: tuple[int, ...], other: tuple[int, ...], shared: int) -> None:
    assert memory.common(one, other) == shared


@pytest.mark.parametrize("shared", range(9))
@pytest.mark.parametrize("longer", range(4))
def test_common_beginnings_are_found_wherever_they_end(shared: int, longer: int) -> None:
    one = (*range(shared), *range(100, 108))
    other = (*range(shared), *range(200, 200 + longer))
    assert memory.common(one, other) == memory.common(other, one) == shared


def test_a_slot_that_read_something_else_is_left_alone_while_one_is_new() -> None:
    bench = Bench({"s1": "a"}, max_in_flight_per_server=2)
    for prefix in ((1,), (2,), (3,)):
        bench.end(bench.ask(prefix=prefix)[0])
    slots = bench.core._state.copies("a")[0].slots
    assert len(slots) == 2
    assert (3,) in {slot.prefix for slot in slots}


def test_only_what_was_read_counts_for_the_speed_of_reading() -> None:
    bench = Bench({"s1": "a"})
    known = bench.core._state.lane("a").known
    took = port.Outcome(prompt_tokens=1000, prompt_seconds=1.0)
    bench.end(bench.ask(prefix=(1, 2, 3, 4))[0], took)
    assert known.prompt_seconds(1000) == 1.0
    bench.end(bench.ask(prefix=(1, 2, 3, 5))[0], port.Outcome(prompt_tokens=1000, prompt_seconds=1.0))
    assert known.prompt_seconds(1000) == pytest.approx(1000 / (1000 - 0.2 * 750))


def test_a_model_of_which_nobody_knows_the_size_is_tried_where_memory_is_full() -> None:
    bench = Bench({"s1": ""}, memory_bytes_per_server=growth._OWN_BYTES + 1000)
    bench.look(s1=facts.Report(bench.now, frozenset(MODELS), {"a": 1000}))
    assert [type(one) for one in _decided(bench, "b")] == [facts.Start]


def test_a_model_that_still_loads_is_farther_away_than_one_that_is_there() -> None:
    bench = Bench({"s1": "", "s2": ""}, max_in_flight_per_server=2)
    loading, _ = bench.ask()
    bench.loaded = {"s1": [], "s2": ["a"]}
    bench.core.report({"s2": facts.Report(bench.now, frozenset(MODELS), {"a": 0})})
    bench.look()
    assert [bench.ask()[1] for _ in range(2)] == ["s2", "s2"]
    bench.end(loading)


@pytest.mark.parametrize(
    ("others", "arrivals", "share"), [(0, 7, 1.0), (1, 105, 0.05), (1, 106, 1.0), (4, 419, 0.05)]
)
def test_a_copy_is_worth_little_while_others_have_slots_to_spare(
    others: int, arrivals: int, share: float
) -> None:
    known, rate = estimates.Model(), arrivals / 600.0
    copy = memory.Copy("a", memory.Server("s1"), size=0, asked=0.0, ready=0.0)
    only = memory.worth(copy, known, rate, 0)
    assert only == pytest.approx(5.0 * (1 - math.exp(-rate * 20.0)))
    assert memory.worth(copy, known, rate, others) == pytest.approx(share * only)


def _decided(bench: Bench, model: str) -> list[facts.Decision]:
    bench.arrive(model)
    return bench.decide()


class TestLoadsAhead:
    """Loads for which nobody was sent there yet."""

    @staticmethod
    def _loading() -> Bench:
        bench = Bench({"s1": "a", "s2": ""})
        bench.ask()
        bench.arrive()
        assert bench.decide() == [facts.Load("a", "s2")]
        return bench

    def test_one_that_ends_at_a_server_that_is_gone_is_nothing(self) -> None:
        bench = self._loading()
        bench.core.report({"s1": facts.Report(bench.now, frozenset("a"), {"a": 0})})
        bench.core.loaded(bench.now, "a", "s2", 1.0)
        assert bench.decide() == []

    def test_one_of_which_nothing_is_known_is_nothing(self) -> None:
        bench = self._loading()
        bench.core.loaded(bench.now, "b", "s2", 1.0)
        bench.core.loaded(bench.now, "a", "s1", None)
        assert [copy.server.url for copy in bench.core._state.copies("a")] == ["s1", "s2"]

    def test_its_time_is_learnt(self) -> None:
        bench = self._loading()
        bench.core.loaded(bench.now, "a", "s2", 9.0)
        assert bench.core._state.lane("a").known.load_seconds("s2") == 9.0

    def test_once_it_has_ended_the_server_may_load_another_model(self) -> None:
        bench = self._loading()
        bench.look(s1=None)
        bench.arrive("b")
        assert bench.decide() == []
        bench.core.loaded(bench.now, "a", "s2", 9.0)
        assert bench.starts() == [(2, "s2"), (3, "s2")]

    def test_one_that_failed_leaves_nothing_loaded(self) -> None:
        bench = self._loading()
        bench.core.loaded(bench.now, "a", "s2", None)
        assert [copy.server.url for copy in bench.core._state.copies("a")] == ["s1"]

    def test_an_old_look_does_not_undo_it(self) -> None:
        bench = self._loading()
        stale = bench.now + 1
        bench.now += 5
        bench.core.loaded(bench.now, "a", "s2", 5.0)
        bench.look(s2=facts.Report(stale, frozenset("a"), {}))
        assert len(bench.starts()) == 1


@pytest.mark.parametrize(("load", "held"), [(0.0, 10.0), (0.5, 9.5), (4.0, 6.0), (11.0, 0.0)])
def test_a_load_is_learnt_and_is_no_part_of_how_long_a_slot_is_held(load: float, held: float) -> None:
    bench = Bench({"s1": "a"})
    known = bench.core._state.lane("a").known
    before = known.load_seconds("s1")
    request, _ = bench.ask()
    bench.now += 10
    bench.end(request, port.Outcome(load_seconds=load))
    assert known.slot_seconds.value == held
    assert known.load_seconds("s1") == (load or before)


class TestWhereACopyGoes:
    """Which servers are thought of, and how long one waits for what is there."""

    @pytest.mark.parametrize("first", ["", "b"])
    def test_a_server_that_is_busy_with_another_model_does_not_hide_the_next(self, first: str) -> None:
        bench = Bench({"s1": first, "s2": ""}, max_loaded_per_server=1)
        assert bench.ask("b")[1] == "s1"
        assert bench.ask("a")[1] == "s2"

    def test_one_without_a_slot_for_this_proxy_is_not_thought_of(self) -> None:
        bench = Bench({"s1": "a", "s2": ""})
        bench.core._state.granted = lambda url, _: {"s1": 1, "s2": 0}[url]
        bench.ask()
        bench.arrive()
        assert bench.decide() == []

    def test_nobody_waits_for_a_copy_at_a_server_that_failed(self) -> None:
        bench = Bench({"s1": "a", "s2": ""})
        request, _ = bench.ask()
        bench.core.failed(bench.now, request, 0)
        bench.core.leave(bench.now, request)
        assert bench.ask()[1] == "s2"

    def test_another_look_at_whether_a_second_copy_pays_comes_after_a_second(self) -> None:
        bench = Bench({"s1": "a", "s2": "b"}, max_loaded_per_server=1)
        bench.ask()
        bench.arrive()
        assert bench.decide() == []
        assert bench.core.wake(bench.now) == bench.now + 1.0

    @pytest.mark.parametrize(
        ("loaded", "ago", "slots", "waiting", "evicted"),
        [
            ("a", 0.0, 1, 1, False),
            ("", 0.0, 1, 1, True),
            ("", 4.5, 1, 1, False),
            ("a", 0.0, 1, 2, True),
            ("a", 0.0, 2, 3, False),
        ],
        ids=["soon", "once it has loaded", "it has nearly", "one after another", "two at a time"],
    )
    def test_a_second_copy_comes_when_the_last_in_line_would_wait_longer(
        self, loaded: str, ago: float, slots: int, waiting: int, evicted: bool
    ) -> None:
        bench = Bench({"s1": loaded, "s2": "b"}, max_loaded_per_server=1, max_in_flight_per_server=slots)
        for _ in range(slots):
            bench.ask()
        bench.now += ago
        for _ in range(waiting):
            bench.arrive()
        expected = [facts.Unload("b", "s2"), facts.Load("a", "s2")]
        assert bench.decide() == (expected if evicted else [])

    def test_what_is_loaded_adds_nothing_to_a_wait(self) -> None:
        bench = Bench({"s1": "a", "s2": "b"}, max_loaded_per_server=1)
        usual, _ = bench.ask()
        bench.now += 7
        bench.end(usual)
        bench.ask()
        bench.arrive()
        # Seven seconds are less than half as long again as a load takes, which is five.
        assert bench.decide() == []

    def test_what_fits_exactly_pushes_nothing_out(self) -> None:
        bench = Bench({"s1": ""}, memory_bytes_per_server=growth._OWN_BYTES + 1000)
        sizes = {"a": 600, "b": 400}
        for model, size in sizes.items():
            bench.look(s1=facts.Report(bench.now, frozenset(MODELS), {model: size}))
            bench.now += 1
        bench.look(s1=facts.Report(bench.now, frozenset(MODELS), {"a": 600}))
        assert [type(one) for one in _decided(bench, "b")] == [facts.Start]

    def test_sizes_decide_nothing_where_nobody_says_how_much_a_server_has(self) -> None:
        bench = Bench({"s1": ""})
        bench.look(s1=facts.Report(bench.now, frozenset(MODELS), {"a": 600}))
        bench.now += 1
        bench.look(s1=facts.Report(bench.now, frozenset(MODELS), {"b": 600}))
        assert [type(one) for one in _decided(bench, "a")] == [facts.Start]


class TestWaitingForASwitch:
    """How long those wait for whom something has to go."""

    @staticmethod
    def _dear(**limits: float) -> Bench:
        """Return a bench where a model waits for the place of one that is asked for often."""
        bench = Bench({"s1": "a"}, max_loaded_per_server=1, max_in_flight_per_server=4, **limits)
        for _ in range(50):
            bench.end(bench.ask("a")[0])
        bench.arrive("b")
        assert bench.decide() == []
        return bench

    def test_the_time_is_told_and_stays_the_same(self) -> None:
        bench = self._dear()
        due = bench.core.wake(bench.now)
        bench.now += 2
        assert bench.decide() == []
        assert bench.core.wake(bench.now) == pytest.approx(due, abs=0.5)

    def test_it_is_no_longer_than_the_limit(self) -> None:
        bench = self._dear(switch_seconds=1)
        bench.now += 0.5
        assert bench.decide() == []
        assert bench.core.wake(bench.now) == pytest.approx(bench.now + 0.5, abs=0.001)
        bench.now += 0.5
        assert [type(one) for one in bench.decide()] == [facts.Unload, facts.Start]

    def test_only_one_copy_is_to_go(self) -> None:
        bench = Bench({"s1": "a", "s2": "b"}, max_loaded_per_server=1, max_in_flight_per_server=9)
        bench.ask("a")
        bench.ask("b")
        bench.arrive("c")
        bench.decide()
        bench.now += 31
        bench.decide()
        [leaving] = [lane for lane in "ab" if bench.core._state.copies(lane)[0].leaving]
        for _ in range(5):
            bench.arrive(leaving)
        bench.decide()
        assert len([lane for lane in "ab" if bench.core._state.copies(lane)[0].leaving]) == 1

    def test_what_still_loads_is_not_made_to_go(self) -> None:
        bench = Bench({"s1": ""}, max_loaded_per_server=1, switch_seconds=1)
        bench.ask("a")
        bench.arrive("b")
        bench.now += 2
        assert bench.decide() == []
        assert not bench.core._state.copies("a")[0].leaving


@pytest.mark.parametrize("how", ["streams", "was heard", "ended"])
def test_a_model_that_answers_is_loaded_and_the_next_may_be(how: str) -> None:
    bench = Bench({"s1": ""})
    request, _ = bench.ask("a")
    bench.arrive("b")
    assert bench.decide() == []
    match how:
        case "streams":
            bench.core.served(request, 0, 16)
        case "was heard":
            bench.core.heard(bench.now, request, 0)
        case _:
            bench.core.ended(bench.now, request, 0, port.Outcome())
    assert [type(one) for one in bench.decide()] == [facts.Start]


def test_a_model_that_fits_exactly_is_not_refused() -> None:
    bench = Bench({"s1": ""}, memory_bytes_per_server=900)
    bench.look(s1=facts.Report(bench.now, frozenset(MODELS), {}, weights={"a": 900}))
    assert bench.ask("a")[1] == "s1"


class TestLooksAndWork:
    """What a look misses of what is under way."""

    @staticmethod
    def _missed(bench: Bench, **began: float) -> int:
        """Have a look miss the model, and count the copies that are still thought to be there."""
        reports = {
            url: facts.Report(began.get(url, bench.now), frozenset(MODELS), {}) for url in bench.loaded
        }
        bench.core.report(reports)
        return len(bench.core._state.copies("a"))

    def test_what_runs_is_there(self) -> None:
        bench = Bench({"s1": "a"})
        request, _ = bench.ask()
        bench.now += 1
        assert self._missed(bench) == 1
        bench.end(request)
        bench.now += 1
        assert self._missed(bench) == 0

    def test_what_was_asked_since_is_there(self) -> None:
        bench = Bench({"s1": "a"})
        bench.now += 2
        bench.end(bench.ask()[0])
        assert self._missed(bench, s1=bench.now - 1) == 1

    def test_a_load_ahead_takes_as_long_as_it_takes(self) -> None:
        bench = Bench({"s1": "a", "s2": ""})
        bench.ask()
        bench.arrive()
        assert bench.decide() == [facts.Load("a", "s2")]
        bench.now += 60
        assert self._missed(bench) == 2

    def test_a_load_that_nobody_waits_for_any_more_is_believed_in_for_its_usual_time(self) -> None:
        bench = Bench({"s1": ""})
        bench.core.leave(bench.now, bench.ask()[0])
        bench.now += 4
        assert self._missed(bench) == 1
        bench.now += 2
        assert self._missed(bench) == 0

    def test_a_size_that_is_found_out_counts_from_then_on(self) -> None:
        bench = Bench({"s1": "", "s2": ""}, memory_bytes_per_server=growth._OWN_BYTES + 1000)
        held = frozenset(MODELS)
        bench.look(s2=None)
        bench.end(bench.ask("a")[0])
        bench.now += 1
        there = facts.Report(bench.now, held, {"a": 600})
        bench.core.report({"s1": there, "s2": facts.Report(bench.now, frozenset(), {"b": 500})})
        bench.core.report({"s1": there})
        bench.arrive("b")
        bench.now += 60
        assert bench.decide()[0] == facts.Unload("a", "s1")

    def test_what_a_server_that_is_gone_took_is_forgotten(self) -> None:
        bench = Bench({"s1": "a", "s2": "a"})
        first, _ = bench.ask()
        second, _ = bench.ask()
        bench.end(first, port.Outcome(load_seconds=9.0))
        bench.end(second, port.Outcome(load_seconds=1.0))
        known = bench.core._state.lane("a").known
        assert (known.load_seconds("s1"), known.load_seconds("s2")) == (9.0, 1.0)
        bench.core.report({})
        assert known.load_seconds("s1") == known.load_seconds("s2") == pytest.approx(7.4)
