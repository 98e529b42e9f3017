"""Responses over HTTP, as OpenAI's own client asks for them; it takes nothing that its types do not allow."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import openai
import pytest
from openai.types import responses

from modelset_proxy.telemetry import metrics
from serve_app.tests import asking, fake_ollama, running

_ABLE = {
    **running.USER_CONFIG["models"][1],
    "capabilities": ["completion", "tools", "thinking"],
    "contextLength": 512,
}
_CONFIG = {"models": [running.USER_CONFIG["models"][0], _ABLE]}
_TOOL: Any = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": False,
}


class Counted(metrics.Nothing):
    """Keeps the tokens that were counted."""

    def __init__(self) -> None:
        self.counted: list[tuple[int, int]] = []

    def tokens(self, model: str, client: str, prompt: int, completion: int) -> None:
        self.counted.append((prompt, completion))


@pytest.fixture
def counted() -> Counted:
    return Counted()


@pytest.fixture
async def session(ollama: fake_ollama.FakeOllama, counted: Counted) -> AsyncIterator[aiohttp.ClientSession]:
    async with running.proxied(ollama.url, user_config=_CONFIG, measures=counted) as (made, _):
        yield made


@pytest.fixture
async def sdk(session: aiohttp.ClientSession) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{str(session._base_url).rstrip('/')}/v1",
        api_key="x",
        max_retries=0,
        _strict_response_validation=True,
    ) as made:
        yield made


def _calls(city: str) -> list[fake_ollama.Step]:
    call = {"id": "call_1", "function": {"name": "weather", "arguments": {"city": city}}}
    return [
        {"message": {"role": "assistant", "content": "", "thinking": "Hm."}, "done": False},
        {"message": {"role": "assistant", "content": "", "tool_calls": [call]}, "done": False},
        fake_ollama.answer("x")[-1],
    ]


async def test_a_response_is_a_chat_in_ollamas_own_words(
    sdk: openai.AsyncOpenAI, ollama: fake_ollama.FakeOllama, counted: Counted
) -> None:
    response = await sdk.responses.create(model="smollm2", input="Hi", instructions="Be kind.")
    assert (response.output_text, response.model, response.status) == ("Hello there", "smollm2", "completed")
    assert response.usage is not None
    assert response.usage.total_tokens == 5
    [sent] = ollama.sent("/api/chat")
    assert (sent["model"], sent["keep_alive"], sent["options"]) == ("smollm2:135m", -1, {"num_ctx": 512})
    assert (sent["truncate"], sent["shift"], sent["stream"]) == (False, False, False)
    assert [message["content"] for message in sent["messages"]] == ["Be kind.", "Hi"]
    assert counted.counted == [(3, 2)]


async def test_an_answer_that_was_cut_says_so(
    sdk: openai.AsyncOpenAI, ollama: fake_ollama.FakeOllama
) -> None:
    ollama.chat = fake_ollama.answer("Hello", reason="length")
    response = await sdk.responses.create(model="smollm2", input="Hi", max_output_tokens=1)
    assert response.incomplete_details is not None
    assert (response.status, response.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert ollama.sent("/api/chat")[0]["options"]["num_predict"] == 1


async def test_a_stream_adds_up_to_the_response(sdk: openai.AsyncOpenAI, counted: Counted) -> None:
    async with sdk.responses.stream(model="smollm2", input="Hi") as stream:
        words = [event.delta async for event in stream if event.type == "response.output_text.delta"]
        final = await stream.get_final_response()
    assert (words, final.output_text) == (["Hello", " there"], "Hello there")
    assert final.usage is not None
    assert (final.usage.input_tokens, final.usage.output_tokens) == (3, 2)
    assert counted.counted == [(3, 2)]


async def test_words_are_handed_on_as_they_come(
    session: aiohttp.ClientSession, ollama: fake_ollama.FakeOllama
) -> None:
    more = asyncio.Event()
    first, *rest = fake_ollama.answer("Hello", " there")
    ollama.chat = [first, more, *rest]
    body = {"model": "smollm2", "input": "Hi", "stream": True}
    async with session.post("/v1/responses", json=body) as response:
        assert response.headers["content-type"] == "text/event-stream"
        async with asyncio.timeout(5):
            said = b""
            while b'"delta":"Hello"' not in said:
                said += await response.content.readany()
        more.set()
        text = (said + await response.read()).decode()
    assert text.rpartition("event: ")[2].startswith("response.completed\n")


@pytest.mark.parametrize("stream", [False, True])
async def test_tools_go_round(sdk: openai.AsyncOpenAI, ollama: fake_ollama.FakeOllama, stream: bool) -> None:
    conversation: list[Any] = [{"role": "user", "content": "How is the weather in Paris?"}]
    ollama.chat = _calls("Paris")
    first = await _ask(sdk, conversation, stream=stream)
    conversation += [item.to_dict() for item in first.output]
    [call] = [item for item in first.output if item.type == "function_call"]
    assert (call.name, call.arguments) == ("weather", '{"city": "Paris"}')
    conversation.append({"type": "function_call_output", "call_id": call.call_id, "output": "Sunny"})
    ollama.chat = fake_ollama.answer("It is sunny.")
    assert (await _ask(sdk, conversation, stream=stream)).output_text == "It is sunny."
    _, assistant, tool = ollama.sent("/api/chat")[1]["messages"]
    assert (assistant["thinking"], assistant["tool_calls"][0]["function"]["name"]) == ("Hm.", "weather")
    assert (tool["content"], tool["tool_name"]) == ("Sunny", "weather")


async def _ask(sdk: openai.AsyncOpenAI, conversation: list[Any], *, stream: bool) -> responses.Response:
    if not stream:
        return await sdk.responses.create(model="smollm2", input=conversation, tools=[_TOOL])
    events = await sdk.responses.create(model="smollm2", input=conversation, tools=[_TOOL], stream=True)
    *_, last = [event async for event in events]
    assert isinstance(last, responses.ResponseCompletedEvent)
    return last.response


async def test_a_stream_that_fails_is_an_error_to_the_client(
    sdk: openai.AsyncOpenAI, ollama: fake_ollama.FakeOllama
) -> None:
    ollama.chat = [*fake_ollama.answer("Hello")[:1], {"error": "CUDA error"}]
    events = aiter(await sdk.responses.create(model="smollm2", input="Hi", stream=True))
    while (await anext(events)).type != "response.failed":
        pass
    with pytest.raises(openai.APIError, match="CUDA error"):
        await anext(events)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_prompt_that_is_too_long_is_refused_and_not_cut(
    sdk: openai.AsyncOpenAI, ollama: fake_ollama.FakeOllama, stream: bool
) -> None:
    ollama.refusal = 400, "the input length exceeds the context length"
    with pytest.raises(openai.BadRequestError) as refusal:
        await sdk.responses.create(model="smollm2", input="Hi", truncation="auto", stream=stream)
    assert (refusal.value.code, refusal.value.param) == ("context_length_exceeded", "input")


async def test_errors_of_ollama_name_the_fields_of_responses(
    sdk: openai.AsyncOpenAI, ollama: fake_ollama.FakeOllama
) -> None:
    form: Any = {"format": {"type": "json_schema", "name": "x", "schema": {"type": "x"}}}
    ollama.refusal = 400, "invalid JSON schema in format"
    with pytest.raises(openai.BadRequestError) as refusal:
        await sdk.responses.create(model="smollm2", input="Hi", text=form)
    assert refusal.value.param == "text.format"


async def test_what_cannot_be_answered_is_refused(session: aiohttp.ClientSession) -> None:
    for body, status, code in [
        ({"model": "none", "input": "Hi"}, 404, "model_not_found"),
        ({"model": "all-minilm", "input": "Hi"}, 400, "model_not_supported"),
        ({"model": "smollm2"}, 400, "missing_required_parameter"),
        (b"{", 400, "invalid_json"),
    ]:
        found, reply, _ = await asking.post(session, "/responses", body)
        assert (found, reply["error"]["code"]) == (status, code)


async def test_a_conversation_goes_on_where_its_beginning_was_read() -> None:
    servers = fake_ollama.FakeOllama(), fake_ollama.FakeOllama()
    both_asked = asyncio.Event()
    for fake in servers:
        fake.loaded = {"smollm2:135m"}
        fake.chat = [both_asked, *fake_ollama.answer("Yes")]
    async with (
        fake_ollama.running(*servers),
        running.proxied(
            *(fake.url for fake in servers), user_config=asking.limited(maxInFlightPerServer=1)
        ) as (client, _),
        asyncio.timeout(5),
    ):

        async def ask(letter: str) -> None:
            body = {"model": "smollm2", "instructions": letter * 4000, "input": "Hi"}
            await asking.post(client, "/v1/responses", body)

        first = [asyncio.create_task(ask(letter)) for letter in "ab"]
        for fake in servers:
            await fake.asked.wait()
        both_asked.set()
        await asyncio.gather(*first)
        for letter in "abba":
            await ask(letter)
    seen = [{sent["messages"][0]["content"][0] for sent in fake.sent("/api/chat")} for fake in servers]
    assert sorted(map(sorted, seen)) == [["a"], ["b"]]
