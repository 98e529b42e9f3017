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


_WITH_LOGPROBS = [
    name for name in _NAMES if name.startswith("chat") and _vector(name)["request"].get("logprobs")
]


@pytest.mark.parametrize("name", _WITH_LOGPROBS)
def test_log_probabilities_are_those_of_the_content(name: str) -> None:
    """Ollama gives those of thoughts, tags and calls too: a chunk each, of nothing, in a stream."""
    vector = _vector(name)
    body = json.dumps(vector["request"]).encode()
    _, reply = vectors_io.to_openai(vector["path"], body, 200, vector["native_answer"].encode())
    for part in vectors_io.normal(reply):
        for choice in part["choices"] if part != "[DONE]" else []:
            if choice["logprobs"] is not None:
                said = choice["delta"] if "delta" in choice else choice["message"]
                tokens = [entry["token"] for entry in choice["logprobs"]["content"]]
                assert "".join(tokens) == (said["content"] or "")
                assert tokens or not vector["request"].get("stream")
