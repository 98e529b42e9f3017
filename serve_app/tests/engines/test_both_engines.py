"""What holds whichever engine is behind the proxy."""

import asyncio
import base64
import json
import re
import struct
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest

from modelset_proxy.engines import port
from modelset_proxy.openai import requests
from modelset_proxy.serving import proxy
from serve_app.tests import asking
from serve_app.tests.engines import sides

_TOOLS = [{"type": "function", "function": {"name": name, "parameters": {"type": "object"}}} for name in "fg"]
_COMPLETION = {"model": "smollm2", "prompt": "a"}


@pytest.fixture(params=[sides.Ollama, sides.Compatible], ids=["ollama", "compatible"])
def make(request: pytest.FixtureRequest) -> Callable[[], sides.Side]:
    made: Callable[[], sides.Side] = request.param
    return made


@pytest.fixture
def server(make: Callable[[], sides.Side]) -> sides.Side:
    return make()


@pytest.fixture
async def built(server: sides.Side) -> AsyncIterator[tuple[aiohttp.ClientSession, proxy.Proxy]]:
    async with sides.proxied(server) as both:
        yield both


@pytest.fixture
def client(built: tuple[aiohttp.ClientSession, proxy.Proxy]) -> aiohttp.ClientSession:
    return built[0]


async def test_a_chat_is_answered(client: aiohttp.ClientSession) -> None:
    status, body, _ = await asking.post(client, "/v1/chat/completions", asking.CHAT)
    assert (status, body["model"]) == (200, "smollm2")
    [choice] = body["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("Hello there", "stop")
    assert body["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


async def test_a_chat_is_streamed(client: aiohttp.ClientSession) -> None:
    *chunks, usage, done = await asking.stream(client, stream_options={"include_usage": True})
    assert [chunk["choices"][0]["delta"] for chunk in chunks] == [
        {"role": "assistant", "content": ""},
        {"content": "Hello"},
        {"content": " there"},
        {},
    ]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, None, "stop"]
    assert (usage["choices"], usage["usage"]["total_tokens"], done) == ([], 5, "[DONE]")


async def test_each_word_is_handed_on_as_it_comes(client: aiohttp.ClientSession, server: sides.Side) -> None:
    go_on = asyncio.Event()
    server.say("one", go_on, "two")
    async with (
        asyncio.timeout(5),
        client.post("/v1/chat/completions", json={**asking.CHAT, "stream": True}) as response,
    ):
        seen = b""
        while b"one" not in seen:
            seen += await response.content.readany()
        go_on.set()
        assert b"two" in await response.content.read()


async def test_completions_of_several_prompts_are_echoed_and_answered(client: aiohttp.ClientSession) -> None:
    body = {**_COMPLETION, "prompt": ["a", "b"], "echo": True}
    status, reply, _ = await asking.post(client, "/v1/completions", body)
    assert status == 200
    assert [choice["text"] for choice in reply["choices"]] == ["aHello there", "bHello there"]
    assert reply["usage"]["prompt_tokens"] == 6
    async with client.post("/v1/completions", json={**body, "stream": True}) as response:
        *chunks, done = asking.events(await response.text())
    choices = [chunk["choices"][0] for chunk in chunks]
    texts = ["".join(choice["text"] for choice in choices if choice["index"] == index) for index in (0, 1)]
    assert (texts, done) == (["aHello there", "bHello there"], "[DONE]")


async def test_an_embedding_is_numbers_or_base64(client: aiohttp.ClientSession) -> None:
    body: dict[str, Any] = {"model": "all-minilm", "input": ["ab", "c"]}
    _, reply, _ = await asking.post(client, "/v1/embeddings", body)
    assert [entry["embedding"] for entry in reply["data"]] == [[0.5, -0.25, 2.0], [0.5, -0.25, 1.0]]
    assert reply["usage"] == {"prompt_tokens": 7, "total_tokens": 7}
    body = {**body, "encoding_format": "base64", "dimensions": 2}
    _, reply, _ = await asking.post(client, "/v1/embeddings", body)
    assert struct.unpack("<2f", base64.b64decode(reply["data"][0]["embedding"])) == (0.5, -0.25)


@pytest.mark.parametrize("stream", [False, True])
async def test_choices_are_asked_for_one_by_one_with_seeds_of_their_own(
    client: aiohttp.ClientSession, server: sides.Side, stream: bool
) -> None:
    body = {**asking.CHAT, "n": 2, "seed": 5, "stream": stream}
    async with client.post("/v1/chat/completions", json=body) as response:
        text = await response.text()
    assert sorted(server.seeds()) == [5, 6]
    if stream:
        *chunks, _ = asking.events(text)
        assert {chunk["choices"][0]["index"] for chunk in chunks} == {0, 1}
    else:
        assert [choice["message"]["content"] for choice in json.loads(text)["choices"]] == ["Hello there"] * 2


async def test_calls_of_tools_are_whole(client: aiohttp.ClientSession, server: sides.Side) -> None:
    server.call("f", "g")
    _, reply, _ = await asking.post(client, "/v1/chat/completions", {**asking.CHAT, "tools": _TOOLS})
    [choice] = reply["choices"]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("tool_calls", None)
    assert [_call(call) for call in choice["message"]["tool_calls"]] == [
        ("call_f", "f", {"a": 1}),
        ("call_g", "g", {"b": 2}),
    ]


async def test_calls_of_tools_are_streamed(client: aiohttp.ClientSession, server: sides.Side) -> None:
    server.call("f", "g")
    *chunks, _ = await asking.stream(client, tools=_TOOLS)
    calls = [call for chunk in chunks for call in chunk["choices"][0]["delta"].get("tool_calls", [])]
    assert [(call["index"], *_call(call)) for call in calls] == [
        (0, "call_f", "f", {"a": 1}),
        (1, "call_g", "g", {"b": 2}),
    ]
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("stream", [False, True])
async def test_only_one_call_comes_where_one_is_wanted(
    client: aiohttp.ClientSession, server: sides.Side, stream: bool
) -> None:
    server.call("f", "g")
    body = {**asking.CHAT, "tools": _TOOLS, "parallel_tool_calls": False, "stream": stream}
    async with client.post("/v1/chat/completions", json=body) as response:
        text = await response.text()
    assert ("call_f" in text, "call_g" in text) == (True, False)


def _call(call: dict[str, Any]) -> tuple[str, str, Any]:
    return call["id"], call["function"]["name"], json.loads(call["function"]["arguments"])


@pytest.mark.parametrize(
    ("told", "text", "status", "code"),
    [
        (400, "this is wrong", 400, None),
        (400, "the input length exceeds the context length", 400, "context_length_exceeded"),
        (404, "model 'smollm2:135m' not found", 503, "model_not_ready"),
        (500, "out of memory", 502, "upstream_error"),
        (503, "busy", 503, "server_overloaded"),
        (307, "elsewhere", 502, "upstream_error"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_what_a_server_refuses_is_an_openai_error(
    client: aiohttp.ClientSession,
    server: sides.Side,
    told: int,
    text: str,
    status: int,
    code: str | None,
    stream: bool,
) -> None:
    server.refuse(told, text)
    found, reply, _ = await asking.post(client, "/v1/chat/completions", {**asking.CHAT, "stream": stream})
    assert (found, reply["error"]["code"]) == (status, code)


async def test_a_mistake_is_told_in_the_servers_words_and_inside_is_not(
    client: aiohttp.ClientSession, server: sides.Side
) -> None:
    for text, message in (
        ("this is wrong", "this is wrong."),
        ("max_tokens is odd.", "max_tokens is odd."),
        ("at 10.0.0.7", "The model server refused"),
    ):
        server.refuse(400, text)
        _, reply, _ = await asking.post(client, "/v1/completions", _COMPLETION)
        assert reply["error"]["message"].startswith(message)


async def test_a_model_that_the_server_lost_is_not_ready(
    client: aiohttp.ClientSession, server: sides.Side
) -> None:
    server.forget("smollm2:135m")
    status, reply, response = await asking.post(client, "/v1/chat/completions", asking.CHAT)
    assert (status, reply["error"]["code"]) == (503, "model_not_ready")
    assert "retry-after" in response.headers


async def test_another_server_is_asked_as_long_as_nothing_came(
    make: Callable[[], sides.Side],
) -> None:
    servers = [make(), make()]
    for server in servers:
        server.say(sides.Mark.CUT)
    async with sides.proxied(*servers) as (client, _):
        asked = asyncio.create_task(asking.stream(client))
        first = await _first_asked(servers)
        servers[1 - first].say("Hi")
        *chunks, done = await asked
    assert (chunks[1]["choices"][0]["delta"], done) == ({"content": "Hi"}, "[DONE]")


async def _first_asked(servers: list[sides.Side]) -> int:
    waits = [asyncio.create_task(server.asked.wait()) for server in servers]
    done, left = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED, timeout=5)
    for wait in left:
        wait.cancel()
    return waits.index(done.pop())


@pytest.mark.parametrize(
    ("mark", "code"),
    [
        (sides.Mark.CUT, "upstream_disconnected"),
        (sides.Mark.END, "incomplete_answer"),
        (sides.Mark.ERROR, "upstream_error"),
    ],
)
async def test_what_fails_in_mid_stream_is_an_error_event_and_the_end(
    client: aiohttp.ClientSession, server: sides.Side, mark: sides.Mark, code: str
) -> None:
    server.say("one", mark)
    *before, last = await asking.stream(client, tools=_TOOLS)
    assert before[1]["choices"][0]["delta"] == {"content": "one"}
    assert (last["error"]["code"], last["error"]["type"]) == (code, "server_error")


async def test_no_server_is_a_503(make: Callable[[], sides.Side]) -> None:
    server = make()
    async with sides.proxied(server) as (client, _):
        await server.stop()
        status, reply, _ = await asking.post(client, "/v1/chat/completions", asking.CHAT)
    assert (status, reply["error"]["code"]) == (503, "upstream_unavailable")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_closes_the_connection(
    client: aiohttp.ClientSession, server: sides.Side, path: str, stream: bool
) -> None:
    server.say("one", asyncio.Event(), "two")
    body = {**asking.CHAT, **_COMPLETION, "stream": stream}
    leaver = asyncio.create_task(asking.post(client, path, body))
    async with asyncio.timeout(5):
        await server.asked.wait()
        leaver.cancel()
        await server.cancelled.wait()


async def test_a_response_is_answered(client: aiohttp.ClientSession) -> None:
    body = {"model": "smollm2", "input": "Hi"}
    status, reply, _ = await asking.post(client, "/v1/responses", body)
    [message] = reply["output"]
    assert (status, reply["status"], reply["model"]) == (200, "completed", "smollm2")
    assert message["content"][0]["text"] == "Hello there"
    assert (reply["usage"]["input_tokens"], reply["usage"]["output_tokens"]) == (3, 2)
    async with client.post("/v1/responses", json={**body, "stream": True}) as response:
        deltas = re.findall(r'"delta":"([^"]*)"', await response.text())
    assert deltas == ["Hello", " there"]


async def test_a_response_calls_functions(client: aiohttp.ClientSession, server: sides.Side) -> None:
    server.call("f", "g")
    tools = [{"type": "function", "name": name} for name in "fg"]
    body = {"model": "smollm2", "input": "Hi", "tools": tools}
    _, reply, _ = await asking.post(client, "/v1/responses", body)
    calls = [(call["type"], call["call_id"], call["name"]) for call in reply["output"]]
    assert calls == [("function_call", "call_f", "f"), ("function_call", "call_g", "g")]


async def test_a_message_of_anthropics_is_a_chat(client: aiohttp.ClientSession, server: sides.Side) -> None:
    body = {"max_tokens": 9, **asking.CHAT}
    status, reply, _ = await asking.post(client, "/v1/messages", body)
    assert (status, reply["content"]) == (200, [{"type": "text", "text": "Hello there"}])
    assert (reply["stop_reason"], reply["usage"]) == ("end_turn", {"input_tokens": 3, "output_tokens": 2})
    server.call("f", "g")
    tools = [{"name": name, "input_schema": {"type": "object"}} for name in "fg"]
    _, reply, _ = await asking.post(client, "/v1/messages", {**body, "tools": tools})
    assert [(block["name"], block["input"]) for block in reply["content"]] == [
        ("f", {"a": 1}),
        ("g", {"b": 2}),
    ]
    assert reply["stop_reason"] == "tool_use"


@pytest.mark.parametrize("stream", [False, True])
async def test_what_an_answer_took_is_told(
    built: tuple[aiohttp.ClientSession, proxy.Proxy], server: sides.Side, stream: bool
) -> None:
    engine = built[1].engine
    vectors, chat = built[1]._service.catalog.models
    body = json.dumps({**asking.CHAT, "stream": stream}).encode()
    attempt = port.Attempt("", server.url)
    job = await engine.chat(requests.chat(body), chat)
    [_ async for _ in job.ask(server.url, 0, attempt)]
    assert (attempt.outcome.prompt_tokens, attempt.outcome.answer_tokens) == (3, 2)
    embedding = await engine.embed(requests.embedding(b'{"model": "all-minilm", "input": "x"}'), vectors)
    attempt = port.Attempt("", server.url)
    [_ async for _ in embedding.ask(server.url, 0, attempt)]
    assert attempt.outcome.prompt_tokens == 7


async def test_a_server_shows_that_it_is_alive(
    built: tuple[aiohttp.ClientSession, proxy.Proxy], server: sides.Side
) -> None:
    _, running = built
    models = running._service.catalog.models
    assert [await running.engine.replies(server.url, model) for model in models] == [True, True]
    assert [await running.engine.load(server.url, model) for model in models] == [True, True]
    server.refuse(500, "dead")
    assert [await running.engine.replies(server.url, model) for model in models] == [False, False]


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/chat/completions", asking.CHAT, "messages"),
        ("/v1/completions", _COMPLETION, "prompt"),
        ("/v1/embeddings", {"model": "all-minilm", "input": "x"}, "input"),
    ],
)
async def test_a_prompt_that_is_too_long_is_blamed_on_its_field(
    client: aiohttp.ClientSession, server: sides.Side, path: str, body: dict[str, Any], param: str
) -> None:
    server.refuse(400, "the input length exceeds the context length")
    _, reply, _ = await asking.post(client, path, body)
    assert (reply["error"]["code"], reply["error"]["param"]) == ("context_length_exceeded", param)
