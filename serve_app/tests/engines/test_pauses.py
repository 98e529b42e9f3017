"""Others have their turn while something long is made."""

import asyncio

import pytest

from modelset_proxy.engines import pauses


@pytest.mark.simulated
@pytest.mark.parametrize(("parts", "turns"), [(0, 0), (1, 0), (4, 3)])
async def test_there_is_a_pause_between_two_parts(parts: int, turns: int) -> None:
    seen = 0

    async def other() -> None:
        nonlocal seen
        while True:
            seen += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    assert await pauses.all_of(range(parts)) == list(range(parts))
    assert seen == turns
    assert asyncio.get_running_loop().time() == 0.0
    task.cancel()
