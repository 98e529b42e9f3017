"""When the queue works on a key again, to the second."""

import asyncio
import itertools
import logging

import pytest

from modelset_operator import workqueue
from serve_app.tests import simulated


class RefusedError(Exception):
    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


async def _times(outcomes: list[Exception | float | None], seconds: float) -> list[float]:
    """Return when a key was worked on, whose work ends as given one time after the other."""
    clock = asyncio.get_running_loop().time
    times: list[float] = []

    async def work(key: str) -> float | None:
        times.append(round(clock(), 3))
        outcome = outcomes.pop(0) if outcomes else None
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    queue = workqueue.WorkQueue(work, expected=(RefusedError,), clock=clock)
    running = asyncio.create_task(queue.run())
    queue.add("a")
    await asyncio.sleep(seconds)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return times


def _pauses(times: list[float]) -> list[float]:
    return [after - before for before, after in itertools.pairwise(times)]


def test_each_failure_doubles_the_pause_up_to_a_minute_and_a_success_ends_that() -> None:
    failure = RefusedError("no")
    times = simulated.run(_times([*[failure] * 8, 300.0, failure], 1000))
    assert _pauses(times) == [1, 2, 4, 8, 16, 32, 60, 60, 300, 1]


def test_a_pause_is_as_long_as_the_api_server_asks_for() -> None:
    times = simulated.run(_times([RefusedError("no", 30.0), RefusedError("no", 0.5), None], 100))
    assert _pauses(times) == [30, 2]


def test_failures_are_one_line_unless_they_are_defects(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        simulated.run(_times([RefusedError("expected"), ValueError("a defect")], 10))
    assert [(bool(record.exc_info), record.args[2].args) for record in caplog.records if record.args] == [
        (False, ("expected",)),
        (True, ("a defect",)),
    ]


def test_a_key_is_worked_on_at_the_earliest_of_the_times_that_were_asked_for() -> None:
    async def run() -> list[float]:
        clock = asyncio.get_running_loop().time
        times: list[float] = []

        async def work(key: str) -> None:
            times.append(clock())

        queue = workqueue.WorkQueue(work, clock=clock)
        running = asyncio.create_task(queue.run())
        queue.add("a", 40.0)
        await asyncio.sleep(1.5)
        queue.add("a", 0.25)
        queue.add("a", 30.0)
        await asyncio.sleep(60)
        assert queue.stuck_seconds() == 0
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return times

    assert simulated.run(run()) == [1.75]


def test_what_waits_for_others_begins_when_one_of_them_ends_and_all_end_with_the_queue() -> None:
    async def run() -> None:
        clock = asyncio.get_running_loop().time
        begun: list[tuple[str, float]] = []
        ended: list[str] = []

        async def work(key: str) -> None:
            begun.append((key, clock()))
            try:
                await asyncio.sleep(2.0 if key == "a" else 100.0)
            finally:
                await asyncio.sleep(2.0 if key == "b" else 1.0)
                ended.append(key)

        queue = workqueue.WorkQueue(work, at_once=2, clock=clock)
        running = asyncio.create_task(queue.run())
        for key in "abc":
            queue.add(key)
        await asyncio.sleep(10)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert begun == [("a", 0.0), ("b", 0.0), ("c", 3.0)]
        assert sorted(ended) == ["a", "b", "c"]

    simulated.run(run())
