"""What the core tells of what it knows, and its bounds."""

import pytest

from modelset_proxy.dispatch import facts, state
from serve_app.tests.dispatch.bench import Bench


@pytest.mark.parametrize(
    ("reports", "count"),
    [
        ({}, 2),
        ({"s1": None}, 1),
        ({"s1": facts.Report(100.0, frozenset("b"), {})}, 1),
        ({"s1": None, "s2": None}, 0),
    ],
)
def test_servers_that_hold_a_model_and_answer_are_counted(
    reports: dict[str, facts.Report | None], count: int
) -> None:
    bench = Bench({"s1": "a", "s2": ""})
    bench.look(**reports)
    assert bench.core.holders("a") == count
    reachable = 2 - list(reports.values()).count(None)
    assert bench.core.state() == {"servers": 2, "reachable": reachable}


class TestWants:
    """What is told to whoever shares out slots among proxies."""

    def test_what_runs_and_waits_where_the_model_is(self) -> None:
        bench = Bench({"s1": "a", "s2": ""})
        bench.ask()
        bench.arrive(units=3)
        bench.arrive()
        assert bench.core.wants() == {("s1", "a"): (1, 5), ("s2", "a"): (0, 0)}

    def test_wherever_it_could_be_while_it_is_nowhere(self) -> None:
        bench = Bench({"s1": "", "s2": "", "s3": "", "s4": ""})
        bench.look(s1=None, s3=facts.Report(bench.now, frozenset("b"), {}))
        bench.arrive()
        assert bench.core.wants() == {("s2", "a"): (0, 1), ("s4", "a"): (0, 1)}


def test_of_a_model_that_nobody_has_asked_for_nothing_runs() -> None:
    bench = Bench({"s1": "a"})
    assert bench.core.counts("b") == (0, 0)
    assert bench.core.demand(bench.now) == {}


def test_bounds_may_be_replaced() -> None:
    bench = Bench({"s1": "a"})
    bench.ask()
    waiting = bench.arrive()
    bench.core.limits = facts.Limits(max_in_flight_per_server=2)
    assert bench.core.limits.max_in_flight_per_server == 2
    assert bench.starts() == [(waiting.id, "s1")]


def test_a_feed_tells_at_once_who_begins_and_ends_to_run_or_to_wait() -> None:
    def outline(running: int, queued: int, idle: float = 0.0) -> object:
        return facts.Feed({"a": facts.Demand(running, queued, 0.0, idle)}, {"s1": "a"}).outline()

    assert outline(0, 0) == outline(0, 0, 9.0)
    assert outline(1, 1) == outline(5, 7)
    assert len({str(outline(*both)) for both in ((0, 0), (0, 1), (1, 0), (1, 1))}) == 4
    assert outline(0, 0) != facts.Feed({"a": facts.Demand(0, 0, 0.0, 0.0)}).outline()


def test_it_is_told_whether_anybody_waits() -> None:
    bench = Bench({"s1": "a"})
    bench.ask()
    assert not bench.core.waits
    bench.arrive()
    assert bench.core.waits


def test_time_alone_changes_nothing_for_those_who_wait_for_a_slot() -> None:
    bench = Bench({"s1": "a"}, max_loaded_per_server=1)
    for _ in range(50):
        bench.end(bench.ask("a")[0])
    bench.arrive("b")
    bench.decide()
    due = bench.core.wake(bench.now)
    assert due is not None
    bench.now = due
    assert len(bench.starts()) == 1
    bench.arrive("b")
    assert bench.starts() == []
    assert bench.core.wake(bench.now) is None


def test_models_that_nobody_holds_or_asks_for_are_forgotten_when_there_are_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(state, "_MOST_IDLE", 3)
    bench = Bench({"s1": "a"})
    waiting = bench.arrive("waits")
    for model in ("a", *(f"gone{number}" for number in range(2))):
        bench.core.leave(bench.now, bench.arrive(model))
    bench.look()
    assert bench.core.demand(bench.now).keys() == {"a", waiting.model}
    assert bench.core._state._known.keys() >= {"a", waiting.model}
    assert "gone0" not in bench.core._state._known


def test_what_is_used_and_what_leaves_is_told_at_once_and_rates_are_not() -> None:
    one, other = frozenset({("s1", "a")}), frozenset({("s1", "b")})
    outlines = [facts.Memory(used, leaving).outline() for used in (one, other) for leaving in (one, other)]
    assert len(set(outlines)) == 4
    assert facts.Memory(one, one, {"a": 1.0}).outline() == outlines[0]


@pytest.mark.parametrize(
    ("used", "looks"), [(("s1", "a"), False), (("s1", "b"), True), (("elsewhere", "b"), False)]
)
def test_a_look_is_due_where_others_have_what_is_not_known_of(used: tuple[str, str], looks: bool) -> None:
    bench = Bench({"s1": "a"})
    assert bench.core.others(facts.Memory(frozenset({used}))) is looks
