"""Who is measured: how each is started in front of an Ollama, real or stub, and when it is ready."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from benchmarks import container, load_tool, loopback, processes

_START_SECONDS = 120.0


@dataclasses.dataclass(frozen=True)
class Upstream:
    """The Ollama behind: its URL, its process, and the chat and embedding models to ask for."""

    url: str
    group: processes.Group
    chat_models: tuple[str, ...]
    embedding_model: str


@dataclasses.dataclass(frozen=True)
class Running:
    """A contender that answers at ``url``; ``api`` is what to speak, ``part`` names a process's part."""

    url: str
    group: processes.Group
    api: str = "openai"
    part: Callable[[str], str] = lambda _command_line: "all"


Start = Callable[[Upstream, Path], AbstractContextManager[Running]]


def _direct(api: str) -> Start:
    @contextlib.contextmanager
    def start(upstream: Upstream, _folder: Path) -> Iterator[Running]:
        yield Running(upstream.url, upstream.group, api)

    return start


@contextlib.contextmanager
def _forward(upstream: Upstream, folder: Path) -> Iterator[Running]:
    """A proxy in Go that hands bytes on and knows nothing of what they mean."""
    with load_tool.forward(upstream.url, folder) as (url, group):
        yield Running(url, group)


@contextlib.contextmanager
def _uvicorn(upstream: Upstream, folder: Path) -> Iterator[Running]:
    port = loopback.free_port()
    command: list[str | Path] = [
        *("/opt/venv/bin/uvicorn", "--factory", "modelset_proxy.serving.proxy:build"),
        *("--host", "127.0.0.1", "--port", str(port), "--no-access-log"),
    ]
    with _started(command, _ours(upstream), folder / "uvicorn.log", port, upstream) as group:
        yield Running(f"http://127.0.0.1:{port}", group)


@contextlib.contextmanager
def in_front_of(upstreams: Sequence[Upstream], folder: Path) -> Iterator[Running]:
    """Ours on uvicorn, in front of several servers at once."""
    several = dataclasses.replace(upstreams[0], url=",".join(upstream.url for upstream in upstreams))
    with _uvicorn(several, folder) as running:
        yield running


@contextlib.contextmanager
def _serve(upstream: Upstream, folder: Path) -> Iterator[Running]:
    """Ray Serve as the image has it, with ports and folders that no other Ray has."""
    port = loopback.free_port()
    haproxy = folder / "h"  # short: the path of a socket may have 97 characters, and Serve adds 68
    haproxy.mkdir()
    config = folder / "serve.json"
    application = {"name": "default", "route_prefix": "/", "import_path": "modelset_proxy.app:app"}
    config.write_text(
        json.dumps({"http_options": {"host": "127.0.0.1", "port": port}, "applications": [application]})
    )
    environment = {
        **_ours(upstream),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(loopback.free_port()),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(loopback.free_port()),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(haproxy / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(haproxy / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(haproxy),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(haproxy / "server-state"),
        "RAY_TMPDIR": str(folder),
    }
    command: list[str | Path] = ["serve", "run", "--address", "local", config]
    with _started(command, environment, folder / "serve.log", port, upstream) as group:
        url = f"http://127.0.0.1:{port}"
        # Until HAProxy has seen the replica healthy, requests go through a slow stand-in.
        group.until(lambda: _by_the_shortcut(url), seconds=_START_SECONDS, what="HAProxy knows the replica")
        yield Running(url, group, part=_part_of_serve)


def _by_the_shortcut(url: str) -> bool:
    """Whether the application got a request from the replica's HTTP server, so that the id is its own."""
    return (loopback.header(f"{url}/v1/models", "x-request-id") or "").startswith("req_")


def _part_of_serve(command_line: str) -> str:
    if "haproxy" in command_line.split(" ", 1)[0]:
        return "HAProxy"
    return "replica" if "ServeReplica" in command_line else "rest of Ray"


def _litellm(provider: str) -> Start:
    """LiteLLM with one worker, as it is installed, through one of its two ways to Ollama."""

    @contextlib.contextmanager
    def start(upstream: Upstream, folder: Path) -> Iterator[Running]:
        port = loopback.free_port()
        config = folder / f"litellm-{provider}.json"
        config.write_text(json.dumps(_litellm_config(provider, upstream)))
        environment = {
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_MODE": "PRODUCTION",
            "LITELLM_LOG": "ERROR",
            # Nobody checks keys here; it does not start without one unless it is told so.
            "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
        }
        command: list[str | Path] = [
            *("/opt/litellm/bin/litellm", "--config", config),
            *("--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"),
        ]
        log = folder / f"litellm-{provider}.log"
        with _started(command, environment, log, port, upstream, container.with_litellm) as group:
            yield Running(f"http://127.0.0.1:{port}", group)

    return start


def _litellm_config(provider: str, upstream: Upstream) -> dict[str, object]:
    def entry(model: str, prefix: str) -> dict[str, object]:
        base = f"{upstream.url}/v1" if provider == "openai" else upstream.url
        parameters = {"model": f"{prefix}/{model}", "api_base": base, "api_key": "unused"}
        return {"model_name": model, "litellm_params": parameters}

    embedding_prefix = "openai" if provider == "openai" else "ollama"
    return {
        "model_list": [
            *(entry(model, provider) for model in upstream.chat_models),
            entry(upstream.embedding_model, embedding_prefix),
        ],
        "litellm_settings": {"telemetry": False, "request_timeout": 600},
    }


@contextlib.contextmanager
def _started(
    command: Sequence[str | Path],
    env: Mapping[str, str],
    log: Path,
    port: int,
    upstream: Upstream,
    image: Callable[[], str] = container.ours,
) -> Iterator[processes.Group]:
    """Start a contender and wait until it lists the models."""
    group = container.Container(image(), command, env=env, folder=log.parent, log=log)
    name = json.dumps(upstream.chat_models[0]).encode()

    def lists() -> bool:
        return name in (loopback.get(f"http://127.0.0.1:{port}/v1/models") or b"")

    try:
        group.until(lists, seconds=_START_SECONDS, what=f"{log.stem} lists the models")
        yield group
    finally:
        group.stop()


def _ours(upstream: Upstream) -> dict[str, str]:
    return {"OLLAMA_URL": upstream.url}


# In front of the stub.
CONTENDERS: dict[str, Start] = {
    "direct": _direct("openai"),
    "Go, forwards only": _forward,
    "Serve + HAProxy": _serve,
    "uvicorn": _uvicorn,
    "LiteLLM ollama_chat/": _litellm("ollama_chat"),
    "LiteLLM openai/": _litellm("openai"),
}
# In front of a real Ollama, whose two APIs are contenders too.
REAL_CONTENDERS: dict[str, Start] = {
    "Ollama native": _direct("ollama"),
    "Ollama /v1": _direct("openai"),
    **{name: start for name, start in CONTENDERS.items() if start not in (CONTENDERS["direct"], _forward)},
}
