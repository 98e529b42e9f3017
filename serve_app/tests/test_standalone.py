"""Without Kubernetes: models from the environment, or whatever Ollama holds."""

import asyncio
import logging
from typing import Any

import aiohttp
import msgspec
import pytest

from modelset_proxy.serving import config, proxy
from serve_app.tests import fake_compatible, fake_ollama, running


async def _listed(session: aiohttp.ClientSession) -> list[str]:
    async with session.get("/v1/models") as response:
        return [entry["id"] for entry in (await response.json())["data"]]


async def _until_listed(session: aiohttp.ClientSession, built: proxy.Proxy, wanted: list[str]) -> None:
    async with asyncio.timeout(10):
        while await _listed(session) != wanted:
            await built.fleet.next_round()


async def _status(session: aiohttp.ClientSession, path: str, body: dict[str, Any]) -> int:
    async with session.post(path, json=body) as response:
        return response.status


async def test_without_lists_all_that_ollama_holds_is_served_by_its_capabilities() -> None:
    fake = fake_ollama.FakeOllama()
    async with (
        fake_ollama.running(fake),
        running.proxied(fake.url, user_config=None) as (session, built),
    ):
        await running.discovered(session, built)
        assert await _listed(session) == ["all-minilm", "all-minilm:latest", "smollm2:135m"]
        chat = {"model": "smollm2:135m", "messages": [{"role": "user", "content": "x"}]}
        assert await _status(session, "/v1/chat/completions", chat) == 200
        assert await _status(session, "/v1/embeddings", {"model": "all-minilm", "input": "x"}) == 200
        assert await _status(session, "/v1/embeddings", {"model": "smollm2:135m", "input": "x"}) == 400


async def test_listed_models_are_pulled_and_one_that_cannot_be_is_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    fake = fake_ollama.FakeOllama({"other:1": ["completion"]})
    fake.pullable = {"chatty": ["completion"], "all-minilm:22m": ["embedding"]}
    caplog.set_level(logging.INFO)
    async with fake_ollama.running(fake):
        settings = config.Environment(
            ollama_urls=(fake.url,),
            refresh_seconds=0.05,
            chat_models=("chatty", "absent:1"),
            embedding_models=("all-minilm:22m",),
            pull_insecure=True,
            keep_alive="60",
        )
        async with running.proxied(user_config=None, settings=settings) as (session, built):
            await _until_listed(session, built, ["all-minilm:22m", "chatty"])
            chat = {"model": "chatty", "messages": [{"role": "user", "content": "x"}]}
            assert await _status(session, "/v1/chat/completions", chat) == 200
    assert fake.sent("/api/chat")[0]["keep_alive"] == 60
    assert all(body["insecure"] is True for body in fake.sent("/api/pull"))
    failures = [record for record in caplog.records if "cannot be pulled" in record.message]
    assert [vars(record)["facts"]["model"] for record in failures] == ["absent:1"]
    assert "file does not exist" in vars(failures[0])["facts"]["reason"]


async def test_another_engine_serves_all_that_its_servers_list_for_whatever_it_is() -> None:
    fake = fake_compatible.FakeCompatible("team/Chatty", "embedder:latest")
    settings = config.environment({"PROXY_ENGINE": "openai"})
    async with fake_compatible.running(fake):
        settings = msgspec.structs.replace(settings, ollama_urls=(fake.url,), refresh_seconds=0.05)
        async with running.proxied(user_config=None, settings=settings) as (session, built):
            await running.discovered(session, built)
            assert await _listed(session) == ["embedder:latest", "team/Chatty"]
            chat = {"model": "team/Chatty", "messages": [{"role": "user", "content": "x"}]}
            assert await _status(session, "/v1/chat/completions", chat) == 200
            embedding = {"model": "embedder:latest", "input": "x"}
            assert await _status(session, "/v1/embeddings", embedding) == 200
            fake.models.append("another")
            await _until_listed(session, built, ["another", "embedder:latest", "team/Chatty"])
            await fake.stop()
            while built.dispatch.state()["reachable"]:
                await built.fleet.next_round()
            await built.fleet.next_round()
            assert len(await _listed(session)) == 3
    assert [body["model"] for _, body in fake.requests] == ["team/Chatty", "embedder:latest"]


async def test_until_a_server_has_answered_nobody_is_told_that_there_is_no_such_model() -> None:
    fake = fake_ollama.FakeOllama()
    async with fake_ollama.running(fake):
        settings = config.Environment(ollama_urls=(fake.url,), refresh_seconds=0.05)
    chat = {"model": "smollm2:135m", "messages": [{"role": "user", "content": "x"}]}
    async with running.proxied(user_config=None, settings=settings) as (session, built):
        assert await _listed(session) == []
        for ask in (session.get("/v1/models/no:1"), session.post("/v1/chat/completions", json=chat)):
            async with ask as response:
                told = (await response.json())["error"]
                assert (response.status, told["code"]) == (503, "upstream_unavailable")
                assert "Retry-After" in response.headers
        await fake.start(port=fake.port)
        try:
            await running.discovered(session, built)
            assert await _status(session, "/v1/chat/completions", chat) == 200
            assert await _status(session, "/v1/chat/completions", {**chat, "model": "no:1"}) == 404
        finally:
            await fake.stop()


async def test_models_that_are_there_are_not_pulled_again() -> None:
    fake = fake_ollama.FakeOllama()
    async with fake_ollama.running(fake):
        settings = config.Environment(
            ollama_urls=(fake.url,), refresh_seconds=0.05, chat_models=("smollm2:135m",)
        )
        async with running.proxied(user_config=None, settings=settings) as (session, built):
            await running.discovered(session, built)
            assert await _listed(session) == ["smollm2:135m"]
            await built.fleet.next_round()
    assert fake.sent("/api/pull") == []
