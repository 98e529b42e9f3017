"""Two proxies that plan the memory of the same servers: neither lets go of what the other uses."""

from typing import Any

from modelset_proxy.dispatch import facts
from serve_app.tests.dispatch.bench import MODELS, Bench


class Pair:
    """Two cores that hear of each other, on one clock, in front of one server that does as it is told."""

    def __init__(self, *loaded: str, **limits: Any) -> None:
        limits = {"max_loaded_per_server": 1, "max_in_flight_per_server": 2, **limits}
        self.sides = one, other = [Bench({"s1": loaded}, **limits) for _ in range(2)]
        self.one, self.other = one, other
        self.memory = set(loaded)
        self.loads = 0

    def tell(self, seconds: float = 0.0) -> None:
        for side in self.sides:
            side.now += seconds
        for side, other in (self.sides, self.sides[::-1]):
            side.core.others(other.core.in_use(other.now))

    def look(self) -> None:
        for side in self.sides:
            side.loaded = {"s1": sorted(self.memory)}
            side.look()

    def decide(self, side: Bench) -> list[facts.Request]:
        started = []
        for decision in side.decide():
            match decision:
                case facts.Unload(model):
                    self.memory.discard(model)
                case facts.Start(request):
                    self.loads += request.model not in self.memory
                    self.memory.add(request.model)
                    started.append(request)
        return started


def test_what_the_other_uses_is_not_let_go() -> None:
    pair = Pair("a")
    running, _ = pair.other.ask("a")
    pair.tell()
    pair.one.arrive("b")
    assert pair.decide(pair.one) == []
    pair.other.end(running)
    pair.tell(seconds=1)
    assert len(pair.decide(pair.one)) == 1
    assert pair.memory == {"b"}


def test_what_the_other_has_just_loaded_takes_its_place_before_any_look_tells_of_it() -> None:
    pair = Pair()
    pair.other.ask("a")
    pair.one.arrive("b")
    assert pair.one.core.others(pair.other.core.in_use(pair.other.now)), "a look is due"
    assert pair.decide(pair.one) == []


def test_a_load_ahead_takes_its_place_too() -> None:
    pair = Pair()
    pair.other.look(s2=facts.Report(pair.other.now, frozenset(MODELS), {}))
    pair.other.ask("a")
    for _ in range(4):
        pair.other.arrive("a")
    assert any(isinstance(one, facts.Load) for one in pair.other.decide())
    assert {url for url, _ in pair.other.core.in_use(pair.other.now).used} == {"s1", "s2"}


def test_a_copy_that_is_to_go_is_left_by_both() -> None:
    pair = Pair("a", switch_seconds=10)
    running, _ = pair.other.ask("a")
    pair.one.arrive("b")
    pair.tell(seconds=11)
    assert pair.decide(pair.one) == []
    pair.tell()
    follower = pair.other.arrive("a")
    assert pair.decide(pair.other) == []
    assert pair.other.core.wants()["s1", "a"] == (1, 1)
    pair.other.end(running)
    pair.tell()
    assert [request.model for request in pair.decide(pair.one)] == ["b"]
    assert pair.memory == {"b"}
    assert pair.other.core.counts("a") == (0, 1)
    pair.other.core.leave(pair.other.now, follower)


def test_a_model_that_the_other_is_asked_for_is_worth_as_much_as_ones_own() -> None:
    pair = Pair("a")
    for _ in range(50):
        pair.other.end(pair.other.ask("a")[0])
    pair.one.arrive("b")
    assert pair.decide(pair.one) != []
    pair = Pair("a")
    for _ in range(50):
        pair.other.end(pair.other.ask("a")[0])
    pair.tell()
    pair.one.arrive("b")
    assert pair.decide(pair.one) == []


def test_two_who_are_asked_for_different_models_do_not_push_each_other_out_in_turn() -> None:
    pair = Pair()
    patience: list[tuple[Bench, facts.Request]] = []
    for second in range(120):
        for side, model in ((pair.one, "a"), (pair.other, "b")):
            if second % 4 == 0:
                patience.append((side, side.arrive(model)))
        for side in pair.sides:
            for request in pair.decide(side):
                side.end(request)
            pair.tell()
        pair.tell(seconds=1)
        if second % 3 == 0:
            pair.look()
    # Each request a load would be 60; one proxy that is asked for both makes about as many as this.
    assert 2 <= pair.loads <= 30


def test_what_the_other_has_just_loaded_takes_its_bytes() -> None:
    gib = 2**30
    pair = Pair(memory_bytes_per_server=10 * gib, max_loaded_per_server=None)
    weights = {"a": 6 * gib, "b": 5 * gib}
    for side in pair.sides:
        side.look(s1=facts.Report(side.now, frozenset(MODELS), {}, weights=weights))
    pair.other.ask("a")
    pair.tell()
    pair.one.arrive("b")
    assert pair.decide(pair.one) == []
