"""Blobs that are fetched once for all who read: from where to where, how often, and what goes for them."""

import asyncio
import dataclasses
import os
import pathlib
from collections.abc import AsyncGenerator, AsyncIterator

import pytest

from modelset_cache import store, transfers, upstream

from .conftest import until
from .fake_registry import digest_of

CHUNK = 10
PLACE = upstream.Place("models.example", "m")


@dataclasses.dataclass
class Registry(upstream.Upstream):
    """Has these blobs. `asked` are the parts that were; the next ones fail as `failing` says.

    After `held` bytes of a part, the rest waits for `proceed`.
    """

    contents: tuple[bytes, ...] = ()
    asked: list[tuple[int, int]] = dataclasses.field(default_factory=list)
    places: set[str] = dataclasses.field(default_factory=set)
    failing: list[upstream.UpstreamError] = dataclasses.field(default_factory=list)
    held: int | None = None
    proceed: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)

    def _content(self, wanted: str) -> bytes:
        return next(one for one in self.contents if digest_of(one) == wanted)

    async def size(self, place: upstream.Place, digest: str) -> int:
        return len(self._content(digest))

    async def bytes(
        self, place: upstream.Place, digest: str, start: int, end: int
    ) -> AsyncGenerator[bytes, None]:
        self.asked.append((start, end))
        self.places.add(place.host)
        if self.failing:
            raise self.failing.pop(0)
        part = self._content(digest)[start:end]
        if self.held is not None:
            yield part[: self.held]
            part = part[self.held :]
            await self.proceed.wait()
        yield part


@dataclasses.dataclass
class World:
    registry: Registry
    kept: store.Store
    transfers: transfers.Transfers

    async def of(self, content: bytes, place: upstream.Place = PLACE) -> transfers.Transfer:
        return await self.transfers.of(place, digest_of(content))

    async def whole(self, content: bytes) -> None:
        """Have a blob fetched and checked."""
        one = await self.of(content)
        assert await read(one, 0, len(content)) == content
        await until(lambda: not one.busy)


async def read(transfer: transfers.Transfer, start: int, end: int) -> bytes:
    return b"".join([piece async for piece in transfer.read(start, end)])


@pytest.fixture
async def world(tmp_path: pathlib.Path) -> AsyncIterator[World]:
    registry = Registry()
    kept = store.Store(tmp_path, 100, CHUNK)
    found = World(registry, kept, transfers.Transfers(kept, registry))
    yield found
    registry.proceed.set()
    await found.transfers.close()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return how long was waited, which takes no time."""
    found: list[float] = []
    sleep = asyncio.sleep

    async def note(seconds: float) -> None:
        if seconds >= transfers.FIRST_RETRY_SECONDS:
            found.append(seconds)
            seconds = 0
        await sleep(seconds)

    monkeypatch.setattr(asyncio, "sleep", note)
    return found


@pytest.mark.parametrize(
    ("start", "end", "asked"),
    [
        (0, 10, [(0, 10)]),
        (0, 5, [(0, 10)]),
        (0, 11, [(0, 10), (10, 20)]),
        (0, 35, [(0, 10), (10, 20)]),
        (12, 20, [(10, 20)]),
        (25, 35, [(20, 30), (30, 35)]),
        (30, 35, [(30, 35)]),
    ],
)
async def test_the_chunk_that_is_read_is_fetched_and_the_one_after_it_where_it_is_wanted_too(
    world: World, start: int, end: int, asked: list[tuple[int, int]]
) -> None:
    content = bytes(range(35))
    world.registry.contents = (content,)
    world.registry.held = 0
    reading = asyncio.create_task(read(await world.of(content), start, end))
    await until(lambda: len(world.registry.asked) >= len(asked))
    await asyncio.sleep(0)
    assert world.registry.asked == asked
    world.registry.proceed.set()
    assert await reading == content[start:end]


async def test_bytes_are_read_as_soon_as_they_are_there(world: World) -> None:
    content = bytes(range(8))
    world.registry.contents = (content,)
    world.registry.held = 3
    pieces = (await world.of(content)).read(0, 8)
    assert await anext(pieces) == content[:3]
    world.registry.proceed.set()
    assert b"".join([piece async for piece in pieces]) == content[3:]


async def test_two_who_read_the_same_cost_one_request(world: World) -> None:
    content = bytes(range(8))
    world.registry.contents = (content,)
    one, other = await world.of(content), await world.of(content)
    assert list(await asyncio.gather(read(one, 0, 8), read(other, 2, 5))) == [content, content[2:5]]
    assert world.registry.asked == [(0, 8)]


async def test_a_registry_that_fails_is_left_alone_for_longer_each_time(
    world: World, pauses: list[float]
) -> None:
    world.registry.contents = (b"abc",)
    world.registry.failing = [upstream.UpstreamError("it is down")] * transfers.TRIES
    with pytest.raises(transfers.BrokenOffError, match="it is down"):
        await read(await world.of(b"abc"), 0, 3)
    first = transfers.FIRST_RETRY_SECONDS
    assert pauses == [2 * first, 4 * first, 8 * first, 16 * first]
    # It goes on, as if nothing had been, for who asks again.
    assert await read(await world.of(b"abc"), 0, 3) == b"abc"


async def test_a_registry_that_refuses_is_not_asked_again(world: World, pauses: list[float]) -> None:
    world.registry.contents = (b"abc",)
    world.registry.failing = [upstream.UpstreamError("it is gone", 404)]
    with pytest.raises(transfers.BrokenOffError, match="it is gone"):
        await read(await world.of(b"abc"), 0, 3)
    assert (pauses, len(world.registry.asked)) == ([], 1)


async def test_what_was_pulled_under_another_name_is_fetched_there(world: World) -> None:
    world.registry.contents = (b"abc",)
    await world.of(b"abc")
    other = await world.of(b"abc", upstream.Place("other.example", "m"))
    assert await read(other, 0, 3) == b"abc"
    assert world.registry.places == {"other.example"}


async def test_what_somebody_reads_does_not_go_for_something_else(world: World) -> None:
    old, new = bytes(60), bytes(50)
    world.registry.contents = (old, new)
    await world.whole(old)
    pieces = (await world.of(old)).read(0, 60)
    await anext(pieces)
    with pytest.raises(store.NoRoomError):
        await world.of(new)
    await pieces.aclose()
    await world.whole(new)
    assert world.kept.find(digest_of(old)) is None


async def test_what_is_still_fetched_does_not_go_for_something_else(world: World) -> None:
    old, new = bytes(range(60)), bytes(50)
    world.registry.contents = (old, new)
    world.registry.held = 1
    fetched = await world.of(old)
    pieces = fetched.read(0, 10)
    await anext(pieces)
    await pieces.aclose()
    with pytest.raises(store.NoRoomError):
        await world.of(new)
    world.registry.proceed.set()
    await until(lambda: not fetched.busy)
    await world.whole(new)


async def test_what_was_read_last_stays_longest(world: World) -> None:
    contents = [bytes([index]) * 40 for index in range(3)]
    world.registry.contents = tuple(contents)
    for index, content in enumerate(contents[:2]):
        await world.whole(content)
        found = world.kept.find(digest_of(content))
        assert found is not None
        os.utime(found.folder, (index, index))
    await world.whole(contents[0])
    await world.whole(contents[2])
    assert [world.kept.find(digest_of(content)) is not None for content in contents] == [True, False, True]


async def test_files_that_are_not_what_they_were_break_a_reading_off(world: World) -> None:
    content = bytes(range(8))
    world.registry.contents = (content,)
    await world.whole(content)
    one = await world.of(content)
    file = one.blob.folder / "0"
    file.write_bytes(b"")
    with pytest.raises(transfers.BrokenOffError, match="its files are not what they were"):
        await read(one, 0, 8)
    file.unlink()
    with pytest.raises(transfers.BrokenOffError, match="No such file"):
        await read(one, 0, 8)


async def test_a_full_disk_breaks_a_reading_off(world: World) -> None:
    world.registry.contents = (b"abc",)
    one = await world.of(b"abc")
    (one.blob.folder / "0").mkdir()
    one.blob.have = [0]
    with pytest.raises(transfers.BrokenOffError, match="Is a directory"):
        await read(one, 0, 3)


async def test_a_blob_is_checked_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[str] = []
    verify = store.Blob.verify

    def note(blob: store.Blob) -> None:
        checked.append(blob.digest)
        verify(blob)

    monkeypatch.setattr(store.Blob, "verify", note)
    content = bytes(range(35))
    world.registry.contents = (content,)
    await world.whole(content)
    again = transfers.Transfers(world.kept, world.registry)
    assert await read(await again.of(PLACE, digest_of(content)), 0, 35) == content
    assert checked == [digest_of(content)]


async def test_who_reads_when_the_cache_stops_is_told(world: World) -> None:
    content = bytes(range(8))
    world.registry.contents = (content,)
    world.registry.held = 1
    pieces = (await world.of(content)).read(0, 8)
    assert await anext(pieces) == content[:1]
    more = asyncio.ensure_future(anext(pieces))
    await asyncio.sleep(0)
    await world.transfers.close()
    with pytest.raises(transfers.BrokenOffError):
        await more
    assert world.kept.find(digest_of(content)) is not None
