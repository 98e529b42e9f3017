"""Whose turn it is."""

import pytest

from modelset_proxy.dispatch import facts, fairness
from modelset_proxy.engines import port
from serve_app.tests.dispatch.bench import Bench


def _order(bench: Bench, tokens: dict[str, int], rounds: int) -> list[str]:
    """Serve one at a time and return whose turn it was each time."""
    served = []
    for _ in range(rounds):
        [start] = bench.decide()
        assert isinstance(start, facts.Start)
        request = start.request
        served.append(request.client)
        bench.end(request, port.Outcome(answer_tokens=tokens[request.client]))
    return served


def test_clients_take_turns_however_many_requests_they_send() -> None:
    bench = Bench({"s1": "a"})
    for client in ["many"] * 6 + ["one", "two"] * 2:
        bench.arrive(client=client)
    order = _order(bench, {"many": 1000, "one": 1000, "two": 1000}, 6)
    assert sorted(order[:3]) == sorted(order[3:6]) == ["many", "one", "two"]


def test_turns_are_by_tokens_not_by_requests() -> None:
    bench = Bench({"s1": "a"})
    for client in ["long", "short"] * 8:
        bench.arrive(client=client)
    order = _order(bench, {"long": 3000, "short": 1000}, 8)
    assert order.count("short") == 6


def test_what_streams_counts_before_it_ends() -> None:
    bench = Bench({"s1": "a"}, max_in_flight_per_server=2)
    streaming, _ = bench.ask(client="one")
    other, _ = bench.ask(client="two")
    bench.arrive(client="one")
    waiting = bench.arrive(client="two")
    bench.core.served(streaming, 0, 5000)
    bench.end(other, port.Outcome(answer_tokens=1))
    assert bench.starts() == [(waiting.id, "s1")]


def test_tokens_are_counted_once() -> None:
    bench = Bench({"s1": "a"})
    streaming, _ = bench.ask(client="one")
    for _ in range(3):
        bench.core.served(streaming, 0, 1000)
    bench.end(streaming, port.Outcome(answer_tokens=1000))
    assert bench.core._state.lane("a").line._counters["one"] == 1000 * fairness.ANSWER_WEIGHT


def test_a_pause_earns_no_credit() -> None:
    bench = Bench({"s1": "a"})
    for _ in range(10):
        bench.arrive(client="steady")
    assert _order(bench, {"steady": 5000}, 4) == ["steady"] * 4
    for _ in range(4):
        bench.arrive(client="late")
    order = _order(bench, {"steady": 5000, "late": 5000}, 4)
    assert order.count("late") <= 3


def test_a_small_lead_is_given_for_a_prompt_that_a_slot_has_read() -> None:
    bench = Bench({"s1": "a"})
    reader, _ = bench.ask(client="reader", prefix=(1, 2))
    first = bench.arrive(client="other")
    again = bench.arrive(client="reader", prefix=(1, 2, 3))
    bench.end(reader, port.Outcome(answer_tokens=int(fairness.LEAD / fairness.ANSWER_WEIGHT) - 1))
    assert bench.starts() == [(again.id, "s1")]
    bench.end(again, port.Outcome(answer_tokens=10))
    bench.arrive(client="reader", prefix=(1, 2, 3))
    assert bench.starts() == [(first.id, "s1")]


def test_clients_that_are_gone_are_not_remembered_for_ever() -> None:
    line = fairness.Line()
    for number in range(5000):
        line.charge(str(number), 1.0)
    assert len(line._counters) <= 1025


class TestLine:
    """Turns, without what runs."""

    @staticmethod
    def _line(*clients: str) -> fairness.Line:
        line = fairness.Line()
        for number, client in enumerate(clients):
            line.append(fairness.Waiting(facts.Request(number, "a", client), float(number)), active=False)
        return line

    @staticmethod
    def _next(line: fairness.Line, gains: str = "") -> str:
        return line.next(lambda request: request.client == gains).request.client

    def test_the_one_that_came_first_is_next_where_all_were_served_alike(self) -> None:
        assert self._next(self._line("late", "later")) == "late"

    def test_the_one_served_least_is_next(self) -> None:
        line = self._line("served", "not")
        line.charge("served", 0.5)
        assert self._next(line) == "not"

    @pytest.mark.parametrize(("ahead", "first"), [(0.0, True), (0.5, False)])
    def test_a_lead_for_a_prefix_has_its_limit(self, ahead: float, first: bool) -> None:
        line = self._line("not", "served")
        line.charge("served", fairness.LEAD + ahead)
        assert self._next(line, gains="served") == ("served" if first else "not")

    def test_whoever_comes_new_is_as_far_as_those_who_wait(self) -> None:
        line = self._line("waits", "new")
        line.charge("waits", 0.5)
        assert self._next(line) == "new"

    def test_those_served_last_are_remembered(self) -> None:
        line = self._line()
        names = [str(number) for number in range(1024)]
        for name in [*names, names[0], "another"]:
            line.charge(name, 1.0)
        assert line._counters.keys() == {names[0], *names[2:], "another"}

    def test_nobody_has_waited_since_for_ever(self) -> None:
        assert self._line().oldest() == float("inf")
        assert self._line("a", "b").oldest() == 0.0


def test_prompts_count_too() -> None:
    bench = Bench({"s1": "a"})
    for client, tokens in [("long", 3000), ("short", 10)] * 3:
        bench.arrive(client=client, prompt_tokens=tokens)
    assert _order(bench, {"long": 10, "short": 10}, 4).count("short") == 3
