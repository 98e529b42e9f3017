"""Large bodies are read in short steps, and mean the same as if they were read at once."""

import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from modelset_proxy.openai import cutting, errors, reading, requests, steps

# More than is decoded in one go.
_LARGE = 300_000
# Steps that a body of a megabyte takes at least: each is of 128 KiB.
_STEPS_A_MEGABYTE = 7
_TRICKY = ["a", '"', "\\", "\n", "é", "ж", "\U0001f600", "{", "}", "[", "]", ",", '"messages":[']


def _user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def _chat(messages: list[Any], **more: Any) -> bytes:
    return json.dumps({"model": "m", "messages": messages, **more}).encode()


def _read(reader: reading.Reader[Any], body: bytes) -> tuple[Any, int]:
    work = reader.in_steps(body)
    count = 0
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value, count
        count += 1


_LARGE_BODIES: dict[str, tuple[reading.Reader[Any], bytes]] = {
    "many messages": (requests.chat, _chat([_user("hi")] * 12_000)),
    "messages indented": (
        requests.chat,
        json.dumps({"messages": [_user("hi")] * 9_000, "model": "m"}, indent=1).encode(),
    ),
    "space": (requests.chat, b" " * 2_000_000 + _chat([_user("hi")]) + b"\n" * 2_000_000),
    "a long text": (requests.chat, _chat([_user("long " * 100_000)])),
    "a long text in letters of several bytes": (
        requests.chat,
        json.dumps({"model": "m", "messages": [_user("ж\U0001f600" * 60_000)]}, ensure_ascii=False).encode(),
    ),
    "a long text of escapes": (requests.chat, _chat([_user('é\n"\\\U0001f600' * 50_000)])),
    "parts": (requests.chat, _chat([_user([{"type": "text", "text": "x" * 2_000}] * 500)])),
    "an image": (
        requests.chat,
        _chat([_user([{"type": "image_url", "image_url": {"url": "data:," + "A" * 500_000}}])]),
    ),
    "long texts elsewhere": (
        requests.chat,
        _chat(
            [_user("hi")],
            tools=[
                {
                    "type": "function",
                    "function": {"name": "f", "description": "d" * _LARGE, "parameters": {"p" * 2_000: "v"}},
                }
            ],
        ),
    ),
    "prompts": (requests.completion, json.dumps({"model": "m", "prompt": ["a" * 500] * 2048}).encode()),
    "a prompt": (requests.completion, json.dumps({"model": "m", "prompt": "a b " * 300_000}).encode()),
    "token ids": (requests.completion, json.dumps({"prompt": [7] * 90_000, "model": "m"}).encode()),
    "inputs": (requests.embedding, json.dumps({"input": ["é" * 200] * 2048, "model": "m"}).encode()),
}


@pytest.mark.parametrize("case", _LARGE_BODIES)
def test_a_large_body_is_read_in_steps_as_it_would_be_at_once(case: str) -> None:
    reader, body = _LARGE_BODIES[case]
    request, count = _read(reader, body)
    assert request == reader(body)
    assert count >= len(body) / 1e6 * _STEPS_A_MEGABYTE


def test_what_is_decoded_in_one_go_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def decode(data: bytes, **how: Any) -> Any:
        sizes.append(len(data))
        return real(data, **how)

    real = cutting.msgspec.json.decode
    monkeypatch.setattr(cutting.msgspec.json, "decode", decode)
    cut = steps.at_once(cutting.cut(_chat([_user("x" * 10**6), *[_user("hi")] * 20_000]), "messages"))
    sizes += [len(cut.outline), *(len(batch.body) for batch in cut.batches)]
    assert max(sizes) < 200_000 < sum(sizes)


def test_a_small_body_is_read_at_once() -> None:
    assert _read(requests.chat, _chat([_user("x" * 100_000)]))[1] == 0


def test_texts_like_json_and_bodies_that_are_none_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_SHORT_BYTES", 0)
    monkeypatch.setattr(cutting, "_STEP_BYTES", 200)
    monkeypatch.setattr(cutting, "_TEXT_BYTES", 40)
    chance = random.Random(1)  # noqa: S311

    def text() -> str:
        return "".join(chance.choices(_TRICKY, k=chance.choice([0, 3, 60])))

    accepted = 0
    for _ in range(300):
        fields = {"messages": [_user(text()) for _ in range(9)], "model": "m", "user": text(), "tools": []}
        body = bytearray(json.dumps(fields, ensure_ascii=chance.random() < 0.5).encode())
        if chance.random() < 0.5:
            body[chance.randrange(len(body))] = chance.choice(b'"\\{}[],:0a')
        at_once = _outcome(requests.chat, bytes(body))
        in_steps = _outcome(lambda body: _read(requests.chat, body)[0], bytes(body))
        # Which of several mistakes is told first may differ.
        assert in_steps == at_once or (in_steps == "invalid_json" and not _is_json(bytes(body)))
        accepted += not isinstance(at_once, str)
    assert 100 < accepted < 300


def _outcome(read: Callable[[bytes], Any], body: bytes) -> Any:
    try:
        return read(body)
    except errors.ApiError as error:
        return error.code


def _is_json(body: bytes) -> bool:
    try:
        json.loads(body)
    except ValueError:
        return False
    return True


_MANY = [_user("hi")] * 9_000
_MANY_BYTES = _chat(_MANY)
_WRONG: dict[str, tuple[reading.Reader[Any], bytes, str | None, str | None]] = {
    "a late message": (requests.chat, _chat([*_MANY, {"role": "user"}]), "messages[9000].content", None),
    "a late role": (requests.chat, _chat([*_MANY, {"role": "x"}]), "messages[9000].role", "invalid_value"),
    "another field": (requests.chat, _chat(_MANY, temperature=3), "temperature", "invalid_value"),
    "no model": (requests.chat, json.dumps({"messages": _MANY}).encode(), "model", None),
    "a comma too much": (requests.chat, _MANY_BYTES[:-2] + b",]}", None, "invalid_json"),
    "brackets": (requests.chat, _MANY_BYTES[:-2] + b"}}", None, "invalid_json"),
    "an end too early": (requests.chat, _MANY_BYTES[:-1], None, "invalid_json"),
    "a text without end": (requests.chat, _chat([_user("x" * _LARGE)])[:-5], None, "invalid_json"),
    "half a pair": (requests.chat, _chat([_user("x" * _LARGE + "\ud800")]), None, "invalid_json"),
    "too many items": (
        requests.completion,
        json.dumps({"model": "m", "prompt": [1] * 110_000}).encode(),
        "prompt",
        None,
    ),
    "an item too complex": (
        requests.chat,
        _chat([_user("a"), _user([{"type": "text", "text": ""}] * 12_000)]),
        "messages[1]",
        "request_too_complex",
    ),
    "other fields too complex": (
        requests.chat,
        _chat([], metadata=[[]] * 100_000),
        None,
        "request_too_complex",
    ),
    "nothing but brackets": (requests.chat, b"[" * _LARGE, None, "request_too_complex"),
    "a text too long": (requests.chat, _chat([_user("x" * 2 * _LARGE)]), None, "string_above_max_length"),
}
# Than they are, so that bodies that are beyond need not be larger than others.
_SMALLER = {
    "_MOST_ITEMS": 30_000,
    "_MOST_ITEM_BYTES": 100_000,
    "_MOST_OTHER_BYTES": 100_000,
    "_MOST_TEXT_BYTES": 500_000,
}


@pytest.mark.parametrize("case", _WRONG)
def test_what_is_wrong_in_a_large_body_is_named(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for limit, smaller in _SMALLER.items():
        monkeypatch.setattr(cutting, limit, smaller)
    reader, body, param, code = _WRONG[case]
    with pytest.raises(errors.ApiError) as refusal:
        _read(reader, body)
    assert (refusal.value.status, refusal.value.param) == (400, param)
    assert code is None or refusal.value.code == code


def test_of_two_fields_of_one_name_the_last_counts_in_a_large_body_too() -> None:
    many, one = json.dumps(_MANY)[1:-1], json.dumps(_user("last"))
    for body in (
        f'{{"model":"m","messages":[{many}],"messages":[{one}]}}',
        f'{{"model":"m","messages":[{many}],"m\\u0065ssages":[{one}]}}',
    ):
        assert [message.content for message in _read(requests.chat, body.encode())[0].messages] == ["last"]
