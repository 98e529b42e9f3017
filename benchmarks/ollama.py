"""Real Ollama servers on loopback: OLLAMA_BINARY, and a copy of OLLAMA_MODELS that they may change."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from benchmarks import contenders, loopback, processes

CHAT_MODEL = "smollm2:135m"
EMBEDDING_MODEL = "all-minilm"
_START_SECONDS = 30.0


@contextlib.contextmanager
def started(folder: Path, *, copies: int, **settings: str) -> Iterator[tuple[contenders.Upstream, ...]]:
    """Run so many servers over one copy of the models; ``settings`` are environment variables.

    Several get a core each, in turn.
    """
    cores = sorted(os.sched_getaffinity(0))
    binary, models = os.environ["OLLAMA_BINARY"], folder / "models"
    shutil.copytree(os.environ["OLLAMA_MODELS"], models)
    with contextlib.ExitStack() as stack:
        servers = []
        for number in range(copies):
            address = f"127.0.0.1:{loopback.free_port()}"
            environment = {
                **os.environ,
                "OLLAMA_HOST": address,
                "OLLAMA_MODELS": str(models),
                "OLLAMA_NOPRUNE": "1",
                "OLLAMA_NO_CLOUD": "1",
                "OLLAMA_KEEP_ALIVE": "-1",
                **settings,
            }
            log = folder / f"ollama-{number}.log"
            core = ["taskset", "--cpu-list", str(cores[number % len(cores)])] if copies > 1 else []
            group = processes.Group([*core, binary, "serve"], env=environment, log=log)
            stack.callback(group.stop)
            url = f"http://{address}"
            group.until(
                lambda url=url: loopback.get(f"{url}/api/version") is not None,  # type: ignore[misc]
                seconds=_START_SECONDS,
                what="Ollama answers",
            )
            servers.append(contenders.Upstream(url, group, (CHAT_MODEL,), EMBEDDING_MODEL))
        yield tuple(servers)
