"""Anthropic's Messages over HTTP: what its clients get back, of answers and of errors."""

import base64
import json
import pathlib
from typing import Any

import aiohttp
import pytest

from modelset_proxy.serving import config
from serve_app.tests import asking, fake_ollama, pictures, running, test_limits
from serve_app.tests.dispatch import test_going_on

_BODY = {"model": "smollm2", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
_PICTURE = base64.b64encode(pictures.png()[:-20]).decode()


def _events(text: str) -> list[Any]:
    assert text.endswith("\n\n")
    return [json.loads(event.partition("\ndata: ")[2]) for event in text[:-2].split("\n\n")]


async def _stream(client: aiohttp.ClientSession, **extra: Any) -> list[Any]:
    async with client.post("/v1/messages", json={**_BODY, "stream": True, **extra}) as response:
        assert (response.status, response.headers["content-type"]) == (200, "text/event-stream")
        assert response.headers["request-id"] == response.headers["x-request-id"]
        return _events(await response.text())


@pytest.mark.parametrize("path", ["/v1/messages", "/messages", "/v1/messages?beta=true"])
async def test_a_message_is_answered(client: aiohttp.ClientSession, path: str) -> None:
    status, body, response = await asking.post(client, path, _BODY)
    assert (status, response.headers["content-type"]) == (200, "application/json")
    assert response.headers["request-id"] == response.headers["x-request-id"]
    assert (body["model"], body["content"]) == ("smollm2", [{"type": "text", "text": "Hello there"}])
    assert (body["stop_reason"], body["usage"]) == ("end_turn", {"input_tokens": 3, "output_tokens": 2})


async def test_web_pages_may_read_the_id_of_a_request(client: aiohttp.ClientSession) -> None:
    origin = {"origin": "https://chat.example"}
    async with client.post("/v1/messages", json=_BODY, headers=origin) as response:
        assert "request-id" in response.headers["access-control-expose-headers"].split(", ")


async def test_a_message_is_streamed(client: aiohttp.ClientSession) -> None:
    events = await _stream(client)
    assert [event["type"] for event in events] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert events[0]["message"]["model"] == "smollm2"
    assert [event["delta"]["text"] for event in events[2:4]] == ["Hello", " there"]
    assert events[-2]["usage"] == {"input_tokens": 3, "output_tokens": 2}


async def test_ollama_is_asked_as_for_a_chat(ollama: fake_ollama.FakeOllama) -> None:
    chat = {**running.USER_CONFIG["models"][1], "contextLength": 2048}
    async with running.proxied(ollama.url, user_config={"models": [chat]}) as (session, _):
        assert (await asking.post(session, "/v1/messages", {**_BODY, "system": "s"}))[0] == 200
    assert ollama.answered == [
        (
            "/api/chat",
            {
                "model": "smollm2:135m",
                "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "Hi"}],
                "stream": False,
                "truncate": False,
                "shift": False,
                "options": {"num_ctx": 2048, "num_predict": 9},
                "keep_alive": -1,
            },
        )
    ]


async def test_a_model_that_cannot_think_answers_whoever_asks_for_thoughts(
    client: aiohttp.ClientSession, ollama: fake_ollama.FakeOllama
) -> None:
    thinking = {"type": "enabled", "budget_tokens": 4000}
    assert (await asking.post(client, "/v1/messages", {**_BODY, "thinking": thinking}))[0] == 200
    assert "think" not in ollama.sent("/api/chat")[0]


async def test_a_model_that_can_think_is_asked_to(ollama: fake_ollama.FakeOllama) -> None:
    chat = {**running.USER_CONFIG["models"][1], "capabilities": ["completion", "thinking"]}
    thinking = {"type": "enabled", "budget_tokens": 4000}
    async with running.proxied(ollama.url, user_config={"models": [chat]}) as (session, _):
        await asking.post(session, "/v1/messages", {**_BODY, "thinking": thinking})
    assert ollama.sent("/api/chat")[0]["think"] is True


@pytest.mark.parametrize("stream", [False, True])
async def test_tokens_are_counted(ollama: fake_ollama.FakeOllama, stream: bool) -> None:
    recorded = test_limits.Recorded()
    async with (
        running.proxied(ollama.url, measures=recorded) as (session, _),
        session.post("/v1/messages", json={**_BODY, "stream": stream}) as response,
    ):
        await response.read()
    assert ("tokens", "smollm2", 3, 2) in recorded.seen
    assert ("request", "/messages", "smollm2", 200) in recorded.seen


async def test_failure_in_mid_stream_is_an_error_event_and_the_end(
    client: aiohttp.ClientSession, ollama: fake_ollama.FakeOllama
) -> None:
    ollama.chat = [*fake_ollama.answer("one")[:-1], {"error": "CUDA error"}]
    *before, last = await _stream(client)
    assert before[-1]["delta"]["text"] == "one"
    assert last == {"type": "error", "error": {"type": "api_error", "message": "CUDA error."}}


async def test_a_stream_goes_on_at_another_server() -> None:
    pair = test_going_on.Pair(2)
    async with pair.proxied() as (session, _):
        events = await _stream(session)
    texts = [event["delta"]["text"] for event in events if event["type"] == "content_block_delta"]
    assert (texts, events[-1]["type"]) == (list(test_going_on.WORDS), "message_stop")


_IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": _PICTURE}}
_REFUSALS: dict[str, tuple[str, str, Any, int, str, str]] = {
    "unknown model": (
        "POST",
        "/v1/messages",
        {**_BODY, "model": "x"},
        404,
        "not_found_error",
        "'x' does not exist",
    ),
    "embedding model": (
        "POST",
        "/v1/messages",
        {**_BODY, "model": "all-minilm"},
        400,
        "invalid_request_error",
        "cannot be used with /v1/messages",
    ),
    "bad JSON": ("POST", "/messages", b"{", 400, "invalid_request_error", "not valid JSON"),
    "missing field": ("POST", "/v1/messages", {}, 400, "invalid_request_error", "'model'"),
    "broken image": (
        "POST",
        "/v1/messages",
        {**_BODY, "model": "sees", "system": "s", "messages": [{"role": "user", "content": [_IMAGE]}]},
        400,
        "invalid_request_error",
        "messages[0].content[0].source.data: The image cannot be used",
    ),
    "too large": ("POST", "/v1/messages", b" " * 5000, 413, "request_too_large", "4999"),
    "other method": ("GET", "/v1/messages", None, 405, "invalid_request_error", "allowed: POST"),
    "no counting": (
        "POST",
        "/v1/messages/count_tokens",
        _BODY,
        404,
        "not_found_error",
        "cannot be counted",
    ),
    "unknown path": ("POST", "/messages/batches", {}, 404, "not_found_error", "/messages/batches"),
}


@pytest.mark.parametrize("case", _REFUSALS)
async def test_refusals_are_anthropics_errors(ollama: fake_ollama.FakeOllama, case: str) -> None:
    method, path, body, status, kind, words = _REFUSALS[case]
    sees = {**running.USER_CONFIG["models"][1], "servedNames": ["sees"], "capabilities": ["vision"]}
    user_config = {"models": [*running.USER_CONFIG["models"], sees], "limits": {"maxBodyBytes": 4999}}
    data = body if isinstance(body, bytes) else json.dumps(body)
    async with (
        running.proxied(ollama.url, user_config=user_config) as (session, _),
        session.request(method, path, data=data) as response,
    ):
        reply = await response.json()
    assert (response.status, reply["type"], reply["error"]["type"]) == (status, "error", kind)
    assert set(reply["error"]) == {"type", "message"}
    assert words in reply["error"]["message"]
    ids = {response.headers["request-id"], response.headers["x-request-id"], reply["request_id"]}
    assert len(ids) == 1
    assert ollama.answered == []


async def test_failure_before_the_first_byte_is_a_status(
    client: aiohttp.ClientSession, ollama: fake_ollama.FakeOllama
) -> None:
    ollama.refusal = 503, "server busy, please try again.  maximum pending requests exceeded"
    for stream in (False, True):
        status, reply, response = await asking.post(client, "/v1/messages", {**_BODY, "stream": stream})
        assert (status, reply["error"]["type"]) == (503, "overloaded_error")
        assert response.headers["retry-after"] == "2"


async def test_a_schema_that_ollama_cannot_follow_is_blamed_on_its_field(
    client: aiohttp.ClientSession, ollama: fake_ollama.FakeOllama
) -> None:
    ollama.refusal = 500, "failed to parse grammar"
    body = {**_BODY, "output_config": {"format": {"type": "json_schema", "schema": {}}}}
    for stream in (False, True):
        status, reply, _ = await asking.post(client, "/v1/messages", {**body, "stream": stream})
        assert status == 400
        assert reply["error"]["message"].startswith("output_config.format: The JSON schema")


async def test_other_keys_are_an_authentication_error(
    ollama: fake_ollama.FakeOllama, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "team-a").write_text("sesame")
    settings = config.Environment(ollama_urls=(ollama.url,), api_keys_dir=str(tmp_path), refresh_seconds=0.05)
    async with running.proxied(settings=settings) as (session, _):
        for path in ("/v1/messages", "/v1/messages/count_tokens"):
            async with session.post(path, json=_BODY) as response:
                error = (await response.json())["error"]
                assert (response.status, error["type"]) == (401, "authentication_error")
                assert "x-api-key" in error["message"]
        async with session.post("/v1/messages", json=_BODY, headers={"x-api-key": "sesame"}) as response:
            assert response.status == 200


@pytest.mark.parametrize("path", ["/v1/messages2", "/v1/models/messages", "/v1/chat/completions"])
async def test_other_routes_keep_openais_errors(client: aiohttp.ClientSession, path: str) -> None:
    async with client.post(path, data=b"{") as response:
        assert set(await response.json()) == {"error"}
        assert "request-id" not in response.headers
