"""Choices side by side."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncGenerator

import pytest

from modelset_proxy.web import merge

pytestmark = pytest.mark.simulated


@pytest.fixture
def two_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge, "_AT_ONCE", 2)


class Sources:
    """Yields three items each, one a second; ``fails`` says which source fails after how many."""

    def __init__(self, **fails: int) -> None:
        self.fails = fails
        self.running: set[int] = set()
        self.most = 0
        self.given = 0
        self.closed: list[int] = []

    async def begin(self, number: int) -> AsyncGenerator[str, None]:
        self.running.add(number)
        self.most = max(self.most, len(self.running))
        try:
            for count in range(3):
                if self.fails.get(f"s{number}") == count:
                    raise RuntimeError(number)
                await asyncio.sleep(1)
                self.given += 1
                yield f"{number}.{count}"
        finally:
            self.running.discard(number)
            self.closed.append(number)


@pytest.mark.parametrize("count", [1, 2, 5])
async def test_all_items_come_with_the_numbers_of_their_sources(count: int) -> None:
    sources = Sources()
    found = [item async for item in merge.streams(count, sources.begin)]
    for number in range(count):
        assert [item for index, item in found if index == number] == [f"{number}.{at}" for at in range(3)]
    assert len(found) == 3 * count
    assert sources.most == count


async def test_they_come_as_soon_as_they_are_there() -> None:
    loop = asyncio.get_running_loop()
    times = [loop.time() async for _ in merge.streams(2, Sources().begin)]
    assert [round(time - times[0]) for time in times] == [0, 0, 1, 1, 2, 2]


@pytest.mark.usefixtures("two_at_once")
async def test_only_so_many_sources_run_at_once() -> None:
    sources = Sources()
    assert len([item async for item in merge.streams(5, sources.begin)]) == 15
    assert sources.most == 2


async def test_whoever_takes_nothing_holds_the_sources_back() -> None:
    sources = Sources()
    async with contextlib.aclosing(merge.streams(2, sources.begin)) as merged:
        await anext(merged)
        await asyncio.sleep(60)
        assert sources.given <= 5


async def test_the_first_failure_ends_all_and_is_raised() -> None:
    sources = Sources(s1=2)
    merged = merge.streams(3, sources.begin)
    assert len([await anext(merged) for _ in range(3)]) == 3
    with pytest.raises(RuntimeError, match="1"):
        await anext(merged)
    assert sorted(sources.closed) == [0, 1, 2]


async def test_whoever_stops_ends_all() -> None:
    sources = Sources()
    async with contextlib.aclosing(merge.streams(3, sources.begin)) as merged:
        await anext(merged)
    assert sorted(sources.closed) == [0, 1, 2]
    assert len(asyncio.all_tasks()) == 1


class Work:
    """Takes a second for each; ``fails`` does not do it."""

    def __init__(self, fails: int | None = None) -> None:
        self.fails = fails
        self.running = 0
        self.most = 0
        self.cancelled = 0

    async def do(self, number: int) -> int:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(1 + number % 2)
            if number == self.fails:
                raise RuntimeError(number)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1
        return number * 10


@pytest.mark.parametrize("count", [1, 2, 5])
async def test_results_are_in_order(count: int) -> None:
    work = Work()
    assert await merge.results(count, work.do) == [number * 10 for number in range(count)]
    assert work.most == count


@pytest.mark.usefixtures("two_at_once")
async def test_only_so_much_is_done_at_once() -> None:
    work = Work()
    assert await merge.results(5, work.do) == [0, 10, 20, 30, 40]
    assert work.most == 2


async def test_a_failure_cancels_the_rest() -> None:
    work = Work(fails=2)
    with pytest.raises(RuntimeError, match="2"):
        await merge.results(4, work.do)
    assert (work.cancelled, work.running) == (2, 0)


@pytest.mark.parametrize("streamed", [False, True])
async def test_others_have_their_turn_while_many_begin(*, streamed: bool) -> None:
    begun = 0
    seen: list[int] = []

    async def one(number: int) -> int:
        nonlocal begun
        begun += 1
        await asyncio.sleep(1)
        return number

    async def source(number: int) -> AsyncGenerator[int, None]:
        yield await one(number)

    async def look() -> None:
        while begun < 256:
            seen.append(begun)
            await asyncio.sleep(0)

    looking = asyncio.create_task(look())
    if streamed:
        async with contextlib.aclosing(merge.streams(300, source)) as merged:
            assert len([number async for number in merged]) == 300
    else:
        assert len(await merge.results(300, one)) == 300
    await looking
    assert {later - before for before, later in itertools.pairwise(seen)} == {32}
