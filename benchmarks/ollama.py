"""Real Ollama servers on loopback, built as for the stack, that begin without a model."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from benchmarks import contenders, loopback, models, processes
from stack import golang

_START_SECONDS = 30.0
_LOADED = re.compile(r"llama runner started in ([0-9.]+) seconds")


@contextlib.contextmanager
def started(folder: Path, *, copies: int, **settings: str) -> Iterator[tuple[contenders.Upstream, ...]]:
    """Run so many servers over one folder of models; ``settings`` are environment variables.

    Several get a core each, in turn.
    """
    cores = sorted(os.sched_getaffinity(0))
    binary = golang.binaries("ollama") / "ollama"
    with contextlib.ExitStack() as stack:
        servers = []
        for number in range(copies):
            address = f"127.0.0.1:{loopback.free_port()}"
            environment = {
                **os.environ,
                "OLLAMA_HOST": address,
                "OLLAMA_MODELS": str(folder / "models"),
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
            servers.append(contenders.Upstream(url, group, (models.CHAT,), models.EMBEDDING))
        yield tuple(servers)


def loads(log: str) -> list[float]:
    """Return how many seconds each load took that a server's log tells of, which it does twice a load."""
    return [float(seconds) for seconds in _LOADED.findall(log)[::2]]
