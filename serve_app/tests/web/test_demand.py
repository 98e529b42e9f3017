"""The demand feed: what is asked of the models, for whoever holds the token."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from modelset_proxy.serving import proxy
from serve_app.tests import asking, fake_ollama, running

TOKEN = {"authorization": "Bearer t0ken"}
HASH = hashlib.sha256(b"t0ken").hexdigest()
PATH = "/demand"


@contextlib.asynccontextmanager
async def fed(
    fake: fake_ollama.FakeOllama, *, has_token: bool = True
) -> AsyncIterator[tuple[aiohttp.ClientSession, proxy.Proxy]]:
    user_config = {**running.USER_CONFIG, **({"demand": {"tokenSha256": HASH}} if has_token else {})}
    async with (
        fake_ollama.running(fake),
        running.proxied(fake.url, user_config=user_config) as (session, built),
    ):
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


async def test_it_is_told_of_who_waits_though_there_is_no_server() -> None:
    fake = fake_ollama.FakeOllama()
    limits = {"wakeTimeoutSeconds": 300}
    async with fed(fake) as (session, built):
        await fake.stop()
        await built.fleet.refresh()
        await built.configure({**running.USER_CONFIG, "demand": {"tokenSha256": HASH}, "limits": limits})
        before = await get(session)
        waiting = asyncio.create_task(get(session, version=before["version"], wait=30))
        await asyncio.sleep(0.05)
        loop = asyncio.get_running_loop()
        began = loop.time()
        asked = asyncio.create_task(asking.ask(session))
        models = (await waiting)["models"]
        assert loop.time() - began < 1
        assert (models["smollm2"]["inFlight"], models["smollm2"]["queued"]) == (0, 1)
        # Also of those that nobody has asked.
        assert 0 < models["all-minilm"]["idleSeconds"] < 60
        asked.cancel()


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer other"},
        {"authorization": "Bearer "},
        {"authorization": f"Bearer {HASH}"},
        {"x-api-key": "t0ken"},
    ],
)
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


async def test_who_may_read_it_changes_in_place() -> None:
    async with fed(fake_ollama.FakeOllama()) as (session, built):
        other = hashlib.sha256(b"other").hexdigest()
        for given, status in (
            ({**running.USER_CONFIG, "demand": {"tokenSha256": other}}, 404),
            ({**running.USER_CONFIG, "demand": {"tokenSha256": HASH}}, 200),
            (running.USER_CONFIG, 404),
            ({**running.USER_CONFIG, "demand": {"tokenSha256": HASH}}, 200),
            ({}, 404),
        ):
            await built.configure(given)
            async with session.get(PATH, headers=TOKEN) as response:
                assert response.status == status
