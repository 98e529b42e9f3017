"""Tools: the model asks for a call, the client answers with its result, the model puts that into words."""

from __future__ import annotations

import json
from typing import Any, cast

import openai
import pydantic
import pytest
from openai.types.chat import (
    ChatCompletion,
    ChatCompletionMessageFunctionToolCall,
    ChatCompletionMessageParam,
)

from tests.e2e.features.asking import PLAIN, STEADY, THINKING, TOOLS, user


class Weather(pydantic.BaseModel):
    """The weather in a city"""

    city: str


class Time(pydantic.BaseModel):
    """The time in a city"""

    city: str


GET_WEATHER = openai.pydantic_function_tool(Weather, name="get_weather")
GET_TIME = openai.pydantic_function_tool(Time, name="get_time")
QUESTION = user("What is the weather in Rome?")
NAMED = {"type": "function", "function": {"name": "get_weather"}}


def test_the_result_of_a_tool_that_the_model_chose_is_put_into_words(client: openai.OpenAI) -> None:
    """Real Ollama, smollm2:135m-tools."""
    request: dict[str, Any] = {"model": TOOLS, "tools": [GET_WEATHER, GET_TIME], **STEADY}
    asked = client.chat.completions.create(messages=QUESTION, **request)
    _check_asks_for_rome(asked)
    told = client.chat.completions.create(messages=_with_result(asked), **request)
    _check_tells_result(told)


def test_a_round_trip_is_streamed(client: openai.OpenAI) -> None:
    """Real Ollama, smollm2:135m-tools; the client's helper puts the deltas together."""
    request: dict[str, Any] = {"model": TOOLS, "tools": [GET_WEATHER], **STEADY}
    asked, _ = _stream(client, messages=QUESTION, **request)
    _check_asks_for_rome(asked)
    told, words = _stream(client, messages=_with_result(asked), **request)
    _check_tells_result(told)
    assert len(words) > 1
    assert "".join(words) == told.choices[0].message.content


@pytest.mark.parametrize("choice", ["required", NAMED], ids=["any", "named"])
def test_a_tool_is_called_when_one_must_be(plain: openai.OpenAI, choice: object) -> None:
    """Real Ollama, smollm2:135m, which calls no tool of its own accord; streamed and not."""
    tools = [GET_WEATHER, GET_TIME]
    request: dict[str, Any] = {"model": PLAIN, "tools": tools, "tool_choice": choice, **STEADY}
    whole = plain.chat.completions.create(messages=QUESTION, **request)
    streamed, words = _stream(plain, messages=QUESTION, **request)
    assert words == []
    for completion in (whole, streamed):
        call = _only_call(completion)
        assert call.function.name in ({"get_weather"} if choice is NAMED else {"get_weather", "get_time"})
        assert set(json.loads(call.function.arguments)) == {"city"}
        assert not completion.choices[0].message.content
        assert completion.choices[0].finish_reason == ("stop" if choice is NAMED else "tool_calls")


def test_a_model_that_thinks_calls_when_it_must(client: openai.OpenAI) -> None:
    """Real Ollama, smollm2:135m-thinking, whose thoughts no grammar would hold; streamed and not."""
    request: dict[str, Any] = {"model": THINKING, "tools": [GET_WEATHER], "tool_choice": "required", **STEADY}
    whole = client.chat.completions.create(messages=QUESTION, **request)
    streamed, _ = _stream(client, messages=QUESTION, **request)
    for completion in (whole, streamed):
        assert set(json.loads(_only_call(completion).function.arguments)) == {"city"}
        assert completion.choices[0].finish_reason == "tool_calls"


def test_no_tool_is_called_when_none_may_be(client: openai.OpenAI) -> None:
    """Real Ollama, smollm2:135m-tools, which would call this one."""
    request: dict[str, Any] = {**STEADY, "model": TOOLS, "tools": [GET_WEATHER], "max_completion_tokens": 16}
    chat = client.chat.completions.create(messages=QUESTION, tool_choice="none", **request)
    assert chat.choices[0].message.tool_calls is None
    assert chat.choices[0].message.content


def _check_asks_for_rome(completion: ChatCompletion) -> None:
    assert completion.choices[0].finish_reason == "tool_calls"
    call = _only_call(completion)
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments) == {"city": "Rome"}


def _only_call(completion: ChatCompletion) -> ChatCompletionMessageFunctionToolCall:
    [call] = completion.choices[0].message.tool_calls or []
    assert isinstance(call, ChatCompletionMessageFunctionToolCall)
    return call


def _check_tells_result(completion: ChatCompletion) -> None:
    assert completion.choices[0].finish_reason == "stop"
    assert completion.choices[0].message.tool_calls is None
    assert "21" in (completion.choices[0].message.content or "")


def _with_result(completion: ChatCompletion) -> list[ChatCompletionMessageParam]:
    """The conversation with the model's call, just as the client got it, and what the tool says."""
    asked = cast("ChatCompletionMessageParam", completion.choices[0].message.to_dict())
    call = _only_call(completion)
    return [*QUESTION, asked, {"role": "tool", "tool_call_id": call.id, "content": "21 degrees and sunny"}]


def _stream(client: openai.OpenAI, **request: Any) -> tuple[ChatCompletion, list[str]]:
    """What the deltas add up to, and the pieces of its text; checks the deltas of its one call, if any."""
    with client.chat.completions.stream(**request) as stream:
        events = list(stream)
        completion = stream.get_final_completion()
    chunks = [event.chunk for event in events if event.type == "chunk"]
    deltas = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    for call in completion.choices[0].message.tool_calls or []:
        assert {delta.index for delta in deltas} == {0}
        assert [delta.id for delta in deltas if delta.id] == [call.id]
    return completion, [event.delta for event in events if event.type == "content.delta" and event.delta]
