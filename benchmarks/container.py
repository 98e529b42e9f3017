"""The image that users run, and one with LiteLLM in it as well: all that is Python has one interpreter.

Its processes are in the host's network, so that they are reached on loopback addresses as all others are, and
the host's /proc shows what they take.
"""

from __future__ import annotations

import functools
import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import processes
from stack import components, engine, images, pins, step


def ours() -> str:
    """The tag of the proxy's image, after it was built where it was missing."""
    return components.ensure("proxy")


@functools.cache
def with_litellm() -> str:
    """The tag of that with LiteLLM in it, after it was built where it was missing."""
    context = {"requirements.txt": pins.FOLDER / "bench.txt"}
    return images.build("bench", pins.load().version, context, {"PROXY": ours()})


@functools.cache
def python() -> str:
    """The version of the interpreter in it."""
    version = "import platform; print(platform.python_version())"
    return step.output(["docker", "run", "--rm", ours(), "python", "-c", version]).strip()


class Container(processes.Group):
    """A program in a container of an image. It may write below ``folder``, where its log is as well.

    Of the environment it gets what the image sets, and ``env``.
    """

    def __init__(
        self,
        image: str,
        command: Sequence[str | Path],
        *,
        env: Mapping[str, str],
        folder: Path,
        log: Path,
    ) -> None:
        self._name = f"modelset-bench-{uuid.uuid4().hex[:8]}"
        # Its owner may look at its processes and end them.
        options = ["--rm", "--name", self._name, "--user", f"{os.getuid()}:{os.getgid()}"]
        options += ["--network", "host", "--ipc", "host", "--ulimit", "nofile=16384:16384"]
        options += ["--volume", f"{folder}:{folder}", "--env", processes.MARK]
        for name, value in {"HOME": str(folder), **env}.items():
            options += ["--env", f"{name}={value}"]
        # Docker would pass on what it writes, line by line.
        options += ["--entrypoint", ""]
        told = ["sh", "-c", 'exec "$@" > "$0" 2>&1', str(log)]
        super().__init__(["docker", "run", *options, image, *told, *command], env=dict(os.environ), log=log)

    def stop(self) -> None:
        """End it, and see that nothing of it is left."""
        try:
            super().stop()
        finally:
            step.succeeds(["docker", "rm", "--force", self._name])


def ensure() -> None:
    """Have the engine and the images there."""
    engine.ensure()
    with_litellm()
