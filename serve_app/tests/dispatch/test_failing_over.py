"""What happens to a unit, and to a server, when the server fails it."""

from modelset_proxy.dispatch import facts
from serve_app.tests.dispatch.bench import MODELS, Bench


def test_a_failed_unit_goes_to_another_server_before_all_others_of_its_client() -> None:
    bench = Bench({"s1": "a", "s2": "a"})
    first, home = bench.ask()
    second, other = bench.ask()
    bench.arrive()
    bench.core.failed(bench.now, first, 0)
    assert bench.core.counts("a") == (1, 2)
    bench.end(second)
    assert bench.starts() == [(first.id, other)]
    assert home != other


def test_a_failing_server_is_avoided_twice_as_long_each_time() -> None:
    bench = Bench({"s1": "a", "s2": "a"}, max_in_flight_per_server=9)
    waits = []
    server = bench.core._state.servers["s1"]
    for _ in range(7):
        request, url = bench.ask()
        while url != "s1":
            request, url = bench.ask()
        bench.core.failed(bench.now, request, 0)
        waits.append(server.avoid_until - bench.now)
        bench.core.leave(bench.now, request)
        bench.now = server.avoid_until
    assert waits == [1, 2, 4, 8, 16, 30, 30]


def test_a_server_that_works_again_is_forgiven() -> None:
    bench = Bench({"s1": "a"})
    request, _ = bench.ask()
    bench.core.failed(bench.now, request, 0)
    bench.core.retry(request)
    assert bench.starts() == [(request.id, "s1")]
    bench.end(request)
    assert bench.core._state.servers["s1"].avoid_until == 0
    again, _ = bench.ask()
    bench.core.failed(bench.now, again, 0)
    assert bench.core._state.servers["s1"].avoid_until == bench.now + 1


def test_the_only_server_is_used_though_it_failed() -> None:
    bench = Bench({"s1": "a"})
    request, _ = bench.ask()
    bench.core.failed(bench.now, request, 0)
    bench.core.leave(bench.now, request)
    assert bench.ask()[1] == "s1"


def test_a_failed_server_is_tried_again_once_its_time_is_over() -> None:
    bench = Bench({"s1": "a", "s2": "a"})
    failed, url = bench.ask()
    bench.core.failed(bench.now, failed, 0)
    bench.starts()
    waiting = bench.arrive()
    assert bench.starts() == []
    assert bench.core.wake(bench.now) == bench.now + 1
    bench.now += 1
    assert bench.starts() == [(waiting.id, url)]


def test_a_model_that_is_absent_is_looked_for_elsewhere_and_the_server_is_well() -> None:
    bench = Bench({"s1": "ab", "s2": ""})
    request, url = bench.ask("a")
    assert url == "s1"
    bench.core.failed(bench.now, request, 0, absent=True)
    assert bench.core.untried(request)
    assert set(bench.core._state.servers["s1"].copies) == {"b"}
    assert bench.starts() == [(request.id, "s2")]
    assert bench.ask("b")[1] == "s1"


def test_a_model_that_is_absent_takes_no_copy_from_its_variants() -> None:
    bench = Bench({"s1": ""}, max_in_flight_per_server=2)
    bench.look(s1=facts.Report(bench.now, frozenset("ab"), {"a": 0}, {"a": "a", "b": "a"}))
    bench.ask("a")
    request, _ = bench.ask("b")
    bench.core.failed(bench.now, request, 0, absent=True)
    assert bench.ask("a")[1] == "s1"
    assert bench.core.wants()["s1", "a"] == (2, 2)


def test_a_failed_unit_rather_has_its_model_loaded_elsewhere_than_goes_back() -> None:
    bench = Bench({"s1": "a", "s2": ""})
    request, _ = bench.ask()
    bench.core.failed(bench.now, request, 0)
    bench.now += 1
    assert bench.starts() == [(request.id, "s2")]


def test_a_failed_unit_goes_back_when_there_is_nowhere_else() -> None:
    bench = Bench({"s1": "a", "s2": ""})
    request, _ = bench.ask()
    bench.core.failed(bench.now, request, 0)
    bench.look(s2=None)
    assert bench.starts() == [(request.id, "s1")]


def test_nobody_is_left_to_try_once_all_have_failed() -> None:
    bench = Bench({"s1": "a"})
    request, _ = bench.ask()
    bench.core.failed(bench.now, request, 0)
    assert not bench.core.untried(request)


def test_a_server_that_does_not_answer_gets_nothing() -> None:
    bench = Bench({"s1": "a", "s2": "a"}, max_in_flight_per_server=9)
    bench.look(s1=None)
    assert {bench.ask()[1] for _ in range(4)} == {"s2"}
    assert bench.core.state() == {"servers": 2, "reachable": 1}
    assert bench.core.holders("a") == 1


def test_a_server_that_is_gone_takes_its_copies_along() -> None:
    bench = Bench({"s1": "a", "s2": ""})
    running, _ = bench.ask()
    report = facts.Report(bench.now, frozenset(MODELS), {})
    bench.core.report({"s2": report})
    assert bench.core.state() == {"servers": 1, "reachable": 1}
    bench.end(running)
    assert bench.ask()[1] == "s2"


def _failed(bench: Bench, *, absent: bool = False) -> tuple[facts.Request, str]:
    """Have a request fail where it is started; return it, and where that was."""
    request, url = bench.ask()
    bench.core.failed(bench.now, request, 0, absent=absent)
    return request, url


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
