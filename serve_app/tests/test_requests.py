"""What is refused, and how the refusal names the field."""

import asyncio
import base64
import json
from typing import Any

import hypothesis
import msgspec
import pytest
from hypothesis import strategies

from modelset_proxy.engines.ollama import engine, native
from modelset_proxy.openai import catalog, errors, requests, steps
from serve_app.tests import pictures

_OLLAMA = engine.Ollama()
_PLAIN = catalog.Model(
    name="m:1", served_names=("m",), kind=catalog.CHAT, capabilities=frozenset({"completion"})
)
_ABLE = catalog.Model(
    name="m:1",
    served_names=("m",),
    kind=catalog.CHAT,
    capabilities=frozenset({"completion", "tools", "vision", "thinking", "insert"}),
)
_UNKNOWN = catalog.Model(name="m:1", served_names=("m",), kind=catalog.CHAT)
_USER = {"role": "user", "content": "hi"}
_TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
_CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def _data_url(image: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(image).decode()}"


_PNG = _data_url(pictures.png())


def _image(url: str) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}


def _chat(body: dict[str, Any], model: catalog.Model = _PLAIN, choice: int = 0) -> dict[str, Any]:
    request = requests.chat(json.dumps({"model": "m", "messages": [_USER], **body}).encode())
    body: dict[str, Any] = json.loads(steps.at_once(native.chat(request, model)).body.of(choice))
    return body


_REFUSED_CHATS: dict[str, tuple[dict[str, Any], str | None, str | None]] = {
    "no messages": ({"messages": []}, "messages", "invalid_value"),
    "unknown role": ({"messages": [{"role": "x"}]}, "messages[0].role", "invalid_value"),
    "no role": ({"messages": [{}]}, "messages[0].role", "missing_required_parameter"),
    "user without content": (
        {"messages": [{"role": "user"}]},
        "messages[0].content",
        "missing_required_parameter",
    ),
    "model is a number": ({"model": 3}, "model", "invalid_value"),
    "temperature as text": ({"temperature": "1"}, "temperature", "invalid_value"),
    "temperature too high": ({"temperature": 2.1}, "temperature", "invalid_value"),
    "top_p below zero": ({"top_p": -0.1}, "top_p", "invalid_value"),
    "less than no tokens": ({"max_tokens": -1}, "max_tokens", "invalid_value"),
    "n is zero": ({"n": 0}, "n", "invalid_value"),
    "five stops": ({"stop": list("abcde")}, "stop", None),
    "top_logprobs without logprobs": ({"top_logprobs": 3}, "top_logprobs", None),
    "logit bias": ({"logit_bias": {"1": 5}}, "logit_bias", "unsupported_parameter"),
    "audio out": ({"modalities": ["text", "audio"]}, "modalities", "unsupported_parameter"),
    "functions": ({"functions": [{"name": "f"}]}, "functions", "unsupported_parameter"),
    "custom tool": ({"tools": [{"type": "custom"}]}, "tools", "unsupported_parameter"),
    "tool choice without tools": ({"tool_choice": "required"}, "tool_choice", None),
    "tool choice that is no word": ({"tools": [_TOOL], "tool_choice": "any"}, "tool_choice", "invalid_value"),
    "tool choice of an unknown tool": (
        {"tools": [_TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}},
        "tool_choice",
        None,
    ),
    "tools for a model without": ({"tools": [_TOOL]}, "tools", "unsupported_parameter"),
    "reasoning of a model without": (
        {"reasoning_effort": "low"},
        "reasoning_effort",
        "unsupported_parameter",
    ),
    "unknown effort": ({"reasoning_effort": "lots"}, "reasoning_effort", "invalid_value"),
    "schema missing": (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
        "response_format.json_schema.schema",
        "missing_required_parameter",
    ),
    "image for a model without": (
        {"messages": [_image(_PNG)]},
        "messages[0].content[0]",
        "unsupported_value",
    ),
    "audio in": (
        {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]},
        "messages[0].content[0]",
        "unsupported_parameter",
    ),
    "answer to no call": (
        {"messages": [_USER, {"role": "tool", "tool_call_id": "c1", "content": "x"}]},
        "messages[1].tool_call_id",
        None,
    ),
    "arguments that are no object": (
        {
            "messages": [
                {
                    "role": "assistant",
                    "tool_calls": [{**_CALL, "function": {"name": "f", "arguments": "["}}],
                }
            ]
        },
        "messages[0].tool_calls[0].function.arguments",
        None,
    ),
}


@pytest.mark.parametrize("case", _REFUSED_CHATS)
def test_chat_that_cannot_be_honoured_is_refused_by_name(case: str) -> None:
    body, param, code = _REFUSED_CHATS[case]
    with pytest.raises(errors.ApiError) as refusal:
        _chat(body)
    assert (refusal.value.status, refusal.value.param, refusal.value.code) == (400, param, code)


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("https://example.com/a.png", "unsupported_value"),
        ("http://169.254.169.254/latest", "unsupported_value"),
        ("file:///etc/passwd", "unsupported_value"),
        ("data:text/html;base64,aGVsbG8=", "invalid_value"),
        ("data:image/png,raw", "invalid_value"),
    ],
)
def test_image_that_is_no_data_url_is_refused(url: str, code: str) -> None:
    with pytest.raises(errors.ApiError) as refusal:
        _chat({"messages": [_image(url)]}, _ABLE)
    assert (refusal.value.status, refusal.value.code) == (400, code)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"nul", b'"x"', b"\xff", b"[" * 100_000, b'{"model": "\\ud800"}']
)
def test_body_that_is_no_request_is_a_400(body: bytes) -> None:
    for decode in (requests.chat, requests.completion, requests.embedding):
        with pytest.raises(errors.ApiError) as refusal:
            decode(body)
        assert refusal.value.status == 400


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": [[1], [2]]}, "prompt"),
        ({"prompt": "x", "best_of": 3}, "best_of"),
        ({"prompt": ["a", [1]]}, "prompt"),
        ({"prompt": "x", "echo": True, "logprobs": 1}, "logprobs"),
        ({"prompt": "x", "logit_bias": {"1": 5}}, "logit_bias"),
        ({"prompt": "x", "max_tokens": 0}, "max_tokens"),
        ({"prompt": "x", "max_tokens": 0, "echo": True}, "max_tokens"),
        ({}, "prompt"),
    ],
)
def test_completion_that_cannot_be_honoured_is_refused_by_name(body: dict[str, Any], param: str) -> None:
    with pytest.raises(errors.ApiError) as refusal:
        asyncio.run(
            _OLLAMA.complete(requests.completion(json.dumps({"model": "m", **body}).encode()), _PLAIN)
        )
    assert (refusal.value.status, refusal.value.param) == (400, param)


@pytest.mark.parametrize("given", ["", [], [""], [1, 2], [[1, 2]], ["a", 1], ["a"] * 2049, None, {}])
def test_embedding_input_that_is_no_text_is_refused(given: Any) -> None:
    body = json.dumps({"model": "m", "input": given}).encode()
    with pytest.raises(errors.ApiError) as refusal:
        asyncio.run(_OLLAMA.embed(requests.embedding(body), _PLAIN))
    assert (refusal.value.status, refusal.value.param) == (400, "input")


@pytest.mark.parametrize(
    "body",
    [
        {"logit_bias": {"1": 0}},
        {"modalities": ["text"]},
        {"functions": [{"name": "f"}], "function_call": "none"},
        {"tools": [_TOOL], "tool_choice": "none"},
        {"reasoning_effort": "none"},
        {"user": "u", "metadata": {"a": "b"}, "store": True, "service_tier": "auto", "prediction": None},
        {"stream": False, "stream_options": {"include_usage": True, "include_obfuscation": True}},
        {"something_new": {"deep": [1]}},
        {"messages": [{"role": "function", "name": "f", "content": None}]},
    ],
)
def test_what_changes_nothing_is_accepted(body: dict[str, Any]) -> None:
    assert _chat(body)["model"] == "m:1"


def test_unknown_capabilities_are_left_to_ollama() -> None:
    assert _chat({"tools": [_TOOL], "reasoning_effort": "high"}, _UNKNOWN)["think"] is True


@pytest.mark.parametrize(
    ("body", "options"),
    [
        ({}, None),
        ({"max_tokens": 5}, {"num_predict": 5}),
        ({"max_tokens": 5, "max_completion_tokens": 6}, {"num_predict": 6}),
        ({"max_tokens": 5, "max_completion_tokens": 0}, {"num_predict": 5}),
        ({"temperature": 0, "top_p": 1}, {"temperature": 0, "top_p": 1}),
        ({"stop": "x"}, {"stop": ["x"]}),
        ({"seed": 7}, {"seed": 9}),
        (
            {"top_k": 3, "min_p": 0.1, "repeat_penalty": 1.2},
            {"top_k": 3, "min_p": 0.1, "repeat_penalty": 1.2},
        ),
    ],
)
def test_only_what_the_client_says_overrides_the_modelfile(
    body: dict[str, Any], options: dict[str, Any] | None
) -> None:
    assert _chat(body, choice=2).get("options") == options


@pytest.mark.parametrize(
    ("stop", "sent"), [("", None), ([], None), ([""], None), (["", "x"], ["x"]), ("x", ["x"])]
)
def test_an_empty_stop_stops_nothing(stop: object, sent: object) -> None:
    assert _chat({"stop": stop}).get("options", {}).get("stop") == sent


@pytest.mark.parametrize(("text", "sent"), [("-1", -1), ("300", 300), ("5m", "5m"), ("1h30m", "1h30m")])
def test_keep_alive_of_whole_seconds_is_a_number(text: str, sent: int | str) -> None:
    assert native.keep_alive(text) == sent


@pytest.mark.parametrize(
    ("name", "effort", "think"),
    [
        ("qwen3:4b", "none", False),
        ("qwen3:4b", "minimal", True),
        ("qwen3:4b", "max", True),
        ("gpt-oss:20b", "none", "low"),
        ("gpt-oss:20b", "medium", "medium"),
        ("gpt-oss:20b", "xhigh", "high"),
    ],
)
def test_effort_becomes_what_the_model_takes(name: str, effort: str, think: bool | str) -> None:
    model = msgspec.structs.replace(_ABLE, name=name)
    assert _chat({"reasoning_effort": effort}, model)["think"] == think


@pytest.mark.parametrize(
    ("model", "effort", "think"),
    [
        (_ABLE, {}, False),
        (_ABLE, {"reasoning_effort": "low"}, True),
        (msgspec.structs.replace(_ABLE, name="gpt-oss:20b"), {}, "low"),
        (_PLAIN, {}, None),
    ],
    ids=["thinks", "asked-to-think", "cannot-but-think", "does-not-think"],
)
def test_a_call_that_must_be_is_not_thought_about_unasked(
    model: catalog.Model, effort: dict[str, str], think: bool | str | None
) -> None:
    assert _chat({"tools": [_TOOL], "tool_choice": "required", **effort}, model).get("think") == think


_NAMED = {"type": "function", "function": {"name": "f"}}
_ALLOWED = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [_NAMED]}}


@pytest.mark.parametrize(
    ("choice", "named"),
    [("required", False), (_ALLOWED, False), (_NAMED, True)],
    ids=["required", "allowed", "named"],
)
def test_only_a_function_that_is_named_counts_as_named(choice: object, named: bool) -> None:
    request = requests.chat(
        json.dumps({"model": "m", "messages": [_USER], "tools": [_TOOL], "tool_choice": choice}).encode()
    )
    assert steps.at_once(native.chat(request, _PLAIN)).forced == native.Forced(("f",), named=named)


@pytest.mark.parametrize("case", pictures.WHOLE)
def test_image_goes_as_its_base64(case: str) -> None:
    image = pictures.WHOLE[case]
    assert _chat({"messages": [_image(_data_url(image))]}, _ABLE)["messages"] == [
        {"role": "user", "content": "", "images": [base64.b64encode(image).decode()]}
    ]


def test_allowed_tools_narrow_what_the_model_sees() -> None:
    other = {"type": "function", "function": {"name": "g"}}
    choice = {
        "type": "allowed_tools",
        "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "g"}}]},
    }
    sent = _chat({"tools": [_TOOL, other], "tool_choice": choice}, _ABLE)
    assert [tool["function"]["name"] for tool in sent["tools"]] == ["g"]


def test_references_within_tools_resolve_in_the_schema_of_a_call() -> None:
    def tool(name: str, **parameters: Any) -> dict[str, Any]:
        return {
            "type": "function",
            "function": {"name": name, "parameters": {"type": "object", **parameters}},
        }

    place = {"properties": {"at": {"$ref": "#/$defs/place"}}, "$defs": {"place": {"const": "here"}}}
    tree = {"properties": {"left": {"$ref": "#"}, "$ref": {"type": "string"}}}
    tools = [tool("f", **place), tool("g", **tree), tool("h")]
    schema = _chat({"tools": tools, "tool_choice": "required"}, _ABLE)["format"]

    def resolved(reference: str) -> Any:
        found = schema
        for step in reference.removeprefix("#/").split("/"):
            found = found[step]
        return found

    arguments = [call["properties"]["arguments"] for call in schema["anyOf"]]
    first, second = (resolved(found["$ref"]) for found in arguments[:2])
    assert resolved(first["properties"]["at"]["$ref"]) == {"const": "here"}
    assert resolved(second["properties"]["left"]["$ref"]) == second
    assert second["properties"]["$ref"] == {"type": "string"}
    assert arguments[2] == {"type": "object", "properties": {}}


def test_suffix_needs_a_model_that_fills_in() -> None:
    request = requests.completion(b'{"model": "m", "prompt": "a", "suffix": "b"}')
    assert json.loads(native.completion(request, "a", _ABLE).of(0))["suffix"] == "b"
    with pytest.raises(errors.ApiError) as refusal:
        native.completion(request, "a", _PLAIN)
    assert refusal.value.param == "suffix"


# Not `strategies.text`, which first looks through all of Unicode: seconds, in each new checkout.
_texts = ["", "a", "hi there", "\n", "\0", '"', "\\u0061", "é", "ж\U0001f600", "<think>", "a" * 300]
_values_as_text = ["{}", "[1]", "null", "0", "-1", "auto", "json_object", "data:,"]
_letter = (strategies.integers(0, 0xD7FF) | strategies.integers(0xE000, 0x10FFFF)).map(chr)
_text = strategies.sampled_from([*_texts, *_values_as_text]) | _letter
_json = strategies.recursive(
    strategies.none() | strategies.booleans() | strategies.integers() | strategies.floats() | _text,
    lambda inner: strategies.lists(inner, max_size=3) | strategies.dictionaries(_text, inner, max_size=3),
    max_leaves=8,
)
_FIELDS = sorted(requests.ChatRequest.__struct_fields__)
_message = strategies.fixed_dictionaries(
    {"role": strategies.sampled_from(["system", "developer", "user", "assistant", "tool", "function"])},
    optional={
        "content": _text | _json,
        "tool_calls": strategies.lists(strategies.just(_CALL), max_size=2) | _json,
        "tool_call_id": strategies.just("c1") | _json,
        "name": _text,
    },
)
_bodies = strategies.fixed_dictionaries(
    {"model": strategies.just("m"), "messages": strategies.lists(_message, max_size=4)},
    optional={
        **{name: _json for name in _FIELDS if name not in ("model", "messages")},
        "tools": strategies.lists(strategies.just(_TOOL), max_size=2) | _json,
        "tool_choice": strategies.sampled_from(["auto", "none", "required"]) | _json,
        "temperature": strategies.floats(-1, 3),
        "n": strategies.integers(-1, 200),
    },
)


@hypothesis.settings(max_examples=100, deadline=None)
@hypothesis.given(_bodies)
def test_any_chat_translates_or_is_refused_with_a_400(body: dict[str, Any]) -> None:
    refusal: errors.ApiError | None = None
    try:
        request = requests.chat(json.dumps(body).encode())
        assert json.loads(steps.at_once(native.chat(request, _ABLE)).body.of(0))["model"] == "m:1"
    except errors.ApiError as error:
        refusal = error
    assert refusal is None or (refusal.status == 400 and json.loads(refusal.body())["error"]["message"])
