"""`make run`: the proxy on Ray Serve in front of an Ollama, no cluster; models are pulled when it starts."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

from benchmarks import loopback
from stack import cache, images, models
from stack.step import output
from tests.e2e.support.waiting import until

START_SECONDS = 120
# Ollama wants blobs from another host name than the manifest: two names of one container.
REGISTRY, BLOBS = "model-registry.local", "model-blobs.local"
SERVE_REGISTRY = (
    "registry serve /etc/model-registry/registry.yml & exec nginx -c /etc/model-registry/nginx.conf"
)


@pytest.fixture
def ollama() -> Iterator[str]:
    """The URL of an Ollama that holds nothing and can pull from a registry with the demo models."""
    name = f"modelset-e2e-{uuid.uuid4().hex[:8]}"
    run = ["docker", "run", "--detach", "--rm", "--network", name]
    aliases = ["--network-alias", REGISTRY, "--network-alias", BLOBS]
    registry = [*run, "--name", f"{name}-registry", *aliases, "--entrypoint", "sh", models.registry_image()]
    server = [*run, "--name", f"{name}-ollama", "--publish", "127.0.0.1::11434", images.ensure("ollama")]
    output(["docker", "network", "create", name])
    try:
        output([*registry, "-c", SERVE_REGISTRY])
        output(server)
        port = output(["docker", "port", f"{name}-ollama", "11434/tcp"]).splitlines()[0].rsplit(":", 1)[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        for container in (f"{name}-ollama", f"{name}-registry"):
            subprocess.run(
                ["docker", "rm", "--force", "--volumes", container], capture_output=True, check=False
            )
        output(["docker", "network", "rm", name])


@pytest.fixture
def proxy(ollama: str, tmp_path: Path) -> Iterator[str]:
    """The base URL of the proxy that `make run` started in front of it."""
    assert _is_free(8000), "port 8000 is taken; `make run` needs it"
    environment = {
        **os.environ,
        "OLLAMA_URL": ollama,
        "OLLAMA_CHAT_MODELS": f"{REGISTRY}:5000/library/smollm2:135m",
        "OLLAMA_EMBEDDING_MODELS": f"{REGISTRY}:5000/library/all-minilm",
        "OLLAMA_PULL_INSECURE": "true",
        # HAProxy's own two ports; another Serve on the machine may hold the usual ones.
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(loopback.free_port()),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(loopback.free_port()),
    }
    log = tmp_path / "make-run.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            ["make", "run"],
            cwd=cache.REPOSITORY,
            env=environment,
            stdout=out,
            stderr=out,
            start_new_session=True,
            # A run in the background may have been told to ignore what Ctrl-C sends.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    try:
        until(
            lambda: _listed("http://127.0.0.1:8000/v1"),
            lambda names: len(names) == 2,
            seconds=START_SECONDS,
            what=f"both models are listed, see {log}",
        )
        yield "http://127.0.0.1:8000/v1"
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(timeout=60)
        until(lambda: _is_free(8000), bool, seconds=30, what="Serve has left port 8000")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def _listed(base_url: str) -> list[str]:
    try:
        answer = httpx.get(f"{base_url}/models", timeout=5)
    except httpx.TransportError:
        return []
    return [model["id"] for model in answer.json()["data"]] if answer.is_success else []


def test_models_are_pulled_and_answer(proxy: str) -> None:
    names = _listed(proxy)
    chat_model = next(name for name in names if re.search("smollm2", name))
    embedding_model = next(name for name in names if re.search("all-minilm", name))
    with openai.OpenAI(base_url=proxy, api_key="unused") as client:
        chat = client.chat.completions.create(
            model=chat_model, messages=[{"role": "user", "content": "hi"}], max_completion_tokens=8
        )
        embedding = client.embeddings.create(model=embedding_model, input="hello")
    assert chat.choices[0].message.content
    assert len(embedding.data[0].embedding) == 384
