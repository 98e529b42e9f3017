"""A server that says nothing: at work, or hanging?"""

import pytest

from modelset_proxy.dispatch import facts
from modelset_proxy.engines import port
from serve_app.tests.dispatch.bench import Bench

HERE = {("s1", "a"): True}


def checked(bench: Bench, waited_for: dict[tuple[str, str], bool] = HERE) -> list[facts.Try | facts.GiveUp]:
    return bench.core.check(bench.now, waited_for)


def tried(bench: Bench, *, whole: bool = False, answered: bool) -> None:
    bench.core.tried(bench.now, facts.Try("a", "s1", whole=whole), answered=answered)


def hanging() -> tuple[Bench, facts.Request]:
    """Return a bench on which a request was given up because nothing answered, and the request."""
    bench = Bench({"s1": "a", "s2": "a"}, max_in_flight_per_server=4)
    bench.look(s2=None)
    request, _ = bench.ask()
    bench.look()
    bench.now += 2.5
    assert checked(bench) == [facts.Try("a", "s1", whole=False)]
    bench.now += 5.0
    assert checked(bench) == [facts.GiveUp(request, 0, "s1")]
    return bench, request


def test_a_server_is_tried_before_its_silence_is_held_against_it() -> None:
    bench = Bench({"s1": "a"})
    bench.ask()
    bench.now += 2.4
    assert checked(bench) == []
    bench.now += 0.1
    assert checked(bench) == [facts.Try("a", "s1", whole=False)]
    bench.now += 4.9
    assert checked(bench) == []


def test_one_that_does_not_answer_a_try_is_given_up_within_ten_seconds() -> None:
    bench, _ = hanging()
    assert bench.core.sick() == {"s1": "a"}
    assert {bench.ask()[1] for _ in range(4)} == {"s2"}


def test_one_that_answers_tries_may_read_for_long() -> None:
    bench = Bench({"s1": "a"})
    bench.ask(prompt_tokens=6000)  # 20 s at first guess
    for _ in range(38):
        bench.now += 5.0
        if checked(bench):
            tried(bench, answered=True)
        assert bench.core.sick() == {}
    bench.now += 11
    assert isinstance(checked(bench)[0], facts.GiveUp)


def test_an_answer_that_comes_whole_may_take_for_ever_where_tries_are_answered() -> None:
    bench = Bench({"s1": "a"})
    bench.ask()
    whole = {("s1", "a"): False}
    for _ in range(100):
        bench.now += 5.0
        if checked(bench, whole):
            tried(bench, answered=True)
        assert bench.core.sick() == {}
    bench.now += 2.0
    assert checked(bench, whole)
    bench.now += 5.0
    assert isinstance(checked(bench, whole)[0], facts.GiveUp)


def test_what_has_been_read_before_is_not_expected_to_take_time() -> None:
    bench = Bench({"s1": "a"})
    first, _ = bench.ask(prompt_tokens=60_000, prefix=(1, 2))
    bench.end(first)
    bench.ask(prompt_tokens=60_000, prefix=(1, 2))
    bench.now += 121
    assert isinstance(checked(bench)[0], facts.GiveUp)


def test_tries_do_not_pile_up() -> None:
    bench = Bench({"s1": "a"})
    bench.ask()
    bench.now += 3
    assert len(checked(bench)) == 1
    bench.now += 1
    assert checked(bench) == []
    tried(bench, answered=True)
    bench.now += 1.9
    assert checked(bench) == []
    bench.now += 0.1
    assert len(checked(bench)) == 1


def test_whoever_is_heard_is_not_tried() -> None:
    bench = Bench({"s1": "a"})
    request, _ = bench.ask()
    for _ in range(5):
        bench.now += 2.4
        bench.core.heard(bench.now, request, 0)
        assert checked(bench) == []


def test_another_that_starts_does_not_hide_a_silence() -> None:
    bench = Bench({"s1": "a"}, max_in_flight_per_server=2)
    bench.ask()
    bench.now += 2.4
    bench.ask()
    bench.now += 0.1
    assert len(checked(bench)) == 1


def test_clients_that_take_nothing_say_nothing_about_the_server() -> None:
    bench = Bench({"s1": "a"})
    bench.ask()
    bench.now += 60
    assert checked(bench, {}) == []
    bench.now += 1
    assert checked(bench) == []


def test_one_models_silence_is_not_hidden_by_another_model() -> None:
    bench = Bench({"s1": ["a", "b"]})
    silent, _ = bench.ask("a")
    talking, _ = bench.ask("b")
    waited_for = {("s1", "a"): True, ("s1", "b"): True}
    bench.now += 2.5
    bench.core.heard(bench.now, talking, 0)
    assert checked(bench, waited_for) == [facts.Try("a", "s1", whole=False)]
    bench.now += 5
    bench.core.heard(bench.now, talking, 0)
    assert checked(bench, waited_for) == [facts.GiveUp(silent, 0, "s1")]


class TestLoads:
    """A load takes as long as it takes, within reason."""

    def test_the_first_may_take_minutes(self) -> None:
        bench = Bench({"s1": ""})
        bench.ask()
        bench.now += 330
        assert checked(bench) == []
        bench.now += 1
        assert isinstance(checked(bench)[0], facts.GiveUp)

    @pytest.mark.parametrize(("usual", "patience"), [(2.0, 30.0), (20.0, 100.0)])
    def test_later_ones_are_held_to_the_usual(self, usual: float, patience: float) -> None:
        bench = Bench({"s1": ""})
        request, _ = bench.ask()
        bench.end(request, port.Outcome(load_seconds=usual))
        bench.now += 1000
        bench.look()
        assert bench.core.load_patience("a", "s1") == patience
        bench.ask()
        bench.now += patience
        assert checked(bench) == []
        bench.now += 0.1
        assert isinstance(checked(bench)[0], facts.GiveUp)

    def test_a_model_that_is_listed_may_still_load(self) -> None:
        bench = Bench({"s1": ""})
        bench.ask()
        bench.now += 1
        bench.loaded["s1"] = ["a"]
        bench.look()
        bench.now += 60
        assert checked(bench) == []

    def test_the_first_word_ends_it(self) -> None:
        bench = Bench({"s1": ""})
        request, _ = bench.ask()
        bench.now += 1
        bench.core.heard(bench.now, request, 0)
        bench.now += 2.5
        assert len(checked(bench)) == 1


class TestComingBack:
    """A server that hangs is not forgotten."""

    def test_it_is_tried_by_a_whole_answer(self) -> None:
        bench, request = hanging()
        bench.core.leave(bench.now, request)
        tried(bench, answered=False)
        bench.now += 1.9
        assert checked(bench, {}) == []
        bench.now += 0.1
        assert checked(bench, {}) == [facts.Try("a", "s1", whole=True)]
        tried(bench, whole=True, answered=True)
        assert bench.core.sick() == {}
        assert {bench.ask()[1] for _ in range(4)} == {"s1", "s2"}

    def test_a_touch_does_not_make_it_well(self) -> None:
        bench, _ = hanging()
        tried(bench, answered=True)
        assert bench.core.sick() == {"s1": "a"}
        assert checked(bench, {}) == [facts.Try("a", "s1", whole=True)]

    def test_it_stays_away_while_tries_fail(self) -> None:
        bench, request = hanging()
        bench.core.failed(bench.now, request, 0)
        for _ in range(3):
            tried(bench, answered=False)
            bench.now += 2
            assert len(checked(bench, {})) == 1
            assert bench.core.sick() == {"s1": "a"}

    def test_one_that_hangs_for_another_proxy_gets_nothing_from_this_one(self) -> None:
        bench = Bench({"s1": "a", "s2": "a"}, max_in_flight_per_server=4)
        bench.core.shun({"s1"})
        assert {bench.ask()[1] for _ in range(4)} == {"s2"}
        bench.core.shun(set())
        assert bench.ask()[1] == "s1"

    def test_it_is_not_tried_where_nothing_listens(self) -> None:
        bench, _ = hanging()
        tried(bench, answered=False)
        bench.look(s1=None)
        bench.now += 60
        assert checked(bench, {}) == []

    def test_it_is_used_again_where_there_is_no_other_only_once_it_answers(self) -> None:
        bench, request = hanging()
        bench.core.failed(bench.now, request, 0)
        bench.look(s2=None)
        assert bench.starts() == []
        tried(bench, whole=True, answered=True)
        bench.core.retry(request)
        assert bench.starts() == [(request.id, "s1")]


def test_what_fails_at_once_counts_once() -> None:
    bench = Bench({"s1": "a", "s2": "a"}, max_in_flight_per_server=9)
    bench.look(s2=None)
    requests = [bench.ask()[0] for _ in range(5)]
    bench.look()
    for request in requests:
        bench.core.failed(bench.now, request, 0)
        bench.core.leave(bench.now, request)
    bench.now += 1
    assert {bench.ask()[1] for _ in range(4)} == {"s1", "s2"}


def test_a_prompt_may_take_ten_times_what_it_should() -> None:
    bench = Bench({"s1": "a"})
    bench.ask(prompt_tokens=6000)  # 20 s at first guess
    for seconds in (100.0, 100.0):
        bench.now += seconds
        checked(bench)
        tried(bench, answered=True)
    assert bench.core.sick() == {}
    bench.now += 0.01
    assert isinstance(checked(bench)[0], facts.GiveUp)


def test_whoever_was_heard_when_it_was_tried_does_not_hang() -> None:
    bench = Bench({"s1": "a"})
    request, _ = bench.ask()
    bench.now += 2.5
    assert len(checked(bench)) == 1
    bench.core.heard(bench.now, request, 0)
    bench.now += 5.0
    assert checked(bench) == []


def test_an_answer_to_one_is_a_sign_of_life_for_the_others() -> None:
    bench = Bench({"s1": "a"}, max_in_flight_per_server=2)
    first, _ = bench.ask()
    bench.ask()
    bench.now += 2.4
    bench.end(first)
    bench.now += 2.4
    assert checked(bench) == []


def test_one_that_answers_again_starts_with_a_clean_sheet() -> None:
    bench, request = hanging()
    bench.core.failed(bench.now, request, 0)
    bench.core.leave(bench.now, request)
    tried(bench, whole=True, answered=True)
    started = [bench.ask() for _ in range(4)]
    assert {url for _, url in started} == {"s1", "s2"}
    [again, *_] = [request for request, url in started if url == "s1"]
    bench.core.failed(bench.now, again, 0)
    bench.core.leave(bench.now, again)
    bench.now += 1.0
    assert "s1" in {bench.ask()[1] for _ in range(4)}


def test_what_was_idle_is_silent_from_its_first_request_on() -> None:
    bench = Bench({"s1": "a"})
    bench.now += 10
    bench.ask()
    assert checked(bench) == []
