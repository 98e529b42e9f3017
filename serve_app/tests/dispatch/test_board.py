"""Where proxies tell each other what they do."""

import asyncio

import pytest

from modelset_proxy.dispatch import board, facts, ledger

pytestmark = pytest.mark.simulated
KEY = ("http://one", "a")
BUSY = facts.Feed({"a": facts.Demand(1, 0, 0.0, 0.0)})


def told(holds: int, wants: int, feed: facts.Feed | None = None) -> board.Told:
    return board.Told({KEY: ledger.Use(holds, wants, of=4)}, feed or facts.Feed())


class Bench:
    """A board whose grace is over, and its time."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.board = board.Board(lambda: self.loop.time() + 100.0)

    async def begin(self) -> None:
        await asyncio.sleep(ledger.GRACE_SECONDS)

    async def exchange(
        self, member: str, what: board.Told, known: board.Heard | None = None
    ) -> tuple[board.Heard, float]:
        """Return what is heard, and after how many seconds."""
        began = self.loop.time()
        heard = await self.board.exchange(member, what, known, 10.0)
        return heard, self.loop.time() - began


async def test_who_knows_nothing_is_answered_at_once() -> None:
    bench = Bench()
    await bench.begin()
    heard, seconds = await bench.exchange("a", told(0, 4, BUSY))
    assert (heard, seconds) == (board.Heard({KEY: 4}, ["a"], BUSY), 0.0)


async def test_who_knows_all_is_answered_in_the_end() -> None:
    bench = Bench()
    await bench.begin()
    known, _ = await bench.exchange("a", told(0, 4))
    heard, seconds = await bench.exchange("a", told(4, 4), known)
    assert (heard, seconds) == (known, 10.0)
    assert not bench.board._waiting


async def test_how_long_has_passed_is_no_news() -> None:
    bench = Bench()
    await bench.begin()
    known, _ = await bench.exchange("a", told(0, 4, facts.Feed({"a": facts.Demand(1, 1, 1.0, 0.0)})))
    _, seconds = await bench.exchange("a", told(4, 4, facts.Feed({"a": facts.Demand(1, 1, 9.0, 0.0)})), known)
    assert seconds == 10.0


@pytest.mark.parametrize(
    ("what", "members", "allowed"),
    [(told(0, 0, BUSY), ["a", "b"], 4), (told(0, 4), ["a", "b"], 2)],
    ids=["what is asked", "who wants slots"],
)
async def test_news_is_told_at_once(what: board.Told, members: list[str], allowed: int) -> None:
    bench = Bench()
    await bench.begin()
    known, _ = await bench.exchange("a", told(0, 4))
    waiting = asyncio.create_task(bench.exchange("a", told(4, 4), known))
    await asyncio.sleep(3)
    await bench.exchange("b", what)
    heard, seconds = await waiting
    assert (heard.members, heard.allowed, seconds) == (members, {KEY: allowed}, 3.0)
    assert heard.feed == what.feed


async def test_who_tells_more_hears_no_more_of_what_it_told_before() -> None:
    bench = Bench()
    await bench.begin()
    known, _ = await bench.exchange("a", told(0, 2))
    before = asyncio.create_task(bench.exchange("a", told(2, 2), known))
    await asyncio.sleep(3)
    after = asyncio.create_task(bench.exchange("a", told(2, 4), known))
    assert await before == (known, 3.0)
    assert (await after)[1] == 10.0


async def test_one_that_ends_leaves_its_slots_and_nothing_else() -> None:
    bench = Bench()
    await bench.begin()
    await bench.exchange("b", told(0, 4, BUSY))
    known, _ = await bench.exchange("a", told(0, 4))
    assert (known.allowed, known.members, known.feed) == ({KEY: 0}, ["a", "b"], BUSY)
    waiting = asyncio.create_task(bench.exchange("a", told(0, 4), known))
    await asyncio.sleep(1)
    await bench.board.leave("b")
    heard, seconds = await waiting
    assert (heard, seconds) == (board.Heard({KEY: 4}, ["a"], facts.Feed()), 1.0)
    await bench.board.leave("a")
    assert not bench.board._told
    assert not bench.board._turns
