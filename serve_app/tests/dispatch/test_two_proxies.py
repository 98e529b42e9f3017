"""Two proxies in front of the same servers: slots are counted once."""

import asyncio
import contextlib
from typing import Any

import pytest
from aiohttp import web

from modelset_proxy.dispatch import board, ledger, sharing
from serve_app.tests import asking, fake_ollama, running

PARALLEL = 2


@pytest.fixture(autouse=True)
def no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """The board gives out slots at once, though others might hold some."""
    monkeypatch.setattr(ledger, "GRACE_SECONDS", 0.0)


class Counting(fake_ollama.FakeOllama):
    """Knows how many it answered at the same time at most."""

    def __init__(self) -> None:
        super().__init__()
        self.most = 0
        self.loaded = {"smollm2:135m"}

    async def _chat(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        self.most = max(self.most, self.running)
        return await super()._chat(request, body)


async def test_no_server_gets_more_than_it_has_slots_for() -> None:
    servers = [Counting(), Counting()]
    gate = asyncio.Event()
    for server in servers:
        server.chat = [*fake_ollama.answer("a")[:1], gate, *fake_ollama.answer("b")]
    shared = board.Board()
    user_config = {**running.USER_CONFIG, "limits": {"maxInFlightPerServer": PARALLEL}}
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(fake_ollama.running(*servers))
        proxies = [
            await stack.enter_async_context(
                running.proxied(*(server.url for server in servers), user_config=user_config, reach=shared)
            )
            for _ in range(2)
        ]
        asked = [
            asyncio.create_task(asking.ask(session, stream=True)) for session, _ in proxies for _ in range(12)
        ]
        await asking.until(lambda: all(server.running == PARALLEL for server in servers), proxies[0][1])
        gate.set()
        assert [status for status, _ in await asyncio.gather(*asked)] == [200] * 24
    assert [server.most for server in servers] == [PARALLEL, PARALLEL]


async def test_one_proxy_alone_uses_all_slots() -> None:
    server = Counting()
    gate = asyncio.Event()
    server.chat = [gate, *fake_ollama.answer("b")]
    shared = board.Board()
    user_config = {**running.USER_CONFIG, "limits": {"maxInFlightPerServer": PARALLEL}}
    async with (
        fake_ollama.running(server),
        running.proxied(server.url, user_config=user_config, reach=shared) as (one, built),
        running.proxied(server.url, user_config=user_config, reach=shared),
    ):
        asked = [asyncio.create_task(asking.ask(one)) for _ in range(4)]
        await asking.until(lambda: server.running == PARALLEL, built)
        gate.set()
        await asyncio.gather(*asked)


async def test_what_one_loads_the_other_knows_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_BUSY_SECONDS", "_IDLE_SECONDS", "_ALONE_SECONDS"):
        monkeypatch.setattr(sharing, name, 60.0)
    monkeypatch.setattr(ledger, "GRACE_SECONDS", 0.0)
    server = Counting()
    server.loaded = set()
    gate = asyncio.Event()
    server.chat = [gate, *fake_ollama.answer("b")]
    shared = board.Board()
    user_config = {**running.USER_CONFIG, "limits": {"maxInFlightPerServer": 4, "maxLoadedPerServer": 1}}
    async with (
        fake_ollama.running(server),
        running.proxied(server.url, user_config=user_config, reach=shared) as (one, _),
        running.proxied(server.url, user_config=user_config, reach=shared) as (_, other),
    ):
        asked = asyncio.create_task(asking.ask(one))
        await asking.until(lambda: bool(other.dispatch.core._state.others.used), other)
        gate.set()
        assert (await asked)[0] == 200
