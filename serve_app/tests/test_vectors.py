"""Translation both ways, against what real Ollama answered."""

import json
from typing import Any

import pytest

from serve_app.tests import vectors_io

_NAMES = sorted(path.stem for path in vectors_io.FOLDER.glob("*.json"))


def _vector(name: str) -> dict[str, Any]:
    vector: dict[str, Any] = json.loads((vectors_io.FOLDER / f"{name}.json").read_text())
    return vector


def test_every_case_has_a_recorded_vector() -> None:
    assert sorted(vectors_io.REQUESTS) == _NAMES


@pytest.mark.parametrize("name", _NAMES)
def test_request_becomes_the_native_request(name: str) -> None:
    vector = _vector(name)
    path, native = vectors_io.to_native(vector["path"], json.dumps(vector["request"]).encode())
    assert (path, json.loads(native)) == (vector["native_path"], vector["native_request"])


@pytest.mark.parametrize("name", _NAMES)
def test_native_answer_becomes_the_reply(name: str) -> None:
    vector = _vector(name)
    body = json.dumps(vector["request"]).encode()
    status, reply = vectors_io.to_openai(
        vector["path"], body, vector["native_status"], vector["native_answer"].encode()
    )
    assert (status, vectors_io.normal(reply)) == (vector["status"], vector["reply"])
