"""Several servers behind the proxy: which one answers, and what happens when one fails."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from modelset_proxy.serving import proxy
from serve_app.tests import asking, fake_ollama, running


class TestTwoServers:
    """Failing over, over two Ollamas."""

    @pytest.fixture
    async def pair(self) -> AsyncIterator[tuple[fake_ollama.FakeOllama, fake_ollama.FakeOllama]]:
        pair = fake_ollama.FakeOllama(), fake_ollama.FakeOllama()
        async with fake_ollama.running(*pair):
            yield pair

    @pytest.fixture
    async def client(
        self, pair: tuple[fake_ollama.FakeOllama, fake_ollama.FakeOllama]
    ) -> AsyncIterator[aiohttp.ClientSession]:
        async with running.proxied(*(fake.url for fake in pair)) as (session, _):
            yield session

    async def test_one_that_died_is_not_noticed(
        self, client: aiohttp.ClientSession, pair: tuple[fake_ollama.FakeOllama, fake_ollama.FakeOllama]
    ) -> None:
        await pair[0].stop()
        for number in range(6):
            body = {**asking.CHAT, "messages": [{"role": "user", "content": str(number)}]}
            assert (await asking.post(client, "/v1/chat/completions", body))[0] == 200

    @pytest.mark.parametrize("stream", [True, False])
    @pytest.mark.parametrize(
        "script", [[fake_ollama.CUT], [{"error": "runner stopped"}]], ids=["cut", "error"]
    )
    async def test_one_that_fails_before_the_first_byte_is_not_noticed(
        self,
        client: aiohttp.ClientSession,
        pair: tuple[fake_ollama.FakeOllama, fake_ollama.FakeOllama],
        script: list[fake_ollama.Step],
        stream: bool,
    ) -> None:
        if stream and script != [fake_ollama.CUT]:
            # As real Ollama does when nothing was written yet.
            pair[0].refusal = (500, "runner stopped")
        pair[0].chat = script
        for number in range(4):
            body = {**asking.CHAT, "stream": stream, "messages": [{"role": "user", "content": str(number)}]}
            async with client.post("/v1/chat/completions", json=body) as response:
                assert "there" in await response.text()

    async def test_a_model_gone_from_one_is_found_at_the_other(
        self, client: aiohttp.ClientSession, pair: tuple[fake_ollama.FakeOllama, fake_ollama.FakeOllama]
    ) -> None:
        del pair[0].models["smollm2:135m"]
        for number in range(4):
            body = {**asking.CHAT, "messages": [{"role": "user", "content": str(number)}]}
            assert (await asking.post(client, "/v1/chat/completions", body))[0] == 200
        assert len(pair[1].sent("/api/chat")) == 4

    async def test_what_ended_a_models_process_is_not_given_to_another(
        self, client: aiohttp.ClientSession, pair: tuple[fake_ollama.FakeOllama, fake_ollama.FakeOllama]
    ) -> None:
        for fake in pair:
            fake.refusal = 500, "llama runner process has terminated: exit status 2"
        status, reply, response = await asking.post(client, "/v1/chat/completions", asking.CHAT)
        assert (status, reply["error"]["code"]) == (502, "upstream_error")
        assert response.headers["x-should-retry"] == "false"
        assert sum(len(fake.answered) for fake in pair) == 1

    async def test_a_mistake_of_the_client_is_not_tried_twice(
        self, client: aiohttp.ClientSession, pair: tuple[fake_ollama.FakeOllama, fake_ollama.FakeOllama]
    ) -> None:
        for fake in pair:
            fake.refusal = (400, "the input length exceeds the context length")
        status, reply, _ = await asking.post(client, "/v1/chat/completions", asking.CHAT)
        assert (status, reply["error"]["code"]) == (400, "context_length_exceeded")
        assert len(pair[0].sent("/api/chat") + pair[1].sent("/api/chat")) == 1


async def test_all_addresses_of_a_name_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    pods = {host: fake_ollama.FakeOllama() for host in ("127.0.0.1", "127.0.0.2", "127.0.0.3")}
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    for host, pod in pods.items():
        await pod.start(host, port)
    addresses = ["127.0.0.1", "127.0.0.2"]
    loop = asyncio.get_running_loop()
    genuine = loop.getaddrinfo

    async def lookup(host: str, *args: Any, **kwargs: Any) -> list[Any]:
        if host != "pods.example":
            return await genuine(host, *args, **kwargs)
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(loop, "getaddrinfo", lookup)

    async def looked_anew(built: proxy.Proxy) -> None:
        # One round may be under way, and have asked for the addresses already.
        for _ in range(2):
            await built.fleet.next_round()

    async def known(built: proxy.Proxy, session: aiohttp.ClientSession) -> set[str]:
        for pod in pods.values():
            pod.requests.clear()
        assert (await asking.post(session, "/v1/embeddings", {"model": "all-minilm", "input": "x"}))[0] == 200
        hosts = {str(urlsplit(url).hostname) for url in built.fleet.sights}
        assert {host for host, pod in pods.items() if pod.answered} <= hosts
        return hosts

    try:
        async with running.proxied(f"http://pods.example:{port}") as (session, built):
            assert await known(built, session) == {"127.0.0.1", "127.0.0.2"}
            addresses[:] = ["127.0.0.2", "127.0.0.3"]
            await looked_anew(built)
            assert await known(built, session) == {"127.0.0.2", "127.0.0.3"}
            addresses.clear()
            await looked_anew(built)
            status, reply, _ = await asking.post(
                session, "/v1/embeddings", {"model": "all-minilm", "input": "x"}
            )
            assert (status, reply["error"]["code"]) == (503, "upstream_unavailable")
    finally:
        for pod in pods.values():
            await pod.stop()


async def test_a_second_server_gets_work_once_the_first_has_no_slot_left() -> None:
    pair = fake_ollama.FakeOllama(), fake_ollama.FakeOllama()
    go_on = asyncio.Event()
    for fake in pair:
        fake.chat = [go_on, *fake_ollama.answer("one")]
    pair[0].loaded = {"smollm2:135m"}
    async with (
        fake_ollama.running(*pair),
        running.proxied(*(fake.url for fake in pair), user_config=asking.limited(maxInFlightPerServer=2)) as (
            session,
            built,
        ),
    ):
        requests = [asyncio.create_task(asking.ask(session)) for _ in range(5)]
        await asking.until(lambda: [len(fake.sent("/api/chat")) for fake in pair] == [2, 2], built)
        await asking.until_queued(built, 1)
        go_on.set()
        assert [status for status, _ in await asyncio.gather(*requests)] == [200] * 5


async def test_a_model_makes_room_before_the_next_one_is_asked_for() -> None:
    ollama = fake_ollama.FakeOllama()
    limits = asking.limited(maxInFlightPerServer=1, maxLoadedPerServer=1)
    async with (
        fake_ollama.running(ollama),
        running.proxied(ollama.url, user_config=limits) as (session, built),
    ):
        clock = asking.Clock(built)
        assert (await asking.post(session, "/v1/embeddings", {"model": "all-minilm", "input": "x"}))[0] == 200
        asked = asyncio.create_task(asking.ask(session))
        await asking.until_queued(built, 1)
        # What has been loaded just now is not let go of at once.
        await clock.forward(1)
        assert (await asked)[0] == 200
    bodies = [(path, body["model"], body.get("keep_alive")) for path, body in ollama.answered]
    assert bodies == [
        ("/api/embed", "all-minilm:latest", None),
        ("/api/generate", "all-minilm:latest", 0),
        ("/api/chat", "smollm2:135m", -1),
    ]
    assert ollama.loaded == {"smollm2:135m"}
