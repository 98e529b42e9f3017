"""What is refused of a request for a response, and how the refusal names the field."""

from typing import Any

import pytest

from modelset_proxy.engines.ollama import engine
from modelset_proxy.openai import catalog, errors
from serve_app.tests.openai.responses.test_conversation import read

_MODEL = catalog.Model(name="m:1", served_names=("m",), kind=catalog.CHAT)
_PLAIN = catalog.Model(
    name="m:1", served_names=("m",), kind=catalog.CHAT, capabilities=frozenset({"completion"})
)
_CALL = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
_THOUGHTS = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]}
_TOOL = {"type": "function", "name": "f"}
_IMAGE = {"type": "input_image", "image_url": "https://images.example/a.png"}


def _user(*content: Any) -> dict[str, Any]:
    return {"input": [{"role": "user", "content": list(content)}]}


_REFUSED: dict[str, tuple[dict[str, Any], str, str | None]] = {
    "a list of nothing": ({"input": []}, "input", None),
    "no text": ({"input": 5}, "input", "invalid_value"),
    "an item that is none": ({"input": ["hi"]}, "input[0]", "invalid_value"),
    "no role": ({"input": [{"content": "x"}]}, "input[0].role", "missing_required_parameter"),
    "unknown role": ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role", "invalid_value"),
    "unknown part": (_user({"type": "video"}), "input[0].content[0].type", "invalid_value"),
    "a part without its text": (
        _user({"type": "input_text"}),
        "input[0].content[0].text",
        "missing_required_parameter",
    ),
    "an item that was kept": (
        {"input": [{"type": "item_reference", "id": "x"}]},
        "input[0]",
        "unsupported_parameter",
    ),
    "an item of a hosted tool": (
        {"input": [{"type": "web_search_call"}]},
        "input[0]",
        "unsupported_parameter",
    ),
    "a type that is no word": ({"input": [{"type": ["message"]}]}, "input[0]", "unsupported_parameter"),
    "an image that was uploaded": (
        _user({"type": "input_image", "file_id": "x"}),
        "input[0].content[0]",
        "unsupported_parameter",
    ),
    "a file that was uploaded": (
        _user({"type": "input_file", "file_id": "x"}),
        "input[0].content[0]",
        "unsupported_parameter",
    ),
    "an image of the system": (
        {"input": [{"role": "system", "content": [_IMAGE]}]},
        "input[0].content[0]",
        "unsupported_parameter",
    ),
    "an image of the assistant": (
        {"input": [{"role": "assistant", "content": [{"type": "output_text", "text": "a"}, _IMAGE]}]},
        "input[0].content[1]",
        "unsupported_parameter",
    ),
    "an image that a function gave": (
        {"input": [_CALL, {"type": "function_call_output", "call_id": "c1", "output": [_IMAGE]}]},
        "input[1].output[0]",
        "unsupported_parameter",
    ),
    "an output of no call": (
        {"input": [{"type": "function_call_output", "call_id": "c1", "output": ""}]},
        "input[0].call_id",
        None,
    ),
    "background": ({"background": True}, "background", "unsupported_parameter"),
    "conversation": ({"conversation": "x"}, "conversation", "unsupported_parameter"),
    "an answer before": ({"previous_response_id": "x"}, "previous_response_id", "unsupported_parameter"),
    "a prompt": ({"prompt": {"id": "x"}}, "prompt", "unsupported_parameter"),
    "a hosted tool": ({"tools": [_TOOL, {"type": "web_search"}]}, "tools[1]", "unsupported_parameter"),
    "a function without a name": (
        {"tools": [{"type": "function"}]},
        "tools[0].name",
        "missing_required_parameter",
    ),
    "a hosted tool chosen": (
        {"tools": [_TOOL], "tool_choice": {"type": "web_search"}},
        "tool_choice",
        "unsupported_parameter",
    ),
    "a choice without a name": (
        {"tools": [_TOOL], "tool_choice": {"type": "function"}},
        "tool_choice.name",
        "missing_required_parameter",
    ),
    "another tool allowed": (
        {
            "tools": [_TOOL],
            "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "mcp"}]},
        },
        "tool_choice.tools[0].type",
        "invalid_value",
    ),
    "a choice of no tools": ({"tool_choice": "required"}, "tool_choice", None),
    "an unknown function": (
        {"tools": [_TOOL], "tool_choice": {"type": "function", "name": "g"}},
        "tool_choice",
        None,
    ),
    "no schema": (
        {"text": {"format": {"type": "json_schema", "name": "x"}}},
        "text.format.schema",
        "missing_required_parameter",
    ),
    "no tokens": ({"max_output_tokens": 0}, "max_output_tokens", "invalid_value"),
    "too many likeliest": ({"top_logprobs": 21}, "top_logprobs", "invalid_value"),
    "too much metadata": (
        {"metadata": {str(number): "" for number in range(17)}},
        "metadata",
        "invalid_value",
    ),
    "unknown effort": ({"reasoning": {"effort": "x"}}, "reasoning.effort", "invalid_value"),
}


@pytest.mark.parametrize("case", _REFUSED)
def test_refused(case: str) -> None:
    body, param, code = _REFUSED[case]
    with pytest.raises(errors.ApiError) as refusal:
        read(**body)
    assert (refusal.value.status, refusal.value.param, refusal.value.code) == (400, param, code)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"tools": [{"type": "web_search"}]}, "'web_search'"),
        ({"input": [{"type": "mcp_call"}]}, "'mcp_call'"),
        ({"input": [{"role": "system", "content": [_IMAGE]}]}, "'input_image'"),
    ],
)
def test_what_is_refused_is_named(body: dict[str, Any], said: str) -> None:
    with pytest.raises(errors.ApiError, match=said):
        read(**body)


def test_a_type_of_any_length_is_told_in_part() -> None:
    with pytest.raises(errors.ApiError) as refusal:
        read(input=[{"type": "x" * 10_000}])
    assert len(refusal.value.message) < 300


_BY_THE_ENGINE: dict[str, tuple[dict[str, Any], catalog.Model, str]] = {
    "image by URL": (
        _user({"type": "input_text", "text": "a"}, _IMAGE),
        _MODEL,
        "input[0].content[1].image_url",
    ),
    "image for a model that is blind": (_user(_IMAGE), _PLAIN, "input[0].content[0]"),
    "after instructions": ({**_user(_IMAGE), "instructions": "x"}, _PLAIN, "input[0].content[0]"),
    "audio": (_user({"type": "input_audio", "input_audio": {}}), _MODEL, "input[0].content[0]"),
    "a file": (_user({"type": "input_file", "file_data": "x"}), _MODEL, "input[0].content[0]"),
    "arguments": ({"input": [_THOUGHTS, _CALL, {**_CALL, "arguments": "["}]}, _MODEL, "input[2].arguments"),
    "effort": ({"reasoning": {"effort": "low"}}, _PLAIN, "reasoning.effort"),
    "tools": ({"tools": [_TOOL]}, _PLAIN, "tools"),
}


@pytest.mark.parametrize("case", _BY_THE_ENGINE)
async def test_what_the_engine_refuses_is_called_as_the_client_calls_it(case: str) -> None:
    body, model, param = _BY_THE_ENGINE[case]
    request = read(**body)
    with pytest.raises(errors.ApiError) as refusal, request.names.used():
        await engine.Ollama().chat(request.chat, model)
    assert (refusal.value.status, refusal.value.param) == (400, param)
    assert "messages" not in refusal.value.message
    assert "reasoning_effort" not in refusal.value.message


@pytest.mark.parametrize(
    ("field", "own"),
    [
        ("messages", "input"),
        ("messages[0]", "input"),
        ("messages[1].content", "input.content"),
        ("messages[0].tool_calls[3]", "input"),
        (f"messages[{10**10}]", f"input[{10**10}]"),
        ("response_format", "text.format"),
        ("response_format.json_schema.schema", "text.format.schema"),
        ("max_completion_tokens", "max_output_tokens"),
        ("tools.function.parameters", "tools.parameters"),
        ("tool_choice", "tool_choice"),
        ("unheard.of", "unheard.of"),
        (None, None),
    ],
)
def test_fields_of_a_chat_have_other_names(field: str | None, own: str | None) -> None:
    error = errors.invalid(f"Not '{field}'.", param=field)
    read().names.rename(error)
    assert (error.param, error.message) == (own, f"Not '{own}'.")


def test_instructions_and_text_are_called_what_they_are() -> None:
    names = read(instructions="x").names
    found = [errors.invalid("No.", param=f"messages[{number}].content") for number in (0, 1)]
    for error in found:
        names.rename(error)
    assert [error.param for error in found] == ["instructions.content", "input.content"]
