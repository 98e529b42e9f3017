"""Running the choices of one request side by side."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Coroutine, Sequence
from typing import Any, TypeVar

Item = TypeVar("Item")


async def streams(
    sources: Sequence[AsyncGenerator[Item, None]],
) -> AsyncGenerator[tuple[int, Item], None]:
    """Yield what the sources yield, as it comes, with their numbers; the first failure ends all of them."""
    # One slot a source: a slow client holds the sources back instead of filling memory.
    queue: asyncio.Queue[tuple[int, Item | None]] = asyncio.Queue(maxsize=len(sources))

    async def drain(index: int, source: AsyncGenerator[Item, None]) -> None:
        async with contextlib.aclosing(source):
            async for item in source:
                await queue.put((index, item))
        await queue.put((index, None))

    tasks = [asyncio.create_task(drain(index, source)) for index, source in enumerate(sources)]
    running = len(tasks)
    getting: asyncio.Task[tuple[int, Item | None]] | None = None
    try:
        while running:
            getting = asyncio.create_task(queue.get())
            done, _ = await asyncio.wait({getting, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            for task in [task for task in tasks if task in done]:
                await task
                tasks.remove(task)
            index, found = await getting
            if found is None:
                running -= 1
            else:
                yield index, found
    finally:
        if getting is not None:
            getting.cancel()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def results(work: Sequence[Coroutine[Any, Any, Item]]) -> list[Item]:
    """Return the results in order; the first failure cancels the rest and is raised."""
    if len(work) == 1:
        return [await work[0]]
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
