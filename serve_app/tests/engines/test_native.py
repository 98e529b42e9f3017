"""The bodies that Ollama is sent: what models are loaded with, and who said what in a conversation."""

import json
from typing import Any

import msgspec
import pytest

from modelset_proxy.engines.ollama import native
from modelset_proxy.openai import catalog, errors, requests, steps

_CHAT = catalog.Model(
    name="m:1",
    served_names=("m",),
    kind=catalog.CHAT,
    capabilities=frozenset({"completion", "tools", "thinking"}),
)
_EMBEDDING = msgspec.structs.replace(_CHAT, name="e:1", kind=catalog.EMBEDDING)
_HELD = {"keep_alive": "-1", "context_length": 4096}
_KEPT = {"keep_alive": -1, "options": {"num_ctx": 4096}}


def _translated(messages: list[dict[str, Any]], **more: Any) -> native.Chat:
    model = msgspec.structs.replace(_CHAT, **more.pop("model", {}))
    request = requests.chat(json.dumps({"model": "m", "messages": messages, **more}).encode())
    return steps.at_once(native.chat(request, model))


def _chat(messages: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(_translated(messages, **more).body.of(0))
    return body


def _sent(path_and_body: tuple[str, bytes]) -> tuple[str, dict[str, Any]]:
    path, body = path_and_body
    return path, json.loads(body)


@pytest.mark.parametrize(
    ("model", "path", "body"),
    [
        (_CHAT, "/api/generate", {"model": "m:1"}),
        (_EMBEDDING, "/api/embed", {"model": "e:1", "input": []}),
    ],
    ids=["chat", "embedding"],
)
def test_a_model_is_loaded_with_what_its_requests_say(
    model: catalog.Model, path: str, body: dict[str, Any]
) -> None:
    """Other options would have Ollama load it anew for the first of them."""
    assert _sent(native.load(model)) == (path, body)
    assert _sent(native.load(msgspec.structs.replace(model, **_HELD))) == (path, {**body, **_KEPT})


@pytest.mark.parametrize(
    ("model", "path", "body"),
    [
        (_CHAT, "/api/generate", {"model": "m:1", "prompt": "a", "raw": True, "stream": False}),
        (_EMBEDDING, "/api/embed", {"model": "e:1", "input": ["a"]}),
    ],
    ids=["chat", "embedding"],
)
def test_the_least_that_can_be_answered_is_one_token_or_one_vector(
    model: catalog.Model, path: str, body: dict[str, Any]
) -> None:
    least = {"options": {"num_predict": 1}} if path == "/api/generate" else {}
    assert _sent(native.shortest(model)) == (path, {**body, **least})
    options = {**_KEPT["options"], **least.get("options", {})}  # type: ignore[dict-item]
    assert _sent(native.shortest(msgspec.structs.replace(model, **_HELD))) == (
        path,
        {**body, **_KEPT, "options": options},
    )


def test_a_model_is_let_go_of_by_being_kept_for_no_time() -> None:
    assert _sent(native.unload("m:1")) == ("/api/generate", {"model": "m:1", "keep_alive": 0})


@pytest.mark.parametrize(
    ("effort", "level"),
    [
        ("none", "low"),
        ("minimal", "low"),
        ("low", "low"),
        ("medium", "medium"),
        ("high", "high"),
        ("xhigh", "high"),
        ("max", "high"),
    ],
)
def test_gpt_oss_has_three_levels_for_all_efforts(effort: str, level: str) -> None:
    asked = _chat(
        [{"role": "user", "content": "hi"}], reasoning_effort=effort, model={"name": "team/gpt-oss:20b"}
    )
    assert asked["think"] == level


_HI = {"role": "user", "content": "hi"}
_IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,eA=="}}


@pytest.mark.parametrize(
    ("can", "messages", "more", "plain"),
    [
        ("completion", [_HI, _HI], {}, True),
        ("tools", [_HI], {"tools": [{"type": "function", "function": {"name": "f"}}]}, False),
        ("completion", [_HI], {"response_format": {"type": "json_object"}}, False),
        ("vision", [{"role": "user", "content": [_IMAGE]}, _HI], {}, False),
        ("thinking", [_HI], {}, False),
        ("thinking", [_HI], {"reasoning_effort": "low"}, False),
        ("thinking", [_HI], {"reasoning_effort": "none"}, True),
    ],
    ids=["words", "tools", "format", "images", "thoughts", "few thoughts", "no thoughts"],
)
def test_an_answer_is_plain_when_it_is_all_that_the_model_writes(
    can: str, messages: list[dict[str, Any]], more: dict[str, Any], plain: bool
) -> None:
    assert _translated(messages, model={"capabilities": frozenset({can})}, **more).plain is plain


def _call(number: str, name: str, arguments: str = "{}") -> dict[str, Any]:
    return {"id": number, "type": "function", "function": {"name": name, "arguments": arguments}}


def test_answers_of_tools_say_which_call_of_which_tool_they_answer() -> None:
    messages = _chat(
        [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "tool_calls": [_call("c1", "f", '{"a": 1}'), _call("c2", "g", "")]},
            {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "of g"}]},
            {"role": "tool", "tool_call_id": "c1", "content": "of f"},
        ]
    )["messages"]
    assert messages[1:] == [
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {"id": "c1", "function": {"index": 0, "name": "f", "arguments": {"a": 1}}},
                {"id": "c2", "function": {"index": 1, "name": "g", "arguments": {}}},
            ],
        },
        {"role": "tool", "content": "of g", "tool_call_id": "c2", "tool_name": "g"},
        {"role": "tool", "content": "of f", "tool_call_id": "c1", "tool_name": "f"},
    ]


def test_the_former_functions_are_tools_without_ids() -> None:
    called = {"name": "f", "arguments": '{"a": 1}'}
    messages = _chat(
        [
            {"role": "assistant", "content": "so", "function_call": called},
            {"role": "function", "name": "f", "content": "21 degrees"},
            {"role": "function", "name": "f", "content": None},
        ]
    )["messages"]
    assert messages == [
        {
            "role": "assistant",
            "content": "so",
            "tool_calls": [{"function": {"index": 0, "name": "f", "arguments": {"a": 1}}}],
        },
        {"role": "tool", "content": "21 degrees", "tool_name": "f"},
        {"role": "tool", "content": "", "tool_name": "f"},
    ]


def test_what_the_assistant_said_is_its_text_or_else_its_refusal() -> None:
    messages = _chat(
        [
            {"role": "assistant", "content": "text", "refusal": "no"},
            {"role": "assistant", "content": None, "refusal": "no"},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
            {"role": "assistant", "content": "a", "reasoning": "hm"},
        ]
    )["messages"]
    assert messages == [
        {"role": "assistant", "content": "text"},
        {"role": "assistant", "content": "no"},
        {"role": "assistant", "content": "no"},
        {"role": "assistant", "content": "a", "thinking": "hm"},
    ]


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"tool_calls": [_call("c", "f"), _call("c", "f", "[]")]}, "tool_calls[1].function.arguments"),
        ({"function_call": {"name": "f", "arguments": "["}}, "function_call.function.arguments"),
        ({"tool_calls": [{"id": "c", "type": "custom", "custom": {}}]}, "tool_calls[0]"),
    ],
    ids=["call", "function", "custom"],
)
def test_a_call_that_cannot_be_replayed_is_refused_by_name(message: dict[str, Any], param: str) -> None:
    with pytest.raises(errors.ApiError) as refusal:
        _chat([{"role": "user", "content": "hi"}, {"role": "assistant", **message}])
    assert (refusal.value.status, refusal.value.param) == (400, f"messages[1].{param}")


def test_arguments_may_have_half_a_million_characters_and_no_more() -> None:
    def replayed(more: int) -> Any:
        text = "x" * (native._MOST_ARGUMENTS + more - len('{"a":""}'))
        function = requests.CalledFunction("f", f'{{"a":"{text}"}}')
        said = requests.AssistantMessage(tool_calls=[requests.FunctionCall("c", function)])
        return native._assistant(said, {}, "")["tool_calls"][0]["function"]["arguments"]

    assert replayed(0).keys() == {"a"}
    with pytest.raises(errors.ApiError) as refusal:
        replayed(1)
    assert refusal.value.code == "string_above_max_length"


@pytest.mark.parametrize(("held", "kept"), [({}, {}), (_HELD, _KEPT)], ids=["as it is", "held"])
def test_texts_are_embedded_by_the_model_as_it_is_held(held: dict[str, Any], kept: dict[str, Any]) -> None:
    request = requests.embedding(b'{"model": "e", "input": "a", "dimensions": 3}')
    body = native.embedding(request, msgspec.structs.replace(_EMBEDDING, **held))
    assert isinstance(body, bytes)
    assert json.loads(body) == {"model": "e:1", "input": ["a"], "truncate": False, "dimensions": 3, **kept}


@pytest.mark.parametrize("kind", ["input_audio", "file"])
def test_what_cannot_be_read_is_named(kind: str) -> None:
    with pytest.raises(errors.ApiError, match=f"type '{kind}' cannot be read") as refusal:
        _chat([{"role": "user", "content": [{"type": kind, kind: {}}]}])
    assert refusal.value.param == "messages[0].content[0]"


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("https://x.example/a.png", "unsupported_value"),
        ("data:image/png;base64", "invalid_value"),
        ("data:text/plain;base64,eA==", "invalid_value"),
        ("data:image/png,x", "invalid_value"),
    ],
)
def test_an_image_that_is_not_sent_along_is_refused_where_it_is(url: str, code: str) -> None:
    content = [{"type": "image_url", "image_url": {"url": url}}]
    with pytest.raises(errors.ApiError) as refusal:
        _chat([{"role": "user", "content": content}], model={"capabilities": None})
    assert (refusal.value.param, refusal.value.code) == ("messages[0].content[0].image_url.url", code)


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        (None, {"type": "object", "properties": {}}),
        (
            {"properties": {"a": True, "b": {"type": "string"}}},
            {"properties": {"a": {}, "b": {"type": "string"}}},
        ),
        ({"type": "string", "properties": 1, "required": ["a"]}, {"type": "string", "properties": 1}),
    ],
    ids=["none", "anything", "odd"],
)
def test_parameters_of_tools_are_such_as_ollama_reads(
    given: dict[str, Any] | None, sent: dict[str, Any]
) -> None:
    function = {"name": "f", "parameters": given}
    [tool] = _chat([{"role": "user", "content": "hi"}], tools=[{"type": "function", "function": function}])[
        "tools"
    ]
    assert tool["function"]["parameters"] == {"type": "object", **(given or {}), **sent}
