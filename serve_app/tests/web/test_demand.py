"""The demand feed: what is asked of the models, for whoever holds the token."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from modelset_proxy.serving import config, proxy
from serve_app.tests import asking, fake_ollama, running

TOKEN = {"authorization": "Bearer t0ken"}
PATH = "/demand"


@contextlib.asynccontextmanager
async def fed(
    fake: fake_ollama.FakeOllama, *, has_token: bool = True
) -> AsyncIterator[tuple[aiohttp.ClientSession, proxy.Proxy]]:
    token = TOKEN["authorization"].removeprefix("Bearer ") if has_token else None
    async with fake_ollama.running(fake):
        settings = config.Environment(ollama_urls=(fake.url,), refresh_seconds=0.05, demand_token=token)
        async with running.proxied(settings=settings) as (session, built):
            yield session, built


async def get(session: aiohttp.ClientSession, **query: Any) -> dict[str, Any]:
    params = {name: str(value) for name, value in query.items()}
    async with session.get(PATH, params=params, headers=TOKEN) as response:
        assert response.status == 200, await response.text()
        found: dict[str, Any] = await response.json()
        return found


async def test_it_tells_what_runs_and_what_waits() -> None:
    fake = fake_ollama.FakeOllama()
    fake.thawed.clear()
    async with fed(fake) as (session, built):
        built.dispatch.limits = type(built.dispatch.limits)(max_in_flight_per_server=1)
        asked = [asyncio.create_task(asking.ask(session)) for _ in range(3)]
        await asking.until_queued(built, 2)
        model = (await get(session))["models"]["smollm2"]
        assert (model["inFlight"], model["queued"], model["idleSeconds"]) == (1, 2, 0)
        assert 0 < model["longestWaitSeconds"] < 60
        fake.thawed.set()
        await asyncio.gather(*asked)
        model = (await get(session))["models"]["smollm2"]
        assert (model["inFlight"], model["queued"], model["longestWaitSeconds"]) == (0, 0, 0)
        assert 0 < model["idleSeconds"] < 60


async def test_it_waits_for_a_change() -> None:
    fake = fake_ollama.FakeOllama()
    fake.thawed.clear()
    async with fed(fake) as (session, _):
        before = await get(session)
        loop = asyncio.get_running_loop()
        began = loop.time()
        waiting = asyncio.create_task(get(session, version=before["version"], wait=30))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        asked = asyncio.create_task(asking.ask(session))
        after = await waiting
        assert loop.time() - began < 1.3
        assert after["version"] != before["version"]
        assert after["models"]["smollm2"]["inFlight"] == 1
        fake.thawed.set()
        await asked


async def test_it_answers_in_time_when_nothing_changes() -> None:
    async with fed(fake_ollama.FakeOllama()) as (session, _):
        before = await get(session)
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert (await get(session, version=before["version"], wait=0.1))["version"] == before["version"]
        assert 0.1 <= loop.time() - began < 0.9


async def test_it_names_servers_that_hang() -> None:
    async with fed(fake_ollama.FakeOllama()) as (session, built):
        before = await get(session)
        [server] = built.dispatch.core._state.servers.values()
        server.sick = built.dispatch.engine.key("smollm2:135m")
        after = await get(session)
        assert list(after["sick"].values()) == ["smollm2"]
        assert after["version"] != before["version"]


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer other"}, {"authorization": "Bearer "}])
async def test_nobody_else_learns_that_it_is_there(headers: dict[str, str]) -> None:
    async with (
        fed(fake_ollama.FakeOllama()) as (session, _),
        session.get(PATH, headers=headers) as response,
    ):
        assert response.status == 404
        assert (await response.json())["error"]["code"] == "unknown_url"


async def test_without_a_token_nobody_is_answered() -> None:
    async with (
        fed(fake_ollama.FakeOllama(), has_token=False) as (session, _),
        session.get(PATH, headers={"authorization": "Bearer "}) as response,
    ):
        assert response.status == 404


async def test_a_wait_that_is_no_number_is_refused() -> None:
    async with (
        fed(fake_ollama.FakeOllama()) as (session, _),
        session.get(PATH, params={"wait": "long"}, headers=TOKEN) as response,
    ):
        assert (response.status, (await response.json())["error"]["param"]) == (400, "wait")


def test_the_token_is_that_of_rays_pods() -> None:
    assert config.environment({"RAY_AUTH_TOKEN": " x"}) == config.Environment(demand_token="x")  # noqa: S106
    assert config.environment({}).demand_token is None
