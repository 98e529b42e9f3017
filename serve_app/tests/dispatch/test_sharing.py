"""Several proxies that share the slots of one server through a board."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Set

import pytest

from modelset_proxy.dispatch import board, facts, ledger, sharing

pytestmark = pytest.mark.simulated
KEY = ("http://one", "a")
SLOTS = 4


class Side:
    """A proxy's dispatcher, as far as sharing goes: so many run, so many wait."""

    slots: int | None = SLOTS
    stranded: Set[str] = frozenset()

    def __init__(self) -> None:
        self.running = self.waiting = 0
        self.sharing: sharing.Sharing
        self.noted = asyncio.Event()
        self.shunned: set[str] = set()
        self.demand = facts.Feed()
        self.used = self.heard = facts.Memory()

    def wants(self) -> Mapping[ledger.Key, tuple[int, int]]:
        return {KEY: (self.running, self.running + self.waiting)}

    def feed(self) -> facts.Feed:
        return self.demand

    def shun(self, urls: Set[str]) -> None:
        self.shunned = set(urls)

    def memory(self) -> facts.Memory:
        return self.used

    def others(self, memory: facts.Memory) -> None:
        self.heard = memory

    def note(self) -> None:
        self.noted.set()

    def decide(self) -> None:
        while self.waiting and self.running < self.sharing.granted(*KEY, SLOTS):
            self.waiting -= 1
            self.running += 1
        self.sharing.look(waits=bool(self.waiting))

    def ask(self, count: int) -> None:
        self.waiting += count
        self.decide()

    def end(self, count: int) -> None:
        self.running -= count
        self.decide()


class Reach:
    """A board that a test may take away: it is gone, or it is silent."""

    def __init__(self) -> None:
        self.board = board.Board(asyncio.get_running_loop().time)
        self.gone = False
        self.silent = False
        self.exchanges = 0
        self.held = 0.0
        self.at_once = self.most_at_once = 0

    async def exchange(
        self, member: str, told: board.Told, known: board.Heard | None, hold_seconds: float
    ) -> board.Heard:
        self.exchanges += 1
        self.held = hold_seconds
        if self.gone:
            raise sharing.BoardLost("gone")
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self.silent:
                await asyncio.Event().wait()
            return await self.board.exchange(member, told, known, hold_seconds)
        finally:
            await asyncio.sleep(0)  # a connection takes a moment to close
            self.at_once -= 1

    async def leave(self, member: str) -> None:
        if self.gone:
            raise sharing.BoardLost("gone")
        await self.board.leave(member)


@contextlib.asynccontextmanager
async def proxies(reach: Reach, count: int) -> AsyncIterator[list[Side]]:
    sides = [Side() for _ in range(count)]
    for number, side in enumerate(sides):
        side.sharing = sharing.Sharing(f"proxy-{number}", reach, side)
    tasks = [asyncio.create_task(side.sharing.run()) for side in sides]
    try:
        for side in sides:
            await side.sharing.settle(5)
        await until(lambda: sum(side.sharing.granted(*KEY, SLOTS) for side in sides) == SLOTS)
        yield sides
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - nothing tells of what a test looks at
            await asyncio.sleep(0.002)


async def test_of_what_the_board_has_not_named_nothing_is_taken() -> None:
    async with proxies(Reach(), 1) as [side]:
        assert side.sharing.granted("http://two", "a", SLOTS) == 0


async def test_what_one_does_not_need_the_other_gets_at_once() -> None:
    async with proxies(Reach(), 2) as (one, other):
        loop = asyncio.get_running_loop()
        began = loop.time()
        one.ask(9)
        await until(lambda: one.running == 4)
        # Without waiting for the board to answer by itself.
        assert loop.time() - began < sharing._BUSY_SECONDS
        assert other.running == 0


async def test_a_slot_that_is_free_again_goes_to_whoever_waits() -> None:
    async with proxies(Reach(), 2) as (one, other):
        one.ask(9)
        await until(lambda: one.running == 4)
        other.ask(2)
        await asyncio.sleep(0.05)
        assert (one.running, other.running) == (4, 0)
        loop = asyncio.get_running_loop()
        began = loop.time()
        one.end(2)
        await until(lambda: other.running == 2)
        assert loop.time() - began < sharing._BUSY_SECONDS
        assert one.running == 2


async def test_in_step_nothing_is_sent_but_now_and_then() -> None:
    reach = Reach()
    async with proxies(reach, 2) as (one, other):
        for side in (one, other):
            side.ask(9)
        await until(lambda: one.running == other.running == 2)
        await asyncio.sleep(0.1)
        before = reach.exchanges
        await asyncio.sleep(10)
        assert reach.exchanges - before <= 2 * (10 / sharing._BUSY_SECONDS + 1)


async def test_that_one_waits_for_a_server_is_told_at_once_and_once() -> None:
    reach = Reach()
    async with proxies(reach, 1) as (one,):
        one.ask(9)
        await asyncio.sleep(5)
        before = reach.exchanges
        one.stranded = frozenset({"b"})
        for _ in range(20):
            one.ask(1)
            await asyncio.sleep(0.001)
        assert reach.exchanges == before + 1


@pytest.mark.parametrize("how", ["gone", "silent"])
async def test_without_the_board_each_goes_on_with_its_share(how: str) -> None:
    reach = Reach()
    async with proxies(reach, 2) as (one, other):
        one.ask(9)
        await until(lambda: one.running == 4)
        setattr(reach, how, True)
        other.ask(9)
        await until(lambda: other.running == 2)
        await until(lambda: one.sharing.granted(*KEY, SLOTS) == 2)
        one.end(4)
        assert (one.running, other.running) == (2, 2)
        setattr(reach, how, False)
        other.waiting = 0
        other.end(2)
        await until(lambda: one.running == 4)


async def test_whoever_begins_without_a_board_has_all() -> None:
    reach = Reach()
    reach.gone = True
    side = Side()
    side.sharing = sharing.Sharing("proxy", reach, side)
    assert side.sharing.granted(*KEY, SLOTS) == 0
    task = asyncio.create_task(side.sharing.run())
    await side.sharing.settle(5)
    assert asyncio.get_running_loop().time() == 0.0
    side.ask(9)
    assert side.running == 4
    task.cancel()


async def test_one_that_ends_gives_its_slots_back() -> None:
    reach = Reach()
    async with proxies(reach, 2) as (one, other):
        await other.sharing.leave()
        one.ask(9)
        await until(lambda: one.running == 4)


async def test_one_cannot_be_kept_from_ending() -> None:
    reach = Reach()
    async with proxies(reach, 1) as (one,):
        reach.gone = True
        await one.sharing.leave()


async def test_where_nobody_counts_slots_nothing_is_shared() -> None:
    async with proxies(Reach(), 1) as (one,):
        one.slots = None
        assert one.sharing._uses() == {}


async def test_each_knows_what_all_are_asked() -> None:
    reach = Reach()
    async with proxies(reach, 2) as (one, other):
        one.demand = facts.Feed({"smollm2": facts.Demand(1, 2, 3.0, 0.0)}, {"http://one": "smollm2"})
        other.demand = facts.Feed({"smollm2": facts.Demand(4, 0, 0.0, 7.0), "x": facts.Demand(0, 0, 0, 9.0)})
        one.ask(9)
        other.ask(9)
        everything = facts.Feed(
            {"smollm2": facts.Demand(5, 2, 3.0, 0.0), "x": facts.Demand(0, 0, 0, 9.0)},
            {"http://one": "smollm2"},
        )
        await until(lambda: one.sharing.feed == other.sharing.feed == everything)
        await until(lambda: other.shunned == {"http://one"})
        reach.gone = True
        one.ask(1)
        other.ask(1)
        await until(lambda: one.sharing.feed == one.demand)
        await until(lambda: other.shunned == set())


async def test_each_knows_what_the_others_have_in_memory() -> None:
    reach = Reach()
    async with proxies(reach, 2) as (one, other):
        one.used = facts.Memory(frozenset({KEY}), frozenset({("http://two", "b")}), {"a": 2.0})
        one.ask(9)
        await until(lambda: other.heard == one.used)
        assert one.heard == facts.Memory()
        reach.gone = True
        other.ask(9)
        await until(lambda: other.heard == facts.Memory())


def _side(running: int = 0, waiting: int = 0) -> Side:
    side = Side()
    side.running, side.waiting = running, waiting
    side.sharing = sharing.Sharing("proxy", Reach(), side)
    return side


@pytest.mark.parametrize(
    ("told", "waits", "owes", "tells"),
    [
        (None, True, False, True),
        (None, False, True, True),
        (None, False, False, False),
        (ledger.Use(1, 2, SLOTS), True, True, False),
        (ledger.Use(1, 1, SLOTS), True, False, True),
        (ledger.Use(1, 3, SLOTS), True, False, False),
        (ledger.Use(2, 2, SLOTS), False, True, True),
        (ledger.Use(0, 2, SLOTS), True, False, False),
    ],
    ids=["new", "new, to give back", "nothing waits", "same", "wants more", "less", "holds less", "more"],
)
async def test_the_board_is_told_at_once_of_more_to_want_and_less_to_hold(
    told: ledger.Use | None, waits: bool, owes: bool, tells: bool
) -> None:
    side = _side(running=1, waiting=1)
    side.sharing._told = {} if told is None else {KEY: told}
    side.sharing._owes = owes
    side.sharing.look(waits=waits)
    assert side.sharing._news.is_set() is tells


@pytest.mark.parametrize(
    ("heard", "goes_on"),
    [
        (board.Heard({KEY: 1}, ["proxy"], facts.Feed()), False),
        (board.Heard({KEY: 1}, ["other", "proxy"], facts.Feed()), False),
        (board.Heard({KEY: 2}, ["proxy"], facts.Feed()), True),
        (board.Heard({KEY: 1}, ["proxy"], facts.Feed(sick={"http://two": "b"})), True),
        (board.Heard({KEY: 1}, ["proxy"], facts.Feed(), facts.Memory(frozenset({KEY}))), True),
        (board.Heard({KEY: 1}, ["proxy"], facts.Feed(), facts.Memory(rates={"a": 1.0})), False),
    ],
    ids=["same", "another member", "slots", "sick", "memory", "rates"],
)
async def test_what_is_heard_has_the_proxy_go_on_where_it_decides_something(
    heard: board.Heard, goes_on: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    side = _side()
    decided: list[int] = []
    monkeypatch.setattr(side, "decide", lambda: decided.append(side.sharing.granted(*KEY, SLOTS)))
    side.sharing._hear(board.Heard({KEY: 1}, ["proxy"], facts.Feed()))
    assert decided == [1]
    side.noted.clear()
    side.sharing._hear(heard)
    assert decided == ([1, heard.allowed[KEY]] if goes_on else [1])
    assert side.noted.is_set()
    assert (side.shunned, side.heard) == (set(heard.feed.sick), heard.memory)


@pytest.mark.parametrize(
    ("holds", "allowed", "owes"), [(1, {KEY: 1}, False), (2, {KEY: 1}, True), (1, {}, True), (0, {}, False)]
)
async def test_who_holds_more_than_is_allowed_has_to_give_it_back(
    holds: int, allowed: dict[ledger.Key, int], owes: bool
) -> None:
    side = _side()
    side.sharing._told = {KEY: ledger.Use(holds, 0, SLOTS)}
    side.sharing._hear(board.Heard(allowed, ["proxy"], facts.Feed()))
    assert side.sharing._owes is owes


async def test_whoever_begins_owes_nothing() -> None:
    side = _side(running=1)
    side.sharing.look(waits=False)
    assert not side.sharing._news.is_set()


async def test_what_the_board_was_not_told_of_it_is_told_once_it_has_answered() -> None:
    side = _side()
    side.sharing._hear(board.Heard({KEY: 1}, ["proxy"], facts.Feed()))
    assert side.sharing._news.is_set()


async def test_the_board_answers_sooner_while_somebody_wants_slots() -> None:
    reach = Reach()
    async with proxies(reach, 1) as (one,):
        await asyncio.sleep(3)
        assert reach.held == sharing._IDLE_SECONDS
        one.ask(9)
        await asyncio.sleep(3)
        assert reach.held == sharing._BUSY_SECONDS


async def test_one_exchange_has_ended_before_the_next_begins() -> None:
    reach = Reach()
    async with proxies(reach, 1) as (one,):
        before = reach.exchanges
        one.ask(9)
        await until(lambda: reach.exchanges > before)
        assert reach.most_at_once == 1


async def test_that_slots_are_shared_again_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    reach = Reach()
    async with proxies(reach, 1):
        assert caplog.records == []
        reach.gone = True
        await asyncio.sleep(3)
        reach.gone = False
        await asyncio.sleep(9)
    assert [record.message for record in caplog.records] == [
        "cannot share slots, going on alone",
        "slots are shared again",
    ]
