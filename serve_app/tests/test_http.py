"""The proxy over HTTP, in front of Ollamas that behave and misbehave."""

import asyncio
import base64
import json
import struct
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import openai
import pytest

from serve_app.tests import asking, fake_ollama, running

_BOTH_PREFIXES = pytest.mark.parametrize("prefix", ["", "/v1"])


@pytest.fixture
async def sdk(client: aiohttp.ClientSession) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{str(client._base_url).rstrip('/')}/v1", api_key="x", max_retries=0
    ) as made:
        yield made


@_BOTH_PREFIXES
async def test_chat_is_answered(client: aiohttp.ClientSession, prefix: str) -> None:
    status, body, response = await asking.post(client, f"{prefix}/chat/completions", asking.CHAT)
    assert (status, response.headers["content-type"]) == (200, "application/json")
    assert body["object"] == "chat.completion"
    assert body["model"] == "smollm2"
    assert body["choices"][0]["message"]["content"] == "Hello there"
    assert body["choices"][0]["finish_reason"] == "stop"
    assert body["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


async def test_chat_streams_role_once_then_words_then_reason_then_done(client: aiohttp.ClientSession) -> None:
    *chunks, done = await asking.stream(client)
    assert done == "[DONE]"
    assert [chunk["choices"][0]["delta"] for chunk in chunks] == [
        {"role": "assistant", "content": ""},
        {"content": "Hello"},
        {"content": " there"},
        {},
    ]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, None, "stop"]
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert all("usage" not in chunk for chunk in chunks)


async def test_usage_comes_last_in_a_stream_when_asked_for(client: aiohttp.ClientSession) -> None:
    *chunks, usage, done = await asking.stream(client, stream_options={"include_usage": True})
    assert (usage["choices"], usage["usage"]["total_tokens"], done) == ([], 5, "[DONE]")
    assert all(chunk["usage"] is None for chunk in chunks)


async def test_native_request_carries_model_and_keep_alive(
    client: aiohttp.ClientSession, ollama: fake_ollama.FakeOllama
) -> None:
    await asking.post(client, "/v1/chat/completions", {**asking.CHAT, "model": "team/smollm2:135m"})
    sent = ollama.sent("/api/chat")[0]
    assert (sent["model"], sent["keep_alive"], sent["truncate"]) == ("smollm2:135m", -1, False)


async def test_several_choices_are_told_apart(
    client: aiohttp.ClientSession, ollama: fake_ollama.FakeOllama
) -> None:
    _, body, _ = await asking.post(client, "/v1/chat/completions", {**asking.CHAT, "n": 3, "seed": 5})
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
    assert body["usage"] == {"prompt_tokens": 3, "completion_tokens": 6, "total_tokens": 9}
    assert sorted(sent["options"]["seed"] for sent in ollama.sent("/api/chat")) == [5, 6, 7]
    *chunks, _ = await asking.stream(client, n=2)
    for index in (0, 1):
        words = [
            chunk["choices"][0]["delta"].get("content", "")
            for chunk in chunks
            if chunk["choices"][0]["index"] == index
        ]
        assert "".join(words) == "Hello there"


async def test_many_choices_are_no_failed_attempts(client: aiohttp.ClientSession) -> None:
    status, body, _ = await asking.post(
        client, "/v1/completions", {"model": "smollm2", "prompt": ["a", "b"], "n": 5}
    )
    assert (status, len(body["choices"])) == (200, 10)


async def test_real_client_reads_all_of_it(sdk: openai.AsyncOpenAI) -> None:
    whole = await sdk.chat.completions.create(model="smollm2", messages=[{"role": "user", "content": "Hi"}])
    assert whole.choices[0].message.content == "Hello there"
    stream = await sdk.chat.completions.create(
        model="smollm2", messages=[{"role": "user", "content": "Hi"}], stream=True
    )
    assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == "Hello there"
    vectors = await sdk.embeddings.create(model="all-minilm", input=["ab", "c"])
    assert [entry.embedding for entry in vectors.data] == [[0.5, -0.25, 2.0], [0.5, -0.25, 1.0]]
    assert [model.id async for model in sdk.models.list()] == ["all-minilm", "smollm2", "team/smollm2:135m"]
    assert (await sdk.models.retrieve("team/smollm2:135m")).id == "team/smollm2:135m"
    text = await sdk.completions.create(model="smollm2", prompt=["a", "b"], echo=True, max_tokens=4)
    assert [choice.text for choice in text.choices] == ["aHello there", "bHello there"]
    parts = await sdk.completions.create(model="smollm2", prompt="a", stream=True)
    assert "".join([part.choices[0].text async for part in parts]) == "Hello there"


@_BOTH_PREFIXES
@pytest.mark.parametrize(
    ("given", "count"),
    [({"input": "hello"}, 1), ({"input": ["a", "b"]}, 2), ({"input": "a", "encoding_format": "float"}, 1)],
)
async def test_embeddings_as_numbers(
    client: aiohttp.ClientSession, prefix: str, given: dict[str, Any], count: int
) -> None:
    status, body, _ = await asking.post(client, f"{prefix}/embeddings", {"model": "all-minilm", **given})
    assert status == 200
    assert [entry["index"] for entry in body["data"]] == list(range(count))
    assert body["data"][0]["embedding"][:2] == [0.5, -0.25]
    assert body["usage"] == {"prompt_tokens": 7, "total_tokens": 7}


async def test_embeddings_as_base64_of_singles(client: aiohttp.ClientSession) -> None:
    _, body, _ = await asking.post(
        client, "/v1/embeddings", {"model": "all-minilm", "input": "abc", "encoding_format": "base64"}
    )
    assert struct.unpack("<3f", base64.b64decode(body["data"][0]["embedding"])) == (0.5, -0.25, 3.0)


async def test_dimensions_are_kept_or_refused(client: aiohttp.ClientSession) -> None:
    _, body, _ = await asking.post(
        client, "/v1/embeddings", {"model": "all-minilm", "input": "a", "dimensions": 2}
    )
    assert len(body["data"][0]["embedding"]) == 2
    status, body, _ = await asking.post(
        client, "/v1/embeddings", {"model": "all-minilm", "input": "a", "dimensions": 9}
    )
    assert (status, body["error"]["param"]) == (400, "dimensions")


@_BOTH_PREFIXES
@pytest.mark.parametrize("name", ["team/smollm2:135m", "team%2Fsmollm2%3A135m"])
async def test_model_ids_may_hold_slashes_and_colons(
    client: aiohttp.ClientSession, prefix: str, name: str
) -> None:
    async with client.get(f"{prefix}/models/{name}") as response:
        assert await response.json() == {
            "id": "team/smollm2:135m",
            "object": "model",
            "created": 2,
            "owned_by": "ollama",
        }


_REFUSALS: dict[str, tuple[str, str, Any, int, str | None]] = {
    "unknown model": ("POST", "/v1/chat/completions", {**asking.CHAT, "model": "x"}, 404, "model_not_found"),
    "unknown embedding model": (
        "POST",
        "/v1/embeddings",
        {"model": "x", "input": "a"},
        404,
        "model_not_found",
    ),
    "unknown model retrieved": ("GET", "/v1/models/a/b:c", None, 404, "model_not_found"),
    "chat with an embedding model": (
        "POST",
        "/v1/chat/completions",
        {**asking.CHAT, "model": "all-minilm"},
        400,
        "model_not_supported",
    ),
    "embedding by a chat model": (
        "POST",
        "/v1/embeddings",
        {"model": "smollm2", "input": "a"},
        400,
        "model_not_supported",
    ),
    "bad JSON": ("POST", "/v1/chat/completions", b"{", 400, "invalid_json"),
    "bad UTF-8 passed on": (
        "POST",
        "/v1/responses",
        b'{"model": "smollm2", "x": "\xff"}',
        400,
        "invalid_json",
    ),
    "missing field": (
        "POST",
        "/v1/chat/completions",
        {"model": "smollm2"},
        400,
        "missing_required_parameter",
    ),
    "unknown path": ("GET", "/v1/nothing", None, 404, "unknown_url"),
    "native path": ("POST", "/api/chat", {}, 404, "unknown_url"),
    "wrong method": ("DELETE", "/v1/models/smollm2", None, 405, "method_not_allowed"),
}


@pytest.mark.parametrize("case", _REFUSALS)
async def test_refusals_are_openai_errors(
    client: aiohttp.ClientSession, ollama: fake_ollama.FakeOllama, case: str
) -> None:
    method, path, body, status, code = _REFUSALS[case]
    data = body if isinstance(body, bytes) else json.dumps(body)
    async with client.request(method, path, data=data) as response:
        error = (await response.json())["error"]
        assert (response.status, error["code"]) == (status, code)
        assert set(error) == {"message", "type", "param", "code"}
        assert response.headers["x-request-id"].startswith("req_")
    assert ollama.answered == []


async def test_request_id_is_the_clients_own_or_new(client: aiohttp.ClientSession) -> None:
    async with client.get("/v1/models", headers={"x-request-id": "mine-1"}) as response:
        assert response.headers.getall("x-request-id") == ["mine-1"]
    async with client.get("/v1/models", headers={"x-request-id": "two words"}) as response:
        assert response.headers["x-request-id"].startswith("req_")


async def test_browsers_are_told_who_may_call(client: aiohttp.ClientSession) -> None:
    asked = {
        "origin": "https://chat.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type,x-stainless-os",
    }
    async with client.options("/v1/chat/completions", headers=asked) as response:
        assert response.status == 204
        assert response.headers["access-control-allow-origin"] == "https://chat.example"
        assert response.headers["access-control-allow-headers"] == asked["access-control-request-headers"]
    async with client.get("/v1/models", headers={"origin": "https://x.apps.example"}) as response:
        assert response.headers["access-control-allow-origin"] == "https://x.apps.example"
    async with client.get("/v1/models/none", headers={"origin": "https://evil.example"}) as response:
        assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize("path", ["/", "/health", "/healthz", "/v1/health"])
async def test_health_tells_that_it_serves(client: aiohttp.ClientSession, path: str) -> None:
    async with client.get(path) as response:
        assert await response.json() == {
            "status": "ok",
            "models": 2,
            "servers": 1,
            "reachable": 1,
            "hanging": 0,
        }


async def test_no_ollama_is_a_503_and_the_models_stay_listed(
    client: aiohttp.ClientSession, ollama: fake_ollama.FakeOllama
) -> None:
    await ollama.stop()
    for path, body in (
        ("chat/completions", asking.CHAT),
        ("embeddings", {"model": "all-minilm", "input": "a"}),
    ):
        status, reply, response = await asking.post(client, f"/v1/{path}", body)
        assert (status, reply["error"]["code"]) == (503, "upstream_unavailable")
        assert int(response.headers["retry-after"]) > 0
        assert "127.0.0.1" not in reply["error"]["message"]
    async with client.get("/v1/models") as response:
        assert len((await response.json())["data"]) == 3


async def test_ollama_that_comes_back_serves_at_once(
    client: aiohttp.ClientSession, ollama: fake_ollama.FakeOllama
) -> None:
    port = ollama.port
    await ollama.stop()
    assert (await asking.post(client, "/v1/chat/completions", asking.CHAT))[0] == 503
    await ollama.start(port=port)
    async with asyncio.timeout(5):
        while (await asking.post(client, "/v1/chat/completions", asking.CHAT))[0] != 200:
            pass


async def test_a_model_that_no_server_holds_is_not_ready(
    client: aiohttp.ClientSession, ollama: fake_ollama.FakeOllama
) -> None:
    del ollama.models["smollm2:135m"]
    status, reply, response = await asking.post(client, "/v1/chat/completions", asking.CHAT)
    assert (status, reply["error"]["code"]) == (503, "model_not_ready")
    assert "retry-after" in response.headers


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"response_format": {"type": "json_object"}}, "response_format"),
        (
            {"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "required"},
            "tools",
        ),
    ],
)
async def test_a_schema_that_ollama_cannot_follow_is_blamed_on_its_field(
    client: aiohttp.ClientSession, ollama: fake_ollama.FakeOllama, more: dict[str, Any], param: str
) -> None:
    ollama.refusal = 500, "failed to parse grammar"
    body = {"model": "smollm2", "messages": [{"role": "user", "content": "x"}], **more}
    status, reply, _ = await asking.post(client, "/v1/chat/completions", body)
    assert (status, reply["error"]["param"]) == (400, param)


async def test_busy_ollama_is_a_503(client: aiohttp.ClientSession, ollama: fake_ollama.FakeOllama) -> None:
    ollama.refusal = (503, "server busy, please try again.  maximum pending requests exceeded")
    status, reply, response = await asking.post(client, "/v1/chat/completions", asking.CHAT)
    assert (status, reply["error"]["code"], response.headers["retry-after"]) == (
        503,
        "server_overloaded",
        "2",
    )


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ([*fake_ollama.answer("one")[:-1], {"error": "CUDA error"}], "upstream_error"),
        ([*fake_ollama.answer("one")[:-1], fake_ollama.CUT], "upstream_disconnected"),
        (fake_ollama.answer("one")[:-1], "incomplete_answer"),
    ],
    ids=["error line", "connection cut", "end without the last line"],
)
async def test_failure_in_mid_stream_is_an_error_event_and_the_end(
    client: aiohttp.ClientSession, ollama: fake_ollama.FakeOllama, script: list[fake_ollama.Step], code: str
) -> None:
    ollama.chat = script
    *before, last = await asking.stream(client)
    assert before[1]["choices"][0]["delta"] == {"content": "one"}
    assert last["error"]["code"] == code
    assert last["error"]["type"] == "server_error"


async def test_failure_in_mid_stream_raises_in_the_real_client(
    sdk: openai.AsyncOpenAI, ollama: fake_ollama.FakeOllama
) -> None:
    ollama.chat = [*fake_ollama.answer("one")[:-1], {"error": "CUDA error"}]
    stream = await sdk.chat.completions.create(
        model="smollm2", messages=[{"role": "user", "content": "Hi"}], stream=True
    )
    with pytest.raises(openai.APIError, match="CUDA"):
        [chunk async for chunk in stream]


async def test_failure_before_the_first_byte_of_a_stream_is_a_status(
    client: aiohttp.ClientSession, ollama: fake_ollama.FakeOllama
) -> None:
    ollama.chat = [{"error": "model requires more system memory (9 GiB) than is available (2 GiB)"}]
    status, reply, _ = await asking.post(client, "/v1/chat/completions", asking.CHAT)
    assert (status, reply["error"]["code"]) == (503, "model_too_large")
    assert "more system memory" in reply["error"]["message"]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_frees_ollama(
    client: aiohttp.ClientSession, ollama: fake_ollama.FakeOllama, stream: bool
) -> None:
    never = asyncio.Event()
    ollama.chat = [*fake_ollama.answer("one")[:-1], never, *fake_ollama.answer("two")]
    leaver = asyncio.create_task(
        asking.post(client, "/v1/chat/completions", {**asking.CHAT, "stream": stream})
    )
    async with asyncio.timeout(5):
        await ollama.asked.wait()
        leaver.cancel()
        await ollama.cancelled.wait()


async def test_a_stream_hands_on_each_word_as_it_comes(
    client: aiohttp.ClientSession, ollama: fake_ollama.FakeOllama
) -> None:
    go_on = asyncio.Event()
    first, second, last = fake_ollama.answer("one", "two")
    ollama.chat = [first, go_on, second, last]
    async with (
        asyncio.timeout(5),
        client.post("/v1/chat/completions", json={**asking.CHAT, "stream": True}) as response,
    ):
        seen = b""
        while b"one" not in seen:
            seen += await response.content.readany()
        go_on.set()
        assert b"two" in await response.content.read()


async def test_a_new_configuration_leaves_running_streams_alone(ollama: fake_ollama.FakeOllama) -> None:
    go_on = asyncio.Event()
    first, second, last = fake_ollama.answer("one", "two")
    ollama.chat = [first, go_on, second, last]
    async with running.proxied(ollama.url) as (session, built):
        async with session.post("/v1/chat/completions", json={**asking.CHAT, "stream": True}) as response:
            seen = await response.content.readany()
            await built.configure({"models": [running.USER_CONFIG["models"][0]]})
            assert (await asking.post(session, "/v1/chat/completions", asking.CHAT))[0] == 404
            go_on.set()
            seen += await response.content.read()
        assert b"two" in seen
        assert seen.endswith(b"data: [DONE]\n\n")
