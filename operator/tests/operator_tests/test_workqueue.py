import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from modelset_operator import workqueue

Work = Callable[[str], Coroutine[Any, Any, float | None]]


class Runner:
    """Runs queues for the length of a test."""

    def __init__(self) -> None:
        self.tasks: list[asyncio.Task[None]] = []

    def start(self, work: Work, at_once: int = 8) -> workqueue.WorkQueue[str]:
        queue = workqueue.WorkQueue(work, at_once)
        self.tasks.append(asyncio.create_task(queue.run()))
        return queue


@pytest.fixture
async def runner() -> AsyncIterator[Runner]:
    runner = Runner()
    yield runner
    for task in runner.tasks:
        task.cancel()
    await asyncio.gather(*runner.tasks, return_exceptions=True)


async def test_a_burst_of_events_is_one_look(runner: Runner) -> None:
    seen: asyncio.Queue[str] = asyncio.Queue()

    async def work(key: str) -> None:
        seen.put_nowait(key)

    queue = runner.start(work)
    for _ in range(10):
        queue.add("a", 0.01)
    assert await seen.get() == "a"
    queue.add("b")
    assert await seen.get() == "b"
    assert seen.empty()


async def test_a_key_is_never_worked_on_twice_at_a_time_and_never_lost(runner: Runner) -> None:
    active, most, count = 0, 0, 0
    finished = asyncio.Event()
    started = asyncio.Event()

    async def work(key: str) -> None:
        nonlocal active, most, count
        active, count = active + 1, count + 1
        most = max(most, active)
        started.set()
        await asyncio.sleep(0.01)
        active -= 1
        if count == 2:
            finished.set()

    queue = runner.start(work)
    queue.add("a")
    await started.wait()
    queue.add("a")
    await finished.wait()
    assert most == 1


async def test_different_keys_go_side_by_side_up_to_the_limit(runner: Runner) -> None:
    release = asyncio.Event()
    started: list[str] = []

    async def work(key: str) -> None:
        started.append(key)
        if len(started) == 2:
            full.set()
        if len(started) == 3:
            third.set()
        await release.wait()

    full, third = asyncio.Event(), asyncio.Event()
    queue = runner.start(work, at_once=2)
    for key in "abc":
        queue.add(key)
    await full.wait()
    assert sorted(started) == ["a", "b"]
    release.set()
    await third.wait()
    assert sorted(started) == ["a", "b", "c"]


async def test_an_error_comes_back_later_and_does_not_stop_the_others(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workqueue, "FIRST_BACKOFF_SECONDS", 0.01)
    attempts: list[str] = []
    recovered = asyncio.Event()

    async def work(key: str) -> None:
        attempts.append(key)
        if key == "bad" and attempts.count("bad") < 3:
            raise RuntimeError("refused")
        if key == "bad":
            recovered.set()

    queue = runner.start(work)
    queue.add("bad")
    queue.add("good")
    await recovered.wait()
    assert "good" in attempts


async def test_a_result_says_when_to_look_again(runner: Runner) -> None:
    looked = asyncio.Event()
    counts: list[str] = []

    async def work(key: str) -> float | None:
        counts.append(key)
        if len(counts) == 2:
            looked.set()
            return None
        return 0.01

    runner.start(work).add("a")
    await looked.wait()


async def test_a_hanging_key_shows(runner: Runner) -> None:
    started = asyncio.Event()

    async def work(key: str) -> None:
        started.set()
        await asyncio.Event().wait()

    queue = runner.start(work)
    assert queue.stuck_seconds() < 1
    queue.add("a")
    await started.wait()
    await asyncio.sleep(0.05)
    assert queue.stuck_seconds() >= 0.05


async def test_keys_that_wait_for_others_are_not_stuck() -> None:
    async def work(key: str) -> None:
        return None

    queue = workqueue.WorkQueue(work)
    queue.add("a", -60.0)
    assert queue.stuck_seconds() == 0.0


async def test_a_queue_that_takes_no_turn_shows(monkeypatch: pytest.MonkeyPatch, runner: Runner) -> None:
    worked = asyncio.Event()

    async def work(key: str) -> None:
        worked.set()

    queue = runner.start(work)
    queue.add("a")
    await worked.wait()
    monkeypatch.setattr(workqueue, "TURN_SECONDS", -60.0)
    assert queue.stuck_seconds() >= 60.0


async def test_it_tells_how_many_wait_and_for_how_long() -> None:
    async def work(key: str) -> None:
        raise AssertionError(key)

    now = [100.0]
    queue = workqueue.WorkQueue(work, clock=lambda: now[0])
    assert queue.waiting() == (0, 0.0)
    queue.add("a")
    assert queue.waiting() == (1, 0.0)
    queue.add("b", 3.0)
    queue.add("c", 60.0)
    now[0] += 5.0
    assert queue.waiting() == (2, 5.0)
