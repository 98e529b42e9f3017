"""Servers that accept requests and do not answer, and clients that do not read."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest

from modelset_proxy.serving import proxy
from serve_app.tests import asking, fake_ollama, running
from serve_app.tests.web import visits

Pair = tuple[fake_ollama.FakeOllama, fake_ollama.FakeOllama]


@contextlib.asynccontextmanager
async def proxied(*fakes: fake_ollama.FakeOllama) -> AsyncIterator[tuple[aiohttp.ClientSession, proxy.Proxy]]:
    for fake in fakes:
        fake.loaded = {"smollm2:135m"}
    async with (
        fake_ollama.running(*fakes),
        running.proxied(*(fake.url for fake in fakes)) as (session, built),
    ):
        yield session, built


def frozen(pair: Pair) -> fake_ollama.FakeOllama:
    """Return the one that answers, frozen from now on."""
    [server] = [fake for fake in pair if fake.running]
    server.thawed.clear()
    return server


async def hang(clock: asking.Clock) -> None:
    await clock.forward(3)
    await clock.forward(5.1)


async def test_whoever_has_heard_nothing_yet_is_answered_elsewhere() -> None:
    pair = fake_ollama.FakeOllama(), fake_ollama.FakeOllama()
    for fake in pair:
        fake.thawed.clear()
    async with proxied(*pair) as (session, built):
        clock = asking.Clock(built)
        asked = asyncio.create_task(asking.ask(session))
        await asking.until(lambda: any(fake.running for fake in pair), built)
        [hung] = [fake for fake in pair if fake.running]
        for fake in pair:
            if fake is not hung:
                fake.thawed.set()
        await hang(clock)
        assert (await asked)[0] == 200
        assert set(built.dispatch.core.sick()) == {hung.url}
        before = len(hung.answered)
        for number in range(6):
            messages = [{"role": "user", "content": str(number)}]
            assert (await asking.ask(session, messages=messages))[0] == 200
        assert len(hung.answered) == before


async def test_a_server_comes_back_once_it_answers_again() -> None:
    fake = fake_ollama.FakeOllama()
    fake.thawed.clear()
    async with proxied(fake) as (session, built):
        clock = asking.Clock(built)
        asked = asyncio.create_task(asking.ask(session))
        await asking.until(lambda: bool(fake.running), built)
        await hang(clock)
        assert built.dispatch.core.sick()
        assert not asked.done()
        fake.thawed.set()
        await asking.until(lambda: not fake.running, built)
        await clock.forward(2.1)
        assert (await asked)[0] == 200
        assert not built.dispatch.core.sick()
        tried = [body for body in fake.sent("/api/generate") if body.get("options") == {"num_predict": 1}]
        assert [(body["raw"], body["stream"]) for body in tried] == [(True, False)]


async def test_a_stream_that_hangs_is_told_so() -> None:
    fake = fake_ollama.FakeOllama()
    gate = asyncio.Event()
    fake.chat = [*fake_ollama.answer("one")[:-1], gate]
    async with proxied(fake) as (session, built):
        clock = asking.Clock(built)
        asked = asyncio.create_task(asking.stream(session, response_format={"type": "json_object"}))
        await asking.until(lambda: bool(fake.running), built)
        await clock.forward(0)
        frozen((fake, fake_ollama.FakeOllama()))
        await hang(clock)
        assert (await asked)[-1]["error"]["code"] == "upstream_hung"


async def test_a_client_that_leaves_a_hanging_server_is_not_kept() -> None:
    fake = fake_ollama.FakeOllama()
    fake.thawed.clear()
    async with proxied(fake) as (session, built):
        clock = asking.Clock(built)
        asked = asyncio.create_task(asking.ask(session))
        await asking.until(lambda: bool(fake.running), built)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        await asking.until(lambda: built.dispatch.counts()["smollm2"] == (0, 0), built)
        await hang(clock)
        assert built.dispatch.core.sick() == {}


async def test_a_client_that_takes_nothing_loses_its_slot() -> None:
    fake = fake_ollama.FakeOllama()
    fake.chat = fake_ollama.answer(*["x" * 100_000] * 400)
    async with proxied(fake) as (session, built):
        clock = asking.Clock(built)
        response = await session.post("/v1/chat/completions", json={**asking.CHAT, "stream": True})
        # Nobody reads on: buffers fill up, and nothing moves any more.
        last = -1
        while last != (now := sum(lease.items for lease in built.dispatch.leases)):
            last = now
            await asyncio.sleep(0.2)
        await clock.forward(0)
        await clock.forward(59)
        assert built.dispatch.counts()["smollm2"] == (1, 0)
        await clock.forward(2)
        await asking.until(lambda: built.dispatch.counts()["smollm2"] == (0, 0), built)
        assert not built.dispatch.core.sick()
        response.close()


_STALLED = {
    "choices": ("chat/completions", {**asking.CHAT, "n": 2}),
    "prompts": ("completions", {"model": "smollm2", "prompt": ["a", "b"]}),
    "passed on": ("responses", {"model": "smollm2", "input": "hi"}),
}


@pytest.mark.parametrize("case", _STALLED)
async def test_whatever_was_asked_for_loses_its_slots_when_nothing_is_taken(case: str) -> None:
    path, body = _STALLED[case]
    fake = fake_ollama.FakeOllama()
    fake.chat = fake_ollama.answer(*["x" * 100_000] * 40)
    async with proxied(fake) as (_, built):
        clock, leases = asking.Clock(built), built.dispatch.leases
        visit = visits.Visit(f"/v1/{path}")
        visit.reading.clear()
        visit.feed(json.dumps({**body, "stream": True}).encode(), more=False)
        visiting = asyncio.create_task(visit.to(built._app))
        await asking.until(lambda: bool(leases) and all(lease.handing for lease in leases), built)
        await clock.forward(0)
        await clock.forward(59)
        assert built.dispatch.counts()["smollm2"][0] > 0
        await clock.forward(2)
        await asyncio.wait_for(visiting, 5)
        assert built.dispatch.counts()["smollm2"] == (0, 0)
        assert not built.dispatch.core.sick()
