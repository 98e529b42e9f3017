"""Large bodies are made part by part, and are the JSON that they would be at once."""

import asyncio
import json
from typing import Any

import pytest

from modelset_proxy.engines import encoding

_VALUES: dict[str, Any] = {
    "many items": [{"role": "user", "content": "é\n"}] * 20_000,
    "a long text": "é\n\x01\U0001f600" * 100_000,
    "long texts among short": [{"content": "a"}, {"content": "b" * 300_000, "images": ["c" * 200_000]}, {}],
    "one long item": ["a" * 300_000],
    "numbers": [1, 2.5, None, True] * 20_000,
    "a wide object": {str(number): "x" * 20 for number in range(10_000)},
    "small": {"a": []},
}


@pytest.mark.parametrize("case", _VALUES)
def test_parts_are_small_and_make_the_whole(case: str) -> None:
    parts = list(encoding.encode({"model": "m", "bulk": _VALUES[case]}))
    assert json.loads(b"".join(parts)) == {"model": "m", "bulk": _VALUES[case]}
    # A control character takes six bytes.
    assert max(map(len, parts)) < 6 * 128 * 1024


async def test_others_have_their_turn_between_parts() -> None:
    body = encoding.body({"model": "m", "bulk": ["x" * 1000] * 1000}, "bulk")
    assert isinstance(body, encoding.Parts)
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    count = len([part async for part in body])
    task.cancel()
    assert turns >= count - 1 > 7


def test_a_small_body_is_bytes() -> None:
    assert encoding.body({"model": "m", "bulk": "x"}, "bulk") == b'{"model":"m","bulk":"x"}'


@pytest.mark.parametrize(
    "value",
    [["x" * 300_000], ["x" * 60_000] * 5, ["x" * 1000] * 1000],
    ids=["one long text", "two at once", "many at once"],
)
def test_parts_of_plain_text_take_no_more_than_a_step(value: list[str]) -> None:
    made = list(encoding.encode(value))
    assert json.loads(b"".join(made)) == value
    assert max(map(len, made)) <= 128 * 1024


def test_many_values_without_a_text_are_large_too() -> None:
    assert isinstance(encoding.body({"bulk": [""] * 20_000}, "bulk"), encoding.Parts)
