"""Work that goes on beside the requests."""

import asyncio

import pytest

from modelset_proxy.telemetry import background


async def test_work_that_fails_is_logged_and_begun_again(caplog: pytest.LogCaptureFixture) -> None:
    begun: list[int] = []
    again = asyncio.Event()

    async def work() -> None:
        begun.append(1)
        if len(begun) == 1:
            raise ValueError("a defect")
        again.set()
        await asyncio.Event().wait()

    supervised = background.Background(again_seconds=0)
    supervised.start("work", work)
    await asyncio.wait_for(again.wait(), 5)
    await supervised.stop()
    assert len(begun) == 2
    assert [record.getMessage() for record in caplog.records] == ["background work failed and begins again"]


async def test_stopping_ends_it_and_waits_until_it_has_ended() -> None:
    ended = False
    running = asyncio.Event()

    async def work() -> None:
        nonlocal ended
        try:
            running.set()
            await asyncio.Event().wait()
        finally:
            ended = True

    supervised = background.Background()
    supervised.start("work", work)
    await running.wait()
    await supervised.stop()
    assert ended
