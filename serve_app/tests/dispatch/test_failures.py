"""Servers that fail: who goes where then, and what is told of servers."""

import pytest

from modelset_proxy.dispatch import facts
from modelset_proxy.engines import port
from serve_app.tests.dispatch.bench import Bench


def _failed(bench: Bench, *, absent: bool = False) -> tuple[facts.Request, str]:
    """Have a request fail where it is started; return it, and where that was."""
    request, url = bench.ask()
    bench.core.failed(bench.now, request, 0, absent=absent)
    return request, url


def test_a_request_goes_on_where_it_has_not_failed() -> None:
    bench = Bench({"s1": "a", "s2": "a"})
    request, url = _failed(bench)
    assert bench.core.counts("a") == (0, 1)
    [(again, other)] = bench.starts()
    assert (again, {url, other}) == (request.id, {"s1", "s2"})


def test_others_keep_away_from_one_that_failed_for_twice_as_long_each_time() -> None:
    bench = Bench({"s1": "a", "s2": "a"}, max_in_flight_per_server=99)
    for seconds in (1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0):
        bench.look(s2=None)
        bench.core.leave(bench.now, _failed(bench)[0])
        bench.look()
        bench.now += seconds - 0.1
        assert {bench.ask()[1] for _ in range(3)} == {"s2"}
        bench.now += 0.1
        assert bench.core._state.servers["s1"].well(bench.now)


def test_an_answer_makes_up_for_failures() -> None:
    bench = Bench({"s1": "a", "s2": "a"}, max_in_flight_per_server=9)
    bench.look(s2=None)
    slow, _ = bench.ask()
    for _ in range(2):
        bench.core.leave(bench.now, _failed(bench)[0])
        bench.now += 1.5
    bench.end(slow)
    bench.look()
    assert {bench.ask()[1] for _ in range(4)} == {"s1", "s2"}
    bench.look(s2=None)
    bench.core.leave(bench.now, _failed(bench)[0])
    bench.look()
    bench.now += 1.0
    assert "s1" in {bench.ask()[1] for _ in range(8)}


def test_the_only_one_is_asked_though_it_failed_just_now() -> None:
    bench = Bench({"s1": "a", "s2": ""})
    bench.look(s2=facts.Report(bench.now, frozenset("b"), {}))
    bench.core.leave(bench.now, _failed(bench)[0])
    assert bench.ask()[1] == "s1"


def test_time_is_told_at_which_one_that_failed_is_asked_again() -> None:
    bench = Bench({"s1": "a", "s2": "a"})
    bench.look(s2=None)
    bench.core.leave(bench.now, _failed(bench)[0])
    bench.look()
    bench.ask()
    assert bench.core.wake(bench.now) is None
    waiting = bench.arrive()
    assert bench.starts() == []
    assert bench.core.wake(bench.now) == bench.now + 1.0
    bench.now += 1.0
    assert bench.starts() == [(waiting.id, "s1")]


class TestAbsent:
    """A server that turns out not to hold a model."""

    def test_it_is_asked_for_others_at_once(self) -> None:
        bench = Bench({"s1": "ab"})
        bench.core.leave(bench.now, _failed(bench, absent=True)[0])
        assert bench.core.holders("a") == 0
        assert bench.ask("b")[1] == "s1"

    def test_it_gets_no_more_for_the_model_until_it_is_seen_there_again(self) -> None:
        bench = Bench({"s1": "a"})
        request, _ = _failed(bench, absent=True)
        assert bench.starts() == []
        bench.core.retry(request)
        bench.now += 1
        bench.look()
        assert bench.starts() == [(request.id, "s1")]


def test_those_left_to_try_are_told_from_those_that_failed() -> None:
    bench = Bench({"s1": "a", "s2": "a"})
    request, url = _failed(bench)
    assert bench.core.untried(request)
    bench.look(**{"s2" if url == "s1" else "s1": None})
    assert not bench.core.untried(request)
    bench.look(**{"s2" if url == "s1" else "s1": facts.Report(bench.now, frozenset("b"), {})})
    assert not bench.core.untried(request)
    bench.core.retry(request)
    assert bench.core.untried(request)


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
    assert bench.core.demand(bench.now)["a"] == facts.Demand(0, 0, 0.0, bench.now)


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
        assert [copy.server.url for copy in bench.core._state.lane("a").copies] == ["s1", "s2"]

    def test_its_time_is_learnt(self) -> None:
        bench = self._loading()
        bench.core.loaded(bench.now, "a", "s2", 9.0)
        assert bench.core._state.lane("a").known.load_seconds("s2") == 9.0

    def test_one_that_failed_leaves_nothing_loaded(self) -> None:
        bench = self._loading()
        bench.core.loaded(bench.now, "a", "s2", None)
        assert [copy.server.url for copy in bench.core._state.lane("a").copies] == ["s1"]

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
