"""Long work in the event loop, which sees to everybody else meanwhile."""

import asyncio
from collections.abc import Iterable
from typing import TypeVar

from modelset_proxy.openai import steps

Part = TypeVar("Part")


async def between(work: steps.Steps[steps.Done]) -> steps.Done:
    """Do some work with a pause after each of its steps, and return what comes of it."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            done: steps.Done = end.value
            return done
        await asyncio.sleep(0)


async def all_of(parts: Iterable[Part]) -> list[Part]:
    """Return parts of which each takes a while to be made."""
    made: list[Part] = []
    for part in parts:
        if made:
            await asyncio.sleep(0)
        made.append(part)
    return made
