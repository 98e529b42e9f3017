"""Running the choices of one request side by side, a limited number at a time."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, TypeVar

Item = TypeVar("Item")
# More than any number of servers answers at once; each takes a task.
_AT_ONCE = 256
# To begin one takes up to a seventh of a millisecond, and meanwhile nobody else gets a turn.
_BEGUN_A_TURN = 32


async def streams(
    count: int, begin: Callable[[int], AsyncGenerator[Item, None]]
) -> AsyncGenerator[tuple[int, Item], None]:
    """Yield what the sources yield, as it comes, with their numbers; the first failure ends all of them."""
    numbers = iter(range(count))
    workers = min(count, _AT_ONCE)
    # One place a worker: a slow client holds the sources back instead of filling memory.
    queue: asyncio.Queue[tuple[int, Item]] = asyncio.Queue(maxsize=workers)

    async def drain() -> None:
        for number in numbers:
            async with contextlib.aclosing(begin(number)) as source:
                async for item in source:
                    await queue.put((number, item))

    tasks: set[asyncio.Task[None]] = set()
    getting: asyncio.Task[tuple[int, Item]] | None = None
    try:
        await _begin(tasks.add, drain, workers)
        while tasks or not queue.empty():
            getting = getting or asyncio.create_task(queue.get())
            done, _ = await asyncio.wait({getting, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            for task in done & tasks:
                await task
            tasks -= done
            if getting in done:
                yield getting.result()
                getting = None
    finally:
        left = [*tasks, *([getting] if getting is not None else [])]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


async def results(count: int, work: Callable[[int], Coroutine[Any, Any, Item]]) -> list[Item]:
    """Return the results in order; the first failure cancels the rest and is raised."""
    if count == 1:
        return [await work(0)]
    numbers = iter(range(count))
    found: dict[int, Item] = {}

    async def drain() -> None:
        for number in numbers:
            found[number] = await work(number)

    tasks: list[asyncio.Task[None]] = []
    try:
        await _begin(tasks.append, drain, min(count, _AT_ONCE))
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return [found[number] for number in range(count)]


async def _begin(
    keep: Callable[[asyncio.Task[None]], None], work: Callable[[], Coroutine[Any, Any, None]], count: int
) -> None:
    """Begin so many tasks, some in each turn of the event loop; who fails or leaves finds them kept."""
    for number in range(1, count + 1):
        keep(asyncio.create_task(work()))
        if number % _BEGUN_A_TURN == 0:
            await asyncio.sleep(0)
