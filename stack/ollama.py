"""How models are made with an Ollama: blobs, creating, pushing. Failures are StepFailed."""

from __future__ import annotations

import hashlib
import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from http import HTTPStatus

from stack.step import StepFailed

ANSWER_SECONDS = 60
CREATE_SECONDS = 600


def await_answer(url: str) -> None:
    """Wait until an Ollama that was just started answers."""
    deadline = time.monotonic() + ANSWER_SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"{url}/api/version", timeout=5):
                return
        except OSError as error:
            if time.monotonic() > deadline:
                raise StepFailed(
                    f"Ollama does not answer at {url} after {ANSWER_SECONDS} s: {error}"
                ) from error
            time.sleep(0.2)


def create(url: str, name: str, files: Mapping[str, bytes], **fields: object) -> None:
    """Make a model of files; ``fields`` are more of those of /api/create."""
    _post_json(f"{url}/api/create", {"model": name, "files": blobs(url, files), **fields})


def blobs(url: str, files: Mapping[str, bytes]) -> dict[str, str]:
    """Have an Ollama hold files, and return their digests as /api/create takes them."""
    return {file: _put(url, content) for file, content in files.items()}


def copy(url: str, name: str, other: str) -> None:
    """Give a model another name too."""
    _post_json(f"{url}/api/copy", {"source": name, "destination": other})


def push(url: str, name: str) -> None:
    """Push a model to the registry that its name names, over plain HTTP."""
    _post_json(f"{url}/api/push", {"model": name, "insecure": True})


def _put(url: str, content: bytes) -> str:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    blob = f"{url}/api/blobs/{digest}"
    if not _exists(blob):  # Ollama hangs up on a blob that it holds already
        _post(blob, content)
    return digest


def _exists(url: str) -> bool:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=ANSWER_SECONDS):
            return True
    except urllib.error.HTTPError as error:
        if error.code == HTTPStatus.NOT_FOUND:
            return False
        raise


def _post_json(url: str, body: Mapping[str, object]) -> None:
    _post(url, json.dumps({**body, "stream": False}).encode())


def _post(url: str, body: bytes) -> None:
    request = urllib.request.Request(url, data=body, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=CREATE_SECONDS) as response:
            answer = response.read()
    except urllib.error.HTTPError as error:
        raise StepFailed(f"{url}: {error.code} {error.read().decode(errors='replace')[:500]}") from error
    if b'"error"' in answer:
        raise StepFailed(f"{url}: {answer.decode()[:500]}")
