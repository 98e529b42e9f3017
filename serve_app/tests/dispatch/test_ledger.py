"""Slots that several proxies share: never more than there are."""

import random

import pytest

from modelset_proxy.dispatch import ledger

KEY = ("http://one", "a")
LATER = ledger.GRACE_SECONDS


class Shared:
    """A ledger and proxies that keep to what it tells them; each has so many units running and waiting."""

    def __init__(self, slots: int, *members: str) -> None:
        self.now = LATER
        self.slots = slots
        self.ledger = ledger.Ledger(0.0)
        self.holds = dict.fromkeys(members, 0)
        self.running = dict.fromkeys(members, 0)
        self.waiting = dict.fromkeys(members, 0)

    def talk(self, member: str) -> None:
        running, waiting = self.running[member], self.waiting[member]
        use = ledger.Use(self.holds[member], min(self.slots, running + waiting), self.slots)
        self.ledger.tell(self.now, member, {KEY: use})
        allowed = self.ledger.allowed(self.now, member)[KEY]
        self.holds[member] = max(allowed, running)
        while self.waiting[member] and self.running[member] < allowed:
            self.waiting[member] -= 1
            self.running[member] += 1

    def settle(self) -> dict[str, int]:
        for _ in range(4):
            for member in self.holds:
                self.talk(member)
        return self.running


def test_one_has_all() -> None:
    shared = Shared(4, "a")
    shared.waiting["a"] = 9
    assert shared.settle() == {"a": 4}


def test_idle_ones_have_equal_shares_so_that_nobody_need_ask() -> None:
    shared = Shared(4, "a", "b")
    shared.settle()
    assert shared.holds == {"a": 2, "b": 2}


@pytest.mark.parametrize(
    ("slots", "waiting", "running"),
    [
        (4, {"a": 9, "b": 0}, {"a": 4, "b": 0}),
        (4, {"a": 9, "b": 1}, {"a": 3, "b": 1}),
        (4, {"a": 9, "b": 9}, {"a": 2, "b": 2}),
        (8, {"a": 9, "b": 9, "c": 1}, {"a": 4, "b": 3, "c": 1}),
    ],
)
def test_those_who_want_them_have_them(slots: int, waiting: dict[str, int], running: dict[str, int]) -> None:
    shared = Shared(slots, *waiting)
    shared.settle()
    shared.waiting.update(waiting)
    assert sorted(shared.settle().values()) == sorted(running.values())


def test_a_slot_that_is_busy_is_given_back_when_it_is_free() -> None:
    shared = Shared(2, "a", "b")
    shared.waiting["a"] = 9
    assert shared.settle() == {"a": 2, "b": 0}
    shared.waiting["b"] = 1
    assert shared.settle() == {"a": 2, "b": 0}
    shared.running["a"] -= 1
    assert shared.settle() == {"a": 1, "b": 1}


def test_fewer_slots_than_proxies_go_round() -> None:
    shared = Shared(1, "a", "b")
    had: set[str] = set()
    for _ in range(8):
        shared.waiting = {"a": 1, "b": 1}
        running = shared.settle()
        had |= {member for member, count in running.items() if count}
        shared.running = {"a": 0, "b": 0}
        shared.now += 1
    assert had == {"a", "b"}


def test_an_odd_slot_stays_where_it_is_while_nobody_wants_it() -> None:
    shared = Shared(3, "a", "b")
    shared.settle()
    before = dict(shared.holds)
    assert sorted(before.values()) == [1, 2]
    for _ in range(5):
        shared.now += 2
        shared.settle()
        assert shared.holds == before


def test_odd_slots_are_not_all_one_proxys() -> None:
    first = {ledger.in_turn((f"http://{number}", "a"), ["a", "b"], 0.0)[0] for number in range(9)}
    assert first == {"a", "b"}


def test_one_that_says_nothing_loses_its_slots() -> None:
    shared = Shared(4, "a", "b")
    shared.settle()
    shared.waiting["a"] = 9
    shared.now += ledger.GONE_SECONDS
    shared.talk("a")
    assert shared.running["a"] == 2
    shared.now += 0.1
    shared.talk("a")
    assert shared.running["a"] == 4
    assert shared.ledger.members == ["a"]


def test_one_that_leaves_gives_its_slots_back() -> None:
    shared = Shared(4, "a", "b")
    shared.settle()
    shared.ledger.leave("b")
    shared.waiting["a"] = 4
    shared.talk("a")
    assert shared.running["a"] == 4


def test_what_a_proxy_no_longer_names_is_free() -> None:
    shared = Shared(4, "a", "b")
    shared.settle()
    shared.ledger.tell(shared.now, "b", {})
    shared.waiting["a"] = 4
    shared.talk("a")
    assert shared.running["a"] == 4


def test_a_ledger_that_begins_anew_gives_out_nothing_before_it_has_heard_of_all() -> None:
    shared = Shared(4, "a", "b")
    shared.waiting["a"] = 9
    shared.settle()
    shared.ledger = ledger.Ledger(shared.now)
    shared.waiting["b"] = 1
    shared.talk("b")
    assert shared.running["b"] == 0
    shared.talk("a")
    shared.now += LATER
    shared.settle()
    assert shared.running == {"a": 4, "b": 0}


@pytest.mark.parametrize(("slots", "members", "each"), [(4, 2, {2}), (3, 2, {1, 2}), (1, 3, {1})])
def test_who_hears_nothing_goes_on_with_a_share(slots: int, members: int, each: set[int]) -> None:
    names = [f"proxy-{number}" for number in range(members)]
    assert {ledger.alone(KEY, slots, names, name) for name in names} == each


def test_one_that_never_heard_of_others_has_all() -> None:
    assert ledger.alone(KEY, 4, [], "a") == 4


@pytest.mark.parametrize("seed", range(20))
def test_never_are_more_in_use_than_there_are(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311
    members = ["a", "b", "c"]
    shared = Shared(chance.randint(1, 6), *members)
    for _ in range(400):
        member = chance.choice(members)
        match chance.randint(0, 3):
            case 0:
                shared.waiting[member] += 1
            case 1 if shared.running[member]:
                shared.running[member] -= 1
            case 2:
                shared.now += chance.random()
            case _:
                shared.talk(member)
        for other in members:
            # None is so far away that it is taken for gone.
            if shared.now - shared.ledger._seen.get(other, shared.now) > 2:
                shared.talk(other)
        assert sum(shared.running.values()) <= shared.slots
        assert sum(shared.holds.values()) <= shared.slots
    shared.waiting = dict.fromkeys(members, 9)
    shared.running = dict.fromkeys(members, 0)
    assert sum(shared.settle().values()) == shared.slots


OTHER = ("http://two", "a")


def _all_of(*keys: ledger.Key) -> dict[ledger.Key, ledger.Use]:
    return dict.fromkeys(keys, ledger.Use(holds=4, wants=4, of=4))


def test_what_one_gives_up_does_not_free_what_another_holds() -> None:
    shared = ledger.Ledger(0.0)
    shared.tell(LATER, "a", _all_of(KEY))
    shared.tell(LATER, "b", {})
    shared.tell(LATER, "c", {KEY: ledger.Use(holds=0, wants=4, of=4)})
    assert shared.allowed(LATER, "c") == {KEY: 0}


def test_each_server_and_model_counts_by_itself() -> None:
    shared = ledger.Ledger(0.0)
    shared.tell(LATER, "a", _all_of(KEY, OTHER))
    shared.tell(LATER, "b", {OTHER: ledger.Use(holds=0, wants=0, of=4)})
    assert shared.allowed(LATER, "b").keys() == {OTHER}
    shared.tell(LATER, "a", _all_of(OTHER))
    shared.tell(LATER, "b", {KEY: ledger.Use(holds=0, wants=4, of=4)})
    assert shared.allowed(LATER, "b") == {KEY: 4}


def test_what_nobody_names_is_forgotten() -> None:
    shared = ledger.Ledger(0.0)
    shared.tell(LATER, "a", _all_of(KEY))
    shared.tell(LATER, "a", {})
    assert not shared._slots
