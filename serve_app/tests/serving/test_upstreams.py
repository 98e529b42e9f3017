"""Where the model servers are, and how that changes while requests are under way."""

import asyncio
from typing import Any

from modelset_proxy.serving import config, proxy
from serve_app.tests import asking, fake_ollama, running


def behind(*servers: fake_ollama.FakeOllama) -> dict[str, Any]:
    return {**running.USER_CONFIG, "upstreams": [{"url": server.url} for server in servers]}


async def test_other_servers_are_taken_over_in_place_and_streams_go_on() -> None:
    first, second = fake_ollama.FakeOllama(), fake_ollama.FakeOllama()
    go_on = asyncio.Event()
    first.chat = [*fake_ollama.answer("Hello")[:1], go_on, *fake_ollama.answer(" from the first")]
    async with (
        fake_ollama.running(first, second),
        running.proxied("http://127.0.0.1:1", user_config=behind(first)) as (session, built),
    ):
        stream = asyncio.create_task(asking.stream(session))
        await asking.until(lambda: len(first.sent("/api/chat")) == 1, built)
        await built.configure(behind(second))
        assert set(built.fleet.sights) == {second.url}
        assert (await asking.ask(session))[0] == 200
        assert (len(first.sent("/api/chat")), len(second.sent("/api/chat"))) == (1, 1)
        go_on.set()
        told = [event for event in await stream if event != "[DONE]"]
    words = [choice["delta"].get("content", "") for event in told for choice in event["choices"]]
    assert "".join(words) == "Hello from the first"
    assert not first.cancelled.is_set()


async def test_without_upstreams_the_environment_says_where_they_are() -> None:
    ollama, other = fake_ollama.FakeOllama(), fake_ollama.FakeOllama()
    async with (
        fake_ollama.running(ollama, other),
        running.proxied(ollama.url, user_config=behind(other)) as (_, built),
    ):
        for given in (running.USER_CONFIG, {}):
            await built.configure(behind(other))
            await built.configure(given)
            assert set(built.fleet.sights) == {ollama.url}


async def test_behind_serve_the_first_configuration_says_where_they_are() -> None:
    ollama, other = fake_ollama.FakeOllama(), fake_ollama.FakeOllama()
    async with fake_ollama.running(ollama, other):
        for given, server in (({}, ollama), (behind(other), other)):
            settings = config.Environment(ollama_urls=(ollama.url,), refresh_seconds=0.05)
            built = proxy.Proxy(settings, behind_serve=True)
            async with running.listening(built):
                assert built.fleet.sights == {}
                await built.configure(given)
                assert set(built.fleet.sights) == {server.url}
