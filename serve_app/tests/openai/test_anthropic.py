"""Anthropic's requests as chats, and neutral pieces as Anthropic's messages and events."""

import json
from typing import Any

import msgspec
import pytest

from modelset_proxy.openai import anthropic, errors, pieces, steps
from modelset_proxy.openai.anthropic import envelope

_HI = {"role": "user", "content": "hi"}
_TOOL = {"name": "f", "description": "d", "input_schema": {"type": "object"}}
_TOOLS = {"tools": [_TOOL]}
_USE = {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}}
_CALLED = {"role": "assistant", "content": [_USE]}
_IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
_URL = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
_FUNCTION = {
    "type": "function",
    "function": {"name": "f", "description": "d", "parameters": {"type": "object"}},
}


def _read(fields: dict[str, Any]) -> Any:
    body = {"model": "m", "max_tokens": 5, "messages": [_HI], **fields}
    return anthropic.read(json.dumps({name: value for name, value in body.items() if value != "-"}).encode())


def _chat(fields: dict[str, Any], *, can_think: bool = True) -> dict[str, Any]:
    translated = steps.at_once(anthropic.chat(_read(fields), can_think=can_think))
    chat: dict[str, Any] = msgspec.to_builtins(translated.request)
    return chat


_PLAIN = {"model": "m", "max_tokens": 5, "messages": [_HI]}
_SCHEMA = {"type": "object", "properties": {}}

_TRANSLATED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "nothing": ({}, {}),
    "sampling": (
        {"stream": True, "temperature": 1, "top_p": 0.5, "top_k": 3, "stop_sequences": list("abcde")},
        {"stream": True, "temperature": 1, "top_p": 0.5, "top_k": 3, "stop": list("abcde")},
    ),
    "no effect": ({"metadata": {"user_id": "u"}, "service_tier": "auto", "cache_control": {}}, {}),
    "tools": (_TOOLS, {"tools": [_FUNCTION]}),
    "strict tool": (
        {"tools": [{"type": "custom", "name": "f", "input_schema": {}, "strict": True}]},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}, "strict": True}}]},
    ),
    "any tool": (
        {**_TOOLS, "tool_choice": {"type": "any"}},
        {"tools": [_FUNCTION], "tool_choice": "required"},
    ),
    "no tool": (
        {**_TOOLS, "tool_choice": {"type": "none"}},
        {"tools": [_FUNCTION], "tool_choice": "none"},
    ),
    "one tool": (
        {**_TOOLS, "tool_choice": {"type": "tool", "name": "f"}},
        {"tools": [_FUNCTION], "tool_choice": {"type": "function", "function": {"name": "f"}}},
    ),
    "one call at a time": (
        {**_TOOLS, "tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
        {"tools": [_FUNCTION], "parallel_tool_calls": False},
    ),
    "format": (
        {"output_config": {"format": {"type": "json_schema", "schema": _SCHEMA}}},
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": _SCHEMA},
            }
        },
    ),
}


@pytest.mark.parametrize("case", _TRANSLATED)
def test_fields_become_those_of_a_chat(case: str) -> None:
    given, wanted = _TRANSLATED[case]
    assert _chat(given) == {**_PLAIN, **wanted}


_MESSAGES: dict[str, tuple[list[Any], list[Any]]] = {
    "system in between": (
        [_HI, {"role": "system", "content": "s"}],
        [_HI, {"role": "system", "content": "s"}],
    ),
    "blocks": (
        [
            {"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {}}, _IMAGE]},
            {"role": "assistant", "content": "b"},
        ],
        [
            {"role": "user", "content": [{"type": "text", "text": "a"}, _URL]},
            {"role": "assistant", "content": "b"},
        ],
    ),
    "image by URL": (
        [
            {
                "role": "user",
                "content": [{"type": "image", "source": {"type": "url", "url": "https://x/a.png"}}],
            }
        ],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/a.png"}}]}],
    ),
    "thoughts": (
        [
            _HI,
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "a", "signature": "s"},
                    {"type": "redacted_thinking", "data": "x"},
                    {"type": "thinking", "thinking": "b", "signature": "s"},
                    {"type": "text", "text": "c"},
                ],
            },
        ],
        [
            _HI,
            {
                "role": "assistant",
                "content": [{"type": "text", "text": "c"}],
                "reasoning_content": "a\n\nb",
            },
        ],
    ),
    "an empty answer": ([{"role": "assistant", "content": []}, _HI], [{"role": "assistant"}, _HI]),
    "calls and what came of them": (
        [
            _CALLED,
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "t1",
                        "content": [{"type": "text", "text": "x"}, _IMAGE, {"type": "text", "text": "y"}],
                    },
                    {"type": "text", "text": "and?"},
                ],
            },
        ],
        [
            {
                "role": "assistant",
                "tool_calls": [
                    {"type": "function", "id": "t1", "function": {"name": "f", "arguments": '{"a":1}'}}
                ],
            },
            {"role": "tool", "content": "x\n\ny", "tool_call_id": "t1"},
            {"role": "user", "content": [_URL, {"type": "text", "text": "and?"}]},
        ],
    ),
}


@pytest.mark.parametrize("case", _MESSAGES)
def test_messages_become_those_of_a_chat(case: str) -> None:
    given, wanted = _MESSAGES[case]
    assert _chat({"messages": given})["messages"] == wanted


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"content": "no"}, "no"),
        ({"content": "no", "is_error": False}, "no"),
        ({"content": "no", "is_error": True}, "Error: no"),
        ({}, ""),
    ],
)
def test_a_tool_that_failed_is_told_to_have(more: dict[str, Any], told: str) -> None:
    result = {"type": "tool_result", "tool_use_id": "t1", **more}
    chat = _chat({"messages": [_CALLED, {"role": "user", "content": [result]}]})
    assert chat["messages"][1:] == [{"role": "tool", "content": told, "tool_call_id": "t1"}]


@pytest.mark.parametrize(
    ("system", "wanted"),
    [
        ("s", ["s"]),
        ([{"type": "text", "text": "s"}], [[{"type": "text", "text": "s"}]]),
        ("", []),
        ([], []),
        (None, []),
    ],
)
def test_the_system_prompt_comes_first(system: Any, wanted: list[Any]) -> None:
    messages = [{"role": "system", "content": content} for content in wanted]
    assert _chat({"system": system})["messages"] == [*messages, _HI]


@pytest.mark.parametrize(
    ("given", "effort"),
    [
        ({}, None),
        ({"thinking": {"type": "adaptive"}}, None),
        ({"thinking": {"type": "disabled"}}, "none"),
        ({"thinking": {"type": "disabled"}, "output_config": {"effort": "low"}}, "none"),
        ({"thinking": {"type": "enabled", "budget_tokens": 4095}}, "low"),
        ({"thinking": {"type": "enabled", "budget_tokens": 4096}}, "medium"),
        ({"thinking": {"type": "enabled", "budget_tokens": 16384}}, "high"),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "xhigh"}}, "xhigh"),
        ({"output_config": {"effort": "low"}}, "low"),
    ],
)
def test_thinking_becomes_an_effort(given: dict[str, Any], effort: str | None) -> None:
    assert _chat(given).get("reasoning_effort") == effort


@pytest.mark.parametrize(
    "given", [{"thinking": {"type": "enabled", "budget_tokens": 1024}}, {"output_config": {"effort": "max"}}]
)
def test_a_model_without_thoughts_is_not_asked_for_any(given: dict[str, Any]) -> None:
    assert "reasoning_effort" not in _chat(given, can_think=False)


def _user(*blocks: Any) -> dict[str, Any]:
    return {"messages": [_HI, _CALLED, {"role": "user", "content": list(blocks)}]}


_RESULT = {"type": "tool_result", "tool_use_id": "t1"}
_REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no limit": ({"max_tokens": "-"}, "max_tokens"),
    "limit of nothing": ({"max_tokens": 0}, "max_tokens"),
    "too hot": ({"temperature": 1.1}, "temperature"),
    "too many stops": ({"stop_sequences": ["a"] * 65}, "stop_sequences"),
    "no messages": ({"messages": []}, "messages"),
    "no such role": ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
    "nothing said": (_user(), "messages[2].content"),
    "document": (_user(_RESULT, {"type": "document", "source": {}}), "messages[2].content[1]"),
    "document of a tool": (
        _user({**_RESULT, "content": [{"type": "document"}]}),
        "messages[2].content[0].content[0]",
    ),
    "search result": (_user({"type": "search_result"}), "messages[2].content[0]"),
    "file": (
        _user({"type": "image", "source": {"type": "file", "file_id": "f"}}),
        "messages[2].content[0].source",
    ),
    "no such kind of image": (
        _user({"type": "image", "source": {**_IMAGE["source"], "media_type": "image/tiff"}}),  # type: ignore[dict-item]
        "messages[2].content[0].source.media_type",
    ),
    "no such block": (_user({"type": "container_upload"}), "messages[2].content[0].type"),
    "answer to no call": (
        _user({"type": "tool_result", "tool_use_id": "t2"}),
        "messages[2].content[0].tool_use_id",
    ),
    "server tool": ({"tools": [_TOOL, {"type": "web_search_20250305", "name": "w"}]}, "tools[1].type"),
    "tool without a schema": ({"tools": [{"name": "f"}]}, "tools[0].input_schema"),
    "choice of no tools": ({"tool_choice": {"type": "any"}}, "tool_choice"),
    "choice of another tool": ({**_TOOLS, "tool_choice": {"type": "tool", "name": "g"}}, "tool_choice.name"),
    "no such thinking": ({"thinking": {"type": "between_tools"}}, "thinking.type"),
    "no budget": ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
    "older format": ({"output_format": {"type": "json_schema"}}, "output_format"),
    "MCP servers": ({"mcp_servers": [{}]}, "mcp_servers"),
}


@pytest.mark.parametrize("case", _REFUSED)
def test_a_refusal_names_the_field_as_the_client_knows_it(case: str) -> None:
    given, param = _REFUSED[case]
    with pytest.raises(errors.ApiError) as refusal:
        _chat(given)
    assert (refusal.value.status, refusal.value.param) == (400, param)
    assert param in _envelope(refusal.value)["error"]["message"]


def test_names_that_are_echoed_are_cut() -> None:
    for given in (
        {"tools": [{"name": "f", "type": "x" * 1000}]},
        {**_TOOLS, "tool_choice": {"type": "tool", "name": "x" * 1000}},
    ):
        with pytest.raises(errors.ApiError) as refusal:
            _read(given)
        assert len(refusal.value.message) < 300


@pytest.mark.parametrize(
    ("param", "own"),
    [
        ("messages[2].content[0]", "messages[1].content[0].content[0]"),
        ("messages[2].content[0].image_url.url", "messages[1].content[0].content[0].source.data"),
        ("messages[2].content[2]", "messages[1].content[2]"),
        ("messages[2].content[2].image_url.url", "messages[1].content[2].source.url"),
        ("response_format", "output_config.format"),
        ("tools.function.parameters.properties.type", "tools.input_schema.properties.type"),
        ("messages", "messages"),
    ],
)
def test_what_an_engine_refuses_is_named_as_the_client_knows_it(param: str, own: str) -> None:
    link = {"type": "image", "source": {"type": "url", "url": "https://x/a.png"}}
    content = [{**_RESULT, "content": [_IMAGE]}, {"type": "text", "text": "x"}, link]
    request = _read({"messages": [_CALLED, {"role": "user", "content": content}]})
    chat = steps.at_once(anthropic.chat(request, can_think=True))
    with pytest.raises(errors.ApiError) as refusal, chat.own_names():
        raise errors.unsupported(param, "No.")
    assert (refusal.value.param, refusal.value.message) == (own, f"Unsupported parameter: '{own}'. No.")


def _envelope(error: errors.ApiError) -> Any:
    body = json.loads(envelope.body(error, request_id="req_1"))
    assert (body.pop("request_id"), body["type"], set(body["error"])) == (
        "req_1",
        "error",
        {"type", "message"},
    )
    return body


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (405, "invalid_request_error"),
        (413, "request_too_large"),
        (415, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (502, "api_error"),
        (503, "overloaded_error"),
        (504, "timeout_error"),
    ],
)
def test_each_status_has_a_type_of_anthropics(status: int, kind: str) -> None:
    error = errors.ApiError(status, "No.")
    assert _envelope(error)["error"] == {"type": kind, "message": "No."}
    name, data, _, _ = envelope.event(error).decode().split("\n")
    assert name == "event: error"
    assert json.loads(data.removeprefix("data: ")) == {
        "type": "error",
        "error": {"type": kind, "message": "No."},
    }


def test_a_model_that_never_fits_is_no_overload() -> None:
    assert _envelope(errors.ApiError(503, "No.", may_retry=False))["error"]["type"] == "api_error"


def test_a_message_names_the_field_that_it_does_not_name_already() -> None:
    assert _envelope(errors.invalid("No.", param="a.b"))["error"]["message"] == "a.b: No."
    assert _envelope(errors.invalid("No 'a.b'.", param="a.b"))["error"]["message"] == "No 'a.b'."


def test_a_prompt_that_is_too_long_is_called_so() -> None:
    message = _envelope(errors.context_length_exceeded("messages"))["error"]["message"]
    assert message.startswith("prompt is too long: This model's maximum context length is")


_CALL = pieces.ToolCall("c1", "f", '{"a":1}')
_TALE = [
    [pieces.Piece(reasoning="Hm"), pieces.Piece(reasoning=".")],
    [pieces.Piece("Let "), pieces.Piece("me \N{SNOWMAN}.")],
    [pieces.Piece(tool_calls=[_CALL, pieces.ToolCall("c2", "g", "{}")])],
    [pieces.Piece("Well."), pieces.Piece(end=pieces.End("tool_calls", 7, 5))],
]
_BLOCKS: list[dict[str, Any]] = [
    {"type": "thinking", "thinking": "Hm.", "signature": "unsigned"},
    {"type": "text", "text": "Let me \N{SNOWMAN}."},
    {"type": "tool_use", "id": "c1", "name": "f", "input": {"a": 1}},
    {"type": "tool_use", "id": "c2", "name": "g", "input": {}},
    {"type": "text", "text": "Well."},
]


def _message(*arrived: list[pieces.Piece]) -> Any:
    message = anthropic.Message()
    for each in arrived:
        message.add(each)
    return json.loads(message.body("m")[0])


def test_a_whole_answer_is_a_message() -> None:
    body = _message(*_TALE)
    assert body.pop("id").startswith("msg_")
    assert body == {
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": _BLOCKS,
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {"input_tokens": 7, "output_tokens": 5},
    }


def test_tokens_of_a_message_are_counted() -> None:
    message = anthropic.Message()
    message.add(_TALE[-1])
    tokens = message.body("m")[1]
    assert (tokens.prompt, tokens.completion) == (7, 5)


@pytest.mark.parametrize("arguments", ['{"a": ', "[]", "", '{"a":' + "[" * 100_000])
def test_the_input_of_a_call_is_an_object_whatever_the_model_wrote(arguments: str) -> None:
    [block] = _message([pieces.Piece(tool_calls=[pieces.ToolCall("c1", "f", arguments)])])["content"]
    assert block["input"] == {}


@pytest.mark.parametrize(
    ("reason", "calls", "told"),
    [
        ("stop", [], "end_turn"),
        ("length", [], "max_tokens"),
        ("content_filter", [], "refusal"),
        ("tool_calls", [_CALL], "tool_use"),
        # A call that was asked for by name.
        ("stop", [_CALL], "tool_use"),
        ("length", [_CALL], "max_tokens"),
    ],
)
def test_why_an_answer_ended_is_told_in_anthropics_words(
    reason: str, calls: list[pieces.ToolCall], told: str
) -> None:
    answer = [pieces.Piece(tool_calls=calls), pieces.Piece(end=pieces.End(reason, 1, 1))]
    assert _message(answer)["stop_reason"] == told
    assert _events(anthropic.Stream("m").events(0, answer))[-1][1]["delta"]["stop_reason"] == told


def _events(data: bytes) -> list[tuple[str, Any]]:
    events = []
    for event in data.decode().removesuffix("\n\n").split("\n\n"):
        name, payload = event.split("\n")
        told = json.loads(payload.removeprefix("data: "))
        assert name == f"event: {told['type']}"
        events.append((told["type"], told))
    return events


def test_a_stream_tells_the_same_block_by_block() -> None:
    stream = anthropic.Stream("m")
    events = _events(b"".join([*(stream.events(0, arrived) for arrived in _TALE), stream.end()]))
    (_, start), *within, (_, delta), (last, _) = events
    assert start["message"].pop("id").startswith("msg_")
    assert start["message"] == {
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 0, "output_tokens": 0},
    }
    assert delta == {
        "type": "message_delta",
        "delta": {"stop_reason": "tool_use", "stop_sequence": None},
        "usage": {"input_tokens": 7, "output_tokens": 5},
    }
    assert last == "message_stop"
    assert (stream.tokens.prompt, stream.tokens.completion) == (7, 5)
    assert _accumulated([event for _, event in within]) == _BLOCKS


def _accumulated(events: list[Any]) -> list[Any]:
    """As Anthropic's client does it: one block at a time, each of which begins empty."""
    blocks: list[Any] = []
    written = ""
    is_open = False
    for event in events:
        kind = event["type"]
        assert event["index"] == len(blocks) - (kind != "content_block_start")
        if kind == "content_block_start":
            assert not is_open
            blocks.append(event["content_block"])
            written, is_open = "", True
        elif kind == "content_block_stop":
            if blocks[-1]["type"] == "tool_use":
                assert blocks[-1]["input"] == {}
                blocks[-1]["input"] = json.loads(written)
            is_open = False
        else:
            assert is_open
            field = event["delta"].pop("type").removesuffix("_delta")
            [told] = event["delta"].values()
            if field == "input_json":
                written += told
            else:
                blocks[-1][field] += told
    assert not is_open
    return blocks


def test_each_part_of_a_stream_goes_out_as_it_comes() -> None:
    stream = anthropic.Stream("m")
    kinds = [[kind for kind, _ in _events(stream.events(0, [pieces.Piece(text)]))] for text in "ab"]
    assert kinds == [
        ["message_start", "content_block_start", "content_block_delta"],
        ["content_block_delta"],
    ]
