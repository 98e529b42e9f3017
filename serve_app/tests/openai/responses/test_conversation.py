"""Which chat a request for a response is."""

import json
from typing import Any

import msgspec
import pytest

from modelset_proxy.openai import requests, responses, steps

_TOOL = {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True}
_SEARCH = {"type": "web_search"}
_FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, "strict": True}}
_HI = {"role": "user", "content": "hi"}
_CALL = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": "{}"}
_CALLED = {"type": "function", "id": "c1", "function": {"name": "f", "arguments": "{}"}}
_OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "sunny"}
_ANSWERED = {"role": "tool", "content": "sunny", "tool_call_id": "c1"}
_THOUGHTS = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [],
    "content": [{"type": "reasoning_text", "text": "hm"}],
}
_SAID = {
    "type": "message",
    "id": "msg_1",
    "status": "completed",
    "role": "assistant",
    "content": [{"type": "output_text", "text": "ho", "annotations": [], "logprobs": []}],
}
_TEXT = [{"type": "text", "text": "ho"}]


def read(**body: Any) -> responses.Request:
    return steps.at_once(responses.read(json.dumps({"model": "m", "input": "hi", **body}).encode()))


def _messages(*items: dict[str, Any]) -> Any:
    return msgspec.to_builtins(read(input=items).chat)["messages"]


_CONVERSATIONS: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]]]] = {
    "roles": (
        [
            {"type": "message", "role": role, "content": "x"}
            for role in ("system", "developer", "user", "assistant")
        ],
        [{"role": role, "content": "x"} for role in ("system", "developer", "user", "assistant")],
    ),
    "no type": ([_HI, {**_HI, "type": None}], [_HI, _HI]),
    "a turn of an assistant is one message": (
        [_HI, _THOUGHTS, _SAID, _CALL, _OUTPUT],
        [
            _HI,
            {"role": "assistant", "content": _TEXT, "reasoning_content": "hm", "tool_calls": [_CALLED]},
            _ANSWERED,
        ],
    ),
    "parallel calls": (
        [_CALL, {**_CALL, "call_id": "c2"}, _OUTPUT],
        [{"role": "assistant", "tool_calls": [_CALLED, {**_CALLED, "id": "c2"}]}, _ANSWERED],
    ),
    "thoughts begin a turn": (
        [_SAID, _THOUGHTS, _CALL],
        [
            {"role": "assistant", "content": _TEXT},
            {"role": "assistant", "reasoning_content": "hm", "tool_calls": [_CALLED]},
        ],
    ),
    "one message after the other": ([_SAID, _SAID], [{"role": "assistant", "content": _TEXT}] * 2),
    "words after a call": (
        [_CALL, _SAID],
        [{"role": "assistant", "tool_calls": [_CALLED]}, {"role": "assistant", "content": _TEXT}],
    ),
    "what thoughts came to, where that is all": (
        [{"type": "reasoning", "summary": [{"type": "summary_text", "text": text} for text in "ab"]}],
        [{"role": "assistant", "reasoning_content": "a\n\nb"}],
    ),
    "thoughts that only OpenAI can read": (
        [{"type": "reasoning", "summary": [], "encrypted_content": "x"}, _HI],
        [_HI],
    ),
    "an output in parts": (
        [_CALL, {**_OUTPUT, "output": [{"type": "input_text", "text": "ho"}]}],
        [{"role": "assistant", "tool_calls": [_CALLED]}, {**_ANSWERED, "content": _TEXT}],
    ),
    "a refusal": (
        [{"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}],
        [{"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}],
    ),
    "parts": (
        [
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "ho"},
                    {"type": "output_text", "text": "ho"},
                    {"type": "input_image", "image_url": "data:x", "detail": "low"},
                    {"type": "input_file", "file_data": "data:y", "filename": "a.pdf"},
                    {"type": "input_audio", "input_audio": {"data": "z", "format": "wav"}},
                    {"type": "refusal", "refusal": "no"},
                ],
            }
        ],
        [
            {
                "role": "user",
                "content": [
                    *_TEXT,
                    *_TEXT,
                    {"type": "image_url", "image_url": {"url": "data:x", "detail": "low"}},
                    {"type": "file", "file": {"file_data": "data:y", "filename": "a.pdf"}},
                    {"type": "input_audio", "input_audio": {"data": "z", "format": "wav"}},
                    {"type": "refusal", "refusal": "no"},
                ],
            }
        ],
    ),
}


@pytest.mark.parametrize("case", _CONVERSATIONS)
def test_items_are_messages(case: str) -> None:
    items, messages = _CONVERSATIONS[case]
    assert _messages(*items) == messages


def test_instructions_come_before_what_is_said() -> None:
    messages = msgspec.to_builtins(read(instructions="Be kind.").chat)["messages"]
    assert messages == [{"role": "system", "content": "Be kind."}, _HI]


_SCHEMA = {"type": "object"}
_SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "nothing": ({}, {}),
    "sampling": ({"temperature": 0.5, "top_p": 0.1}, {"temperature": 0.5, "top_p": 0.1}),
    "a stream": ({"stream": True}, {"stream": True}),
    "a limit": ({"max_output_tokens": 5}, {"max_completion_tokens": 5}),
    "log probabilities": (
        {"include": ["message.output_text.logprobs"], "top_logprobs": 2},
        {"logprobs": True, "top_logprobs": 2},
    ),
    "likeliest tokens that are not to be told": ({"include": ["other"], "top_logprobs": 2}, {}),
    "text": ({"text": {"format": {"type": "text"}, "verbosity": "low"}}, {}),
    "verbosity": ({"text": {"verbosity": "low"}}, {}),
    "an object": (
        {"text": {"format": {"type": "json_object"}}},
        {"response_format": {"type": "json_object"}},
    ),
    "a schema": (
        {"text": {"format": {"type": "json_schema", "name": "n", "schema": _SCHEMA, "strict": True}}},
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "n", "schema": _SCHEMA, "strict": True},
            }
        },
    ),
    "effort": ({"reasoning": {"effort": "low", "summary": "auto"}}, {"reasoning_effort": "low"}),
    "tools": (
        {"tools": [_TOOL], "parallel_tool_calls": False},
        {"tools": [_FUNCTION], "parallel_tool_calls": False},
    ),
    "a word": (
        {"tools": [_TOOL], "tool_choice": "required"},
        {"tools": [_FUNCTION], "tool_choice": "required"},
    ),
    "tools that are not to be called": (
        {"tools": [_SEARCH, _TOOL], "tool_choice": "none"},
        {"tools": [_FUNCTION], "tool_choice": "none"},
    ),
    "a function": (
        {"tools": [_TOOL], "tool_choice": {"type": "function", "name": "f"}},
        {"tools": [_FUNCTION], "tool_choice": {"type": "function", "function": {"name": "f"}}},
    ),
    "some functions": (
        {
            "tools": [_TOOL],
            "tool_choice": {
                "type": "allowed_tools",
                "mode": "auto",
                "tools": [{"type": "function", "name": "f"}],
            },
        },
        {
            "tools": [_FUNCTION],
            "tool_choice": {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "f"}}]},
            },
        },
    ),
    "what has no effect": (
        {
            "store": True,
            "metadata": {"a": "b"},
            "truncation": "auto",
            "background": False,
            "previous_response_id": None,
            "service_tier": "flex",
            "user": "u",
            "unheard": {"of": 1},
        },
        {},
    ),
}


@pytest.mark.parametrize("case", _SETTINGS)
def test_settings_are_those_of_a_chat(case: str) -> None:
    given, chat = _SETTINGS[case]
    assert msgspec.to_builtins(read(**given).chat) == {"model": "m", "messages": [_HI], **chat}


def test_the_chat_is_one_that_a_client_could_have_sent() -> None:
    items = [_HI, _THOUGHTS, _SAID, _CALL, _OUTPUT]
    chat = read(input=items, tools=[_TOOL], instructions="Be kind.").chat
    assert requests.chat(msgspec.json.encode(chat)) == chat
