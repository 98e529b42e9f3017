"""Whole responses and their streams, made of pieces and read by OpenAI's own types."""

import json
from collections.abc import Iterable
from typing import Any

import pydantic
import pytest
from openai.types import responses as theirs

from modelset_proxy.openai import errors, pieces, responses
from serve_app.tests.openai.responses.test_conversation import read

_EVENT: pydantic.TypeAdapter[theirs.ResponseStreamEvent] = pydantic.TypeAdapter(theirs.ResponseStreamEvent)
_END = pieces.Piece(end=pieces.End("stop", 3, 5))
_CUT = pieces.Piece(end=pieces.End("length", 3, 5))
_CALLS = [pieces.ToolCall("call_1", "f", '{"a":1}'), pieces.ToolCall("call_2", "g", "{}")]
_ALL = [
    pieces.Piece(reasoning="h"),
    pieces.Piece(reasoning="m"),
    pieces.Piece("Hel"),
    pieces.Piece("lo"),
    pieces.Piece(tool_calls=_CALLS),
    _END,
]
_LOGPROB = pieces.Logprob("Hi", -0.5, None, [pieces.TokenLogprob("Ho", -1.0, None)])
_TOLD = {
    "token": "Hi",
    "logprob": -0.5,
    "bytes": [72, 105],
    "top_logprobs": [{"token": "Ho", "logprob": -1.0, "bytes": [72, 111]}],
}


def _events(data: bytes) -> list[dict[str, Any]]:
    """Read events; each has to be one that OpenAI's client knows, named as its data says."""
    assert data.endswith(b"\n\n")
    events = []
    for event in data.decode()[:-2].split("\n\n"):
        name, payload = event.split("\n")
        found = json.loads(payload.removeprefix("data: "))
        assert name == f"event: {found['type']}"
        _EVENT.validate_python(found)
        events.append(found)
    return events


def _stream(given: Iterable[pieces.Piece], **body: Any) -> list[dict[str, Any]]:
    stream = responses.Stream(read(stream=True, **body))
    return _events(b"".join(stream.events(0, [piece]) for piece in given) + stream.end())


def _whole(given: Iterable[pieces.Piece], **body: Any) -> dict[str, Any]:
    output = responses.Output()
    output.add(given)
    data, _ = responses.whole(read(**body), output)
    theirs.Response.model_validate_json(data, strict=False)
    response: dict[str, Any] = json.loads(data)
    return response


def _without_ids(output: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in item.items() if name != "id"} for item in output]


def _message(text: str, status: str = "completed") -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {"type": "message", "role": "assistant", "content": [part], "status": status}


def _thoughts(text: str, status: str = "completed") -> dict[str, Any]:
    content = [{"type": "reasoning_text", "text": text}]
    return {"type": "reasoning", "summary": [], "content": content, "status": status}


def _call(call: pieces.ToolCall, status: str = "completed") -> dict[str, Any]:
    told = {"call_id": call.id, "name": call.name, "arguments": call.arguments}
    return {"type": "function_call", **told, "status": status}


_OUTPUTS: dict[str, tuple[list[pieces.Piece], list[dict[str, Any]]]] = {
    "all there is": (_ALL, [_thoughts("hm"), _message("Hello"), *map(_call, _CALLS)]),
    "all at once": (
        [pieces.Piece("Hello", "hm", _CALLS, end=_END.end)],
        [_thoughts("hm"), _message("Hello"), *map(_call, _CALLS)],
    ),
    "calls only": ([pieces.Piece(tool_calls=_CALLS), _END], [*map(_call, _CALLS)]),
    "nothing": ([_END], [_message("")]),
    "thoughts only": ([pieces.Piece(reasoning="hm"), _END], [_thoughts("hm"), _message("")]),
    "cut": ([pieces.Piece("Hel"), _CUT], [_message("Hel", "incomplete")]),
    "cut while thinking": ([pieces.Piece(reasoning="hm"), _CUT], [_thoughts("hm", "incomplete")]),
    "cut after thoughts": (
        [pieces.Piece(reasoning="hm"), pieces.Piece("Hel"), _CUT],
        [_thoughts("hm"), _message("Hel", "incomplete")],
    ),
    "cut while calling": (
        [pieces.Piece(tool_calls=_CALLS), _CUT],
        [_call(_CALLS[0]), _call(_CALLS[1], "incomplete")],
    ),
    "thoughts again": (
        [
            pieces.Piece(reasoning="a"),
            pieces.Piece("b"),
            pieces.Piece(reasoning="c"),
            pieces.Piece("d"),
            _END,
        ],
        [_thoughts("a"), _message("b"), _thoughts("c"), _message("d")],
    ),
}


@pytest.mark.parametrize("case", _OUTPUTS)
def test_what_comes_is_in_items(case: str) -> None:
    given, output = _OUTPUTS[case]
    whole = _whole(given)
    assert _without_ids(whole["output"]) == output
    last = _stream(given)[-1]["response"]
    assert _without_ids(last["output"]) == output
    ids = [item["id"] for item in whole["output"]]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(
    ("reason", "status", "details"),
    [
        ("stop", "completed", None),
        ("tool_calls", "completed", None),
        ("length", "incomplete", {"reason": "max_output_tokens"}),
        ("content_filter", "incomplete", {"reason": "content_filter"}),
    ],
)
def test_how_it_ended_is_told(reason: str, status: str, details: dict[str, str] | None) -> None:
    given = [pieces.Piece("Hel"), pieces.Piece(end=pieces.End(reason, 3, 5))]
    whole, last = _whole(given), _stream(given)[-1]
    assert last["type"] == f"response.{status}"
    for response in (whole, last["response"]):
        assert (response["status"], response["incomplete_details"]) == (status, details)
        assert (response["completed_at"] is not None) == (status == "completed")
        assert response["usage"] == {
            "input_tokens": 3,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": 5,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 8,
        }


def test_tokens_are_counted() -> None:
    request = read(stream=True)
    stream, output = responses.Stream(request), responses.Output()
    stream.events(0, _ALL)
    output.add(_ALL)
    _, tokens = responses.whole(request, output)
    for counted in (tokens, stream.tokens):
        assert (counted.prompt, counted.completion) == (3, 5)


_TOOL = {"type": "function", "name": "f", "description": "does", "parameters": {"a": 1}, "strict": True}
_SETTINGS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (
        {},
        {
            "object": "response",
            "model": "m",
            "instructions": None,
            "max_output_tokens": None,
            "temperature": None,
            "top_p": None,
            "top_logprobs": 0,
            "tools": [],
            "tool_choice": "auto",
            "parallel_tool_calls": True,
            "reasoning": {"effort": None, "summary": None},
            "metadata": {},
            "background": False,
            "previous_response_id": None,
            "store": False,
            "truncation": "disabled",
            "error": None,
        },
    ),
    ({"store": True, "truncation": "auto"}, {"store": False, "truncation": "disabled"}),
    *(
        (given, given)
        for given in (
            {"instructions": "x"},
            {"max_output_tokens": 5, "temperature": 0.5, "top_p": 0.5, "top_logprobs": 3},
            {"tools": [_TOOL], "tool_choice": {"type": "function", "name": "f"}},
            {"parallel_tool_calls": False},
            {"reasoning": {"effort": "low", "summary": "auto"}},
            {"metadata": {"a": "b"}},
            {"text": {"format": {"type": "json_object"}, "verbosity": "low"}},
        )
    ),
    (
        {"tools": [{"type": "function", "name": "f"}]},
        {
            "tools": [
                {"type": "function", "name": "f", "description": None, "parameters": None, "strict": None}
            ]
        },
    ),
    (
        {"text": {"format": {"type": "json_schema", "name": "n", "schema": {}}}},
        {
            "text": {
                "format": {
                    "type": "json_schema",
                    "name": "n",
                    "schema": {},
                    "description": None,
                    "strict": None,
                },
                "verbosity": None,
            }
        },
    ),
]


@pytest.mark.parametrize(("given", "told"), _SETTINGS)
def test_what_was_asked_for_is_told(given: dict[str, Any], told: dict[str, Any]) -> None:
    begun, *_, ended = _stream(_ALL, **given)
    for response in (_whole(_ALL, **given), begun["response"], ended["response"]):
        assert {name: response[name] for name in told} == told
        assert response["id"].startswith("resp_")


def test_a_stream_is_told_step_by_step() -> None:
    events = _stream(_ALL)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["type"].removeprefix("response.") for event in events] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "reasoning_text.delta",
        "reasoning_text.delta",
        "reasoning_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        *[
            "output_item.added",
            "function_call_arguments.delta",
            "function_call_arguments.done",
            "output_item.done",
        ]
        * 2,
        "completed",
    ]
    assert [event.get("output_index") for event in events] == [None] * 2 + [0] * 7 + [1] * 7 + [2] * 4 + [
        3
    ] * 4 + [None]
    items = events[-1]["response"]["output"]
    for event in events[2:-1]:
        item = items[event["output_index"]]
        assert event.get("item_id", item["id"]) == item["id"]
        if event["type"] == "response.output_item.added":
            assert event["item"]["id"] == item["id"]
            assert event["item"]["status"] == "in_progress"
            assert not event["item"].get("content")
            assert not event["item"].get("arguments")
        if event["type"] == "response.output_item.done":
            assert event["item"] == item
        if event["type"] == "response.content_part.added":
            assert event["part"]["text"] == ""
        if event["type"] == "response.content_part.done":
            assert event["part"] == item["content"][0]
    assert [event["delta"] for event in events if "delta" in event] == [
        "h",
        "m",
        "Hel",
        "lo",
        '{"a":1}',
        "{}",
    ]
    done = [
        event.get("text", event.get("arguments")) for event in events if {"text", "arguments"} & event.keys()
    ]
    assert done == ["hm", "Hello", '{"a":1}', "{}"]
    assert {event["response"]["id"] for event in events if "response" in event} == {
        events[0]["response"]["id"]
    }


def test_a_cut_item_ends_as_it_is_told_in_the_end() -> None:
    *_, done, last = _stream([pieces.Piece("Hel"), _CUT])
    assert (done["item"], done["item"]["status"]) == (last["response"]["output"][0], "incomplete")


def test_log_probabilities_come_with_the_words_and_with_the_message() -> None:
    given = [pieces.Piece("Hi", logprobs=[_LOGPROB]), _END]
    asked = {"include": ["message.output_text.logprobs"], "top_logprobs": 1}
    events = _stream(given, **asked)
    [delta, done] = [event["logprobs"] for event in events if "logprobs" in event]
    assert delta == done == [_TOLD]
    for response in (_whole(given, **asked), events[-1]["response"]):
        assert response["output"][0]["content"][0]["logprobs"] == [_TOLD]


def test_a_stream_that_fails_says_so_in_both_ways_that_clients_look_for() -> None:
    stream = responses.Stream(read(stream=True))
    data = stream.events(0, [pieces.Piece(reasoning="hm"), pieces.Piece("Hel")])
    error = errors.ApiError(
        502, "It broke at 'messages'.", kind="server_error", param="messages", code="broken"
    )
    *before, failed, told = _events(data + stream.failure(error))
    assert [failed["sequence_number"], told["sequence_number"]] == [len(before), len(before) + 1]
    assert (failed["type"], failed["response"]["status"]) == ("response.failed", "failed")
    assert failed["response"]["error"] == {"code": "server_error", "message": "It broke at 'input'."}
    assert _without_ids(failed["response"]["output"]) == [_thoughts("hm"), _message("Hel", "incomplete")]
    assert failed["response"]["usage"] is before[0]["response"]["usage"] is None
    said = {"code": "broken", "message": "It broke at 'input'.", "param": "input"}
    assert {name: told[name] for name in said} == said
    assert told["error"] == {**said, "type": "server_error"}
