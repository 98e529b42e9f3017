"""Running the choices of one request side by side, a limited number at a time."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, TypeVar

Item = TypeVar("Item")
# More than any number of servers answers at once; each takes a task.
_AT_ONCE = 256


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

    tasks = {asyncio.create_task(drain()) for _ in range(workers)}
    getting: asyncio.Task[tuple[int, Item]] | None = None
    try:
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

    tasks = [asyncio.create_task(drain()) for _ in range(min(count, _AT_ONCE))]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return [found[number] for number in range(count)]
