"""`make run` and what it needs: an Ollama of its own, a registry with the demo models, port 8000."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx

from benchmarks import loopback
from stack import cache, components, models
from stack.step import output
from tests.e2e.support.waiting import until

START_SECONDS = 120
PULL_SECONDS = 120
# Ollama wants blobs from another host name than the manifest: two names of one container.
REGISTRY, BLOBS = "model-registry.local", "model-blobs.local"
CHAT_MODEL = f"{REGISTRY}:5000/library/smollm2:135m"
EMBEDDING_MODEL = f"{REGISTRY}:5000/library/all-minilm"
SERVE_REGISTRY = (
    "registry serve /etc/model-registry/registry.yml & exec nginx -c /etc/model-registry/nginx.conf"
)
PORT = 8000


@contextlib.contextmanager
def ollama() -> Iterator[str]:
    """Run an Ollama that holds nothing and can pull from a registry with the demo models; yield its URL."""
    name = f"modelset-e2e-{uuid.uuid4().hex[:8]}"
    run = ["docker", "run", "--detach", "--rm", "--network", name]
    aliases = ["--network-alias", REGISTRY, "--network-alias", BLOBS]
    registry = [*run, "--name", f"{name}-registry", *aliases, "--entrypoint", "sh", models.registry_image()]
    server = [*run, "--name", f"{name}-ollama", "--publish", "127.0.0.1::11434", components.ensure("ollama")]
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


def pull(ollama: str, model: str) -> None:
    """Have the Ollama hold a model of the registry, either of which may be about to start."""
    pulling = {"model": model, "insecure": True, "stream": False}

    def pulled() -> str:
        try:
            return httpx.post(f"{ollama}/api/pull", json=pulling, timeout=PULL_SECONDS).text
        except httpx.TransportError as problem:
            return str(problem)

    until(pulled, lambda said: '"success"' in said, seconds=PULL_SECONDS, what=f"{model} is pulled")


@contextlib.contextmanager
def proxy(settings: Mapping[str, str], log: Path) -> Iterator[str]:
    """Run `make run` with settings until it lists two models; yield its base URL."""
    assert _is_free(PORT), f"port {PORT} is taken; `make run` needs it"
    environment = {
        **os.environ,
        **settings,
        # HAProxy's own two ports; another Serve on the machine may hold the usual ones.
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(loopback.free_port()),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(loopback.free_port()),
    }
    base_url = f"http://127.0.0.1:{PORT}/v1"
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
            lambda: listed(base_url),
            lambda names: len(names) == 2,
            seconds=START_SECONDS,
            what=f"both models are listed, see {log}",
        )
        yield base_url
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(timeout=60)
        until(lambda: _is_free(PORT), bool, seconds=30, what=f"Serve has left port {PORT}")


def listed(base_url: str) -> list[str]:
    """Return the names of the models that are listed; none while nobody answers."""
    try:
        answer = httpx.get(f"{base_url}/models", timeout=5)
    except httpx.TransportError:
        return []
    return [model["id"] for model in answer.json()["data"]] if answer.is_success else []


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
