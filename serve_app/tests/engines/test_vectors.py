"""Vectors are taken out of an answer as it comes, wherever its reads end."""

import base64
import json
import struct
from typing import Any

import pytest

from modelset_proxy.engines import port, vectors
from modelset_proxy.engines.compatible import answers as compatible
from modelset_proxy.engines.ollama import answers as ollama
from modelset_proxy.openai import embeddings, errors, pieces, requests

_GIVEN = [[0.5, -1e-7, 2], [1.0, 0.25, -3e5], [0.1, 0.2, 0.3]]
_OLLAMA = json.dumps(
    {"model": "odd[1]", "embeddings": _GIVEN, "load_duration": 2_000_000_000, "prompt_eval_count": 7}
).encode()
_OTHER = json.dumps(
    {
        "data": [
            {"index": number, "embedding": _GIVEN[number], "object": "embedding"} for number in (2, 0, 1)
        ],
        "usage": {"prompt_tokens": 7},
    },
    indent=1,
).encode()


def _read(read: Any, body: bytes, step: int) -> tuple[pieces.Embeddings, port.Attempt]:
    attempt = port.Attempt("", "")
    decoder = vectors.Vectors(read, attempt)
    for start in range(0, len(body), step):
        assert [*decoder.feed(body[start : start + step])] == []
    [found] = decoder.end()
    return found, attempt


def _compatible(body: bytes) -> tuple[list[int], port.Outcome]:
    return compatible.embeddings(3, body)


@pytest.mark.parametrize("step", [1, 2, 7, 64, 10_000])
@pytest.mark.parametrize(("read", "body"), [(ollama.embeddings, _OLLAMA), (_compatible, _OTHER)])
def test_vectors_come_in_the_order_of_the_texts(read: Any, body: bytes, step: int) -> None:
    found, attempt = _read(read, body, step)
    assert [json.loads(bytes(vector)) for vector in found.vectors] == _GIVEN
    assert (found.prompt_tokens, attempt.outcome.prompt_tokens) == (7, 7)
    if read is ollama.embeddings:
        assert attempt.outcome.load_seconds == 2


def test_what_was_read_of_an_answer_is_not_looked_at_again() -> None:
    decoder = vectors.Vectors(ollama.embeddings, port.Attempt("", ""))
    for _ in range(1000):
        decoder.feed(b"[0.25, 0.5],")
    decoder.feed(b"[0.25, 0")
    assert decoder._unread == b"[0.25, 0"


@pytest.mark.parametrize(
    "body",
    [
        b'{"embeddings": [[1,,2]]}',
        b'{"embeddings": [[1, null]]}',
        b'{"embeddings": [[1, "a"]]}',
        b'{"embeddings": [5]}',
        b'{"embeddings": [[1], 1]}',
        b'{"embeddings": [[1], -1]}',
        b'{"embeddings": [[1, 2',
        b"{}",
    ],
)
def test_an_answer_without_its_vectors_is_a_502(body: bytes) -> None:
    with pytest.raises(errors.ApiError) as broken:
        _read(ollama.embeddings, body, 5)
    assert (broken.value.status, broken.value.code) == (502, "incomplete_answer")


def _reply(count: int, size: int, **more: Any) -> list[bytes]:
    request = requests.embedding(json.dumps({"model": "m", "input": ["a"] * count, **more}).encode())
    given = b'{"embeddings": %b}' % json.dumps([[0.5, -0.25] * (size // 2)] * count).encode()
    return list(embeddings.answer(request, _read(ollama.embeddings, given, 50_000)[0]))


@pytest.mark.parametrize("shape", ["float", "base64"])
def test_a_large_reply_is_made_in_parts(shape: str) -> None:
    parts = _reply(100, 1024, encoding_format=shape)
    assert len(parts) > 3
    assert max(map(len, parts)) < 160_000
    data = json.loads(b"".join(parts))["data"]
    assert [entry["index"] for entry in data] == list(range(100))
    for entry in data:
        vector = entry["embedding"]
        if shape == "base64":
            vector = list(struct.unpack("<1024f", base64.b64decode(vector)))
        assert vector == [0.5, -0.25] * 512


def test_vectors_that_are_shorter_than_was_asked_for_are_a_400() -> None:
    assert len(_reply(1, 4, dimensions=4)) == 1
    with pytest.raises(errors.ApiError) as refusal:
        _reply(1, 4, dimensions=5)
    assert (refusal.value.status, refusal.value.param) == (400, "dimensions")
