"""The models of the routing benchmark: one that is there already, twice, each time with weights of its own.

Ollama keeps models apart by the digest of their weights, so one letter of the name inside the second's is
changed. Both run one thread: each server has one core of its own, as a pod on a small node would, and more
threads than cores make Ollama's wait for each other ten times as long as they work.
"""

from __future__ import annotations

import hashlib
import http.client
import json
from pathlib import Path
from urllib.parse import urlsplit

NAMES = ("first:135m", "second:135m")
_WEIGHTS = "application/vnd.ollama.image.model"
_NAME_KEY = b"general.name"
_TYPE_AND_LENGTH = 4 + 8  # bytes in a GGUF between a key and its string


class NotMadeError(Exception):
    """Ollama did not take a model; the message is its answer."""


def make(url: str, models: Path, original: str) -> None:
    """Give a server, and all that share its folder, both models."""
    weights = bytearray(_weights(models, original).read_bytes())
    first, second = NAMES
    _create(url, first, {"from": original})
    at = weights.index(_NAME_KEY) + len(_NAME_KEY) + _TYPE_AND_LENGTH
    weights[at] ^= 0x20  # the first letter in the other case
    digest = f"sha256:{hashlib.sha256(weights).hexdigest()}"
    _post(url, f"/api/blobs/{digest}", bytes(weights))
    _create(url, second, {"files": {"model.gguf": digest}})


def _create(url: str, name: str, source: dict[str, object]) -> None:
    request = {"model": name, "parameters": {"num_thread": 1}, "stream": False, **source}
    _post(url, "/api/create", json.dumps(request).encode())


def _weights(models: Path, name: str) -> Path:
    base, _, tag = name.partition(":")
    manifest = next((models / "manifests").glob(f"*/library/{base}/{tag}"))
    layers = json.loads(manifest.read_text())["layers"]
    digest: str = next(layer["digest"] for layer in layers if layer["mediaType"] == _WEIGHTS)
    return models / "blobs" / digest.replace(":", "-")


def _post(url: str, path: str, body: bytes) -> None:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=120)
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
    finally:
        connection.close()
    if answer.status >= http.HTTPStatus.BAD_REQUEST or b'"error"' in text:
        raise NotMadeError(f"{path}: {text[-300:].decode(errors='replace')}")
