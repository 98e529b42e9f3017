"""Comments on streams that have nothing to tell yet, in simulated time."""

import asyncio
import itertools

import pytest

from modelset_proxy.web import exchange, holding
from serve_app.tests.web import speaking

pytestmark = pytest.mark.simulated


class Waiting:
    """A request of which a test says what it waits for; keeps when comments were sent."""

    def __init__(self) -> None:
        self.stranded = self.asked = False
        self.said: list[float] = []
        self.spoken = speaking.Spoken()
        self.spoken.send = self._send  # type: ignore[method-assign]
        self.web = self.spoken.web()
        self.hold = holding.Holding(self.web, stranded=lambda: self.stranded, asked=lambda: self.asked)

    async def _send(self, message: exchange.Message) -> None:
        self.spoken.sent.append(message)
        if message["type"] == "http.response.body":
            assert message == {"type": "http.response.body", "body": holding.COMMENT, "more_body": True}
            self.said.append(asyncio.get_running_loop().time())


async def test_while_there_is_no_server_it_is_said_now_and_again() -> None:
    waiting = Waiting()
    waiting.stranded = True
    async with waiting.hold:
        await asyncio.sleep(1.9)
        assert not waiting.web.started
        await asyncio.sleep(30)
    assert waiting.said == [2.0, 12.0, 22.0]
    assert (waiting.spoken.status, dict(waiting.spoken.headers)[b"content-type"]) == (
        200,
        b"text/event-stream",
    )


async def test_after_it_nothing_is_said() -> None:
    waiting = Waiting()
    waiting.stranded = True
    async with waiting.hold:
        await asyncio.sleep(5)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    other = Waiting()
    other.stranded = True
    async with other.hold:
        await asyncio.sleep(1)
    await asyncio.sleep(60)
    assert (waiting.said, other.said) == ([2.0], [])


async def test_once_begun_it_goes_on_while_the_model_is_loaded() -> None:
    waiting = Waiting()
    waiting.stranded = True
    async with waiting.hold:
        await asyncio.sleep(5)
        waiting.stranded, waiting.asked = False, True
        await asyncio.sleep(60)
    assert waiting.said == [2.0, 12.0, 22.0, 32.0, 42.0, 52.0, 62.0]


async def test_who_waits_for_a_turn_can_still_be_refused() -> None:
    waiting = Waiting()
    async with waiting.hold:
        await asyncio.sleep(300)
    assert not waiting.web.started


async def test_who_loses_the_server_meanwhile_hears_of_it() -> None:
    waiting = Waiting()
    async with waiting.hold:
        await asyncio.sleep(50.5)
        waiting.stranded = True
        await asyncio.sleep(3)
    assert waiting.said == [52.0]


async def test_a_server_that_takes_long_is_waited_for_aloud() -> None:
    waiting = Waiting()
    async with waiting.hold:
        await asyncio.sleep(40)
        waiting.asked = True
        await asyncio.sleep(45)
    assert waiting.said == [58.0, 68.0, 78.0]


async def test_nothing_is_said_after_the_end() -> None:
    waiting = Waiting()
    waiting.stranded = True
    async with waiting.hold:
        await asyncio.sleep(5)
        await waiting.hold.end()
        await asyncio.sleep(60)
    assert waiting.said == [2.0]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_most_streams_need_nothing_for_it() -> None:
    waiting = Waiting()
    waiting.stranded = True
    async with waiting.hold:
        await asyncio.sleep(1.5)
        await waiting.hold.end()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        await asyncio.sleep(60)
    assert waiting.said == []


async def test_what_is_being_said_is_out_before_anything_else() -> None:
    waiting = Waiting()
    waiting.stranded = True
    taken = asyncio.Event()
    genuine, order = waiting.spoken.send, itertools.count()

    async def slowly(message: exchange.Message) -> None:
        await taken.wait()
        next(order)
        await genuine(message)

    waiting.web._send = slowly
    async with waiting.hold:
        await asyncio.sleep(2.5)
        ending = asyncio.create_task(waiting.hold.end())
        await asyncio.sleep(1)
        assert not ending.done()
        taken.set()
        await ending
        assert next(order) == 2


def test_clients_of_events_skip_it() -> None:
    assert holding.COMMENT.startswith(b":")
    assert holding.COMMENT.endswith(b"\n\n")
    assert holding.COMMENT.count(b"\n") == 2
