"""A server that comes while requests wait for it, over HTTP: what clients see."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import openai
import pytest

from modelset_proxy.serving import config, proxy
from modelset_proxy.web import holding
from serve_app.tests import asking, fake_ollama, running
from serve_app.tests.web import visits

MESSAGE = {"model": "smollm2", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
STREAMS = [
    ("/v1/chat/completions", asking.CHAT),
    ("/v1/completions", {"model": "smollm2", "prompt": "Hi"}),
    ("/v1/completions", {"model": "smollm2", "prompt": ["Hi", "Ho"]}),
    ("/v1/responses", {"model": "smollm2", "input": "Hi"}),
    ("/v1/messages", MESSAGE),
]


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have comments come soon and often."""
    monkeypatch.setattr(holding, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(holding, "_AGAIN_SECONDS", 0.02)


@contextlib.asynccontextmanager
async def at_zero(
    **limits: Any,
) -> AsyncIterator[tuple[aiohttp.ClientSession, proxy.Proxy, fake_ollama.FakeOllama]]:
    """A proxy whose only server is not there yet: it is looked for all the time, or else once a minute."""
    fake = fake_ollama.FakeOllama()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        fake.port = free.getsockname()[1]
    settings = config.Environment(ollama_urls=(fake.url,), refresh_seconds=60.0)
    user_config = asking.limited(**{"wakeTimeoutSeconds": 300, "maxInFlightPerServer": 4, **limits})
    async with running.proxied(settings=settings, user_config=user_config) as (session, built):
        try:
            yield session, built, fake
        finally:
            await fake.stop()


async def wake(fake: fake_ollama.FakeOllama) -> None:
    await fake.start(port=fake.port)


@pytest.mark.parametrize(("path", "body"), STREAMS)
async def test_a_stream_is_kept_by_comments_and_goes_on_as_always(path: str, body: dict[str, Any]) -> None:
    async with at_zero() as (session, built, fake):
        async with session.post(path, json={**body, "stream": True}) as held:
            assert (held.status, held.content_type) == (200, "text/event-stream")
            assert await held.content.readuntil(b"\n\n") == holding.COMMENT
            assert built.dispatch.demand()["smollm2"].queued == 1
            await wake(fake)
            text = (await held.read()).decode()
        async with session.post(path, json={**body, "stream": True}) as awake:
            usual = (await awake.read()).decode()
    comment = holding.COMMENT.decode()
    assert _kinds(text.replace(comment, "")) == _kinds(usual)
    assert "Hello" in text
    assert comment not in usual


def _kinds(text: str) -> list[str]:
    """Return the events of a stream without what differs each time."""
    kinds = []
    for event in text.strip().split("\n\n"):
        name, _, data = event.rpartition("data: ")
        found = {} if data == "[DONE]" else json.loads(data)
        kinds.append(f"{name}{found.get('type')} {found.get('delta')} {len(found.get('choices', []))}")
    return kinds


async def test_an_answer_that_is_no_stream_just_comes_later() -> None:
    async with at_zero() as (session, built, fake):
        asked = asyncio.create_task(asking.ask(session))
        embedded = asyncio.create_task(
            asking.post(session, "/v1/embeddings", {"model": "all-minilm", "input": "x"})
        )
        await asking.until_queued(built, 1)
        await asyncio.sleep(0.1)
        await wake(fake)
        status, text = await asked
        assert (status, json.loads(text)["choices"][0]["message"]["content"]) == (200, "Hello there")
        assert (await embedded)[0] == 200


async def test_a_thousand_wait_and_are_answered_and_the_model_is_loaded_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Half of all are streams; with comments as often as elsewhere here, those would be most of the work.
    monkeypatch.setattr(holding, "_LOOK_SECONDS", 0.2)
    monkeypatch.setattr(holding, "_AGAIN_SECONDS", 0.5)
    async with at_zero() as (_, built, fake):
        waiting = []
        for number in range(1000):
            visit = visits.Visit()
            visit.feed(json.dumps({**asking.CHAT, "stream": number % 2 == 0}).encode(), more=False)
            waiting.append((visit, asyncio.create_task(visit.to(built._app))))
        await asking.until_queued(built, 1000)
        fake.thawed.clear()
        await wake(fake)
        await fake.asked.wait()
        await asyncio.sleep(0.05)
        assert fake.running == 4
        fake.thawed.set()
        await asyncio.gather(*(task for _, task in waiting))
        assert {visit.status for visit, _ in waiting} == {200}
        assert all(b"Hello" in visit.body for visit, _ in waiting)
        assert (len(fake.sent("/api/chat")), fake.loads) == (1000, 1)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_does_not_count_any_more(stream: bool) -> None:
    async with at_zero() as (session, built, fake):
        asked = [asyncio.create_task(asking.ask(session, stream=stream)) for _ in range(2)]
        await asking.until_queued(built, 2)
        await asyncio.sleep(0.1)
        asked[0].cancel()
        await asking.until_queued(built, 1)
        await wake(fake)
        assert (await asked[1])[0] == 200
        assert len(fake.sent("/api/chat")) == 1


async def test_no_server_that_comes_in_time_is_a_503_that_says_so() -> None:
    async with at_zero(wakeTimeoutSeconds=0.2) as (session, _, _):
        status, reply, response = await asking.post(session, "/v1/chat/completions", asking.CHAT)
    assert (status, reply["error"]["code"], reply["error"]["type"]) == (503, "wake_timeout", "server_error")
    assert response.headers["retry-after"] == "10"
    assert "x-should-retry" not in response.headers


@pytest.mark.parametrize(("path", "body"), STREAMS)
async def test_a_failure_after_a_comment_is_the_error_event_of_the_stream(
    path: str, body: dict[str, Any]
) -> None:
    async with (
        at_zero(wakeTimeoutSeconds=0.2) as (session, _, _),
        session.post(path, json={**body, "stream": True}) as response,
    ):
        assert response.status == 200
        text = (await response.read()).decode()
    *before, last = [event for event in text.strip().split("\n\n") if not event.startswith(":")]
    error = json.loads(last.rpartition("data: ")[2])["error"]
    assert "No model server came" in error["message"]
    assert "[DONE]" not in text
    names = [event.partition("\n")[0] for event in before]
    created = ["event: response.created", "event: response.in_progress", "event: response.failed"]
    assert names == (created if path == "/v1/responses" else [])


async def test_a_failure_at_the_server_that_came_is_told_too() -> None:
    async with at_zero() as (session, _, fake):
        fake.refusal = 500, "error loading model: out of memory"
        async with session.post("/v1/chat/completions", json={**asking.CHAT, "stream": True}) as response:
            await response.content.readuntil(b"\n\n")
            await wake(fake)
            text = (await response.read()).decode()
    [event] = [event for event in text.strip().split("\n\n") if not event.startswith(":")]
    assert "error" in json.loads(event.removeprefix("data: "))


async def test_a_model_that_is_not_listed_is_not_waited_for() -> None:
    async with at_zero() as (session, _, _):
        status, text = await asking.ask(session, model="none")
        assert (status, json.loads(text)["error"]["code"]) == (404, "model_not_found")


async def test_without_kubernetes_nobody_is_waited_for(ollama: fake_ollama.FakeOllama) -> None:
    async with running.proxied(ollama.url, user_config=None) as (session, built):
        await ollama.stop()
        await built.fleet.next_round()
        body = {**asking.CHAT, "model": "smollm2:135m"}
        status, reply, _ = await asking.post(session, "/v1/chat/completions", body)
        assert (status, reply["error"]["code"]) == (503, "upstream_unavailable")


async def test_the_first_token_is_timed_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    async with at_zero() as (session, built, fake):
        timed: list[float] = []
        monkeypatch.setattr(built._metrics, "first_token", lambda _, seconds: timed.append(seconds))
        async with session.post("/v1/chat/completions", json={**asking.CHAT, "stream": True}) as response:
            await response.content.readuntil(b"\n\n")
            await asyncio.sleep(0.3)
            await wake(fake)
            await response.read()
    assert len(timed) == 1
    assert timed[0] > 0.3


def _client(session: aiohttp.ClientSession) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{session._base_url}/v1", api_key="x", max_retries=0)


async def test_openais_client_reads_a_stream_with_comments() -> None:
    async with at_zero() as (session, built, fake), _client(session) as client:
        stream = await client.chat.completions.create(
            model="smollm2", messages=asking.CHAT["messages"], stream=True
        )
        await asyncio.sleep(0.05)
        await wake(fake)
        words = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
        assert "".join(words) == "Hello there"
        await fake.stop()
        await built.fleet.refresh()
        async with client.responses.stream(model="smollm2", input="Hi") as response:
            await wake(fake)
            final = await response.get_final_response()
        assert final.output_text == "Hello there"


async def test_openais_client_raises_what_fails_after_a_comment() -> None:
    async with at_zero(wakeTimeoutSeconds=0.2) as (session, _, _), _client(session) as client:
        stream = await client.chat.completions.create(
            model="smollm2", messages=asking.CHAT["messages"], stream=True
        )
        with pytest.raises(openai.APIError, match="No model server came"):
            [chunk async for chunk in stream]
        with pytest.raises(openai.APIError, match="No model server came"):
            async with client.responses.stream(model="smollm2", input="Hi") as response:
                await response.get_final_response()
