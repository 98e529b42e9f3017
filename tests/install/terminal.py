"""A terminal in which somebody types the commands of a document, one after the other."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stack import cache
from stack.step import StepFailed, output, step

COMMAND_SECONDS = 1200
_EXPORT = re.compile(r"export (\w+)=(\S+)(?:\s+#.*)?")


@dataclass
class Terminal:
    """Keeps what commands export, and what they have left running."""

    environment: dict[str, str]
    background: contextlib.ExitStack

    def run(self, command: str) -> str:
        """What a command printed; StepFailed when it ends badly. One that ends in `&` has begun then."""
        with step(f"$ {command}"):
            if export := _EXPORT.fullmatch(command):
                self.environment[export[1]] = export[2]
                return ""
            if command.endswith("&"):
                return self._start(command.removesuffix("&"))
            return output(
                ["bash", "-euo", "pipefail", "-c", command],
                env=self.environment,
                cwd=cache.REPOSITORY,
                timeout=COMMAND_SECONDS,
            )

    def _start(self, command: str) -> str:
        """Have it run on; return with its first line, which tells that it is there."""
        process = subprocess.Popen(
            ["bash", "-c", f"exec {command}"],
            env={**os.environ, **self.environment},
            cwd=cache.REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.background.callback(process.communicate)
        self.background.callback(process.terminate)
        assert process.stdout
        if not (line := process.stdout.readline()):
            raise StepFailed(f"{command}ended with status {process.wait()}, and said nothing")
        return line


@contextlib.contextmanager
def opened(programs: dict[str, Path], environment: dict[str, str]) -> Iterator[Terminal]:
    """A terminal that finds these programs, and this Python; what was left running ends with it."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as background:
        for name, program in programs.items():
            (Path(folder) / name).symlink_to(program)
        path = os.pathsep.join([folder, str(Path(sys.executable).parent), os.environ["PATH"]])
        # Helm's own folders are the user's.
        helm = {f"HELM_{kind}_HOME": f"{folder}/homes/{kind}" for kind in ("CACHE", "CONFIG", "DATA")}
        yield Terminal({"PATH": path, **helm, **environment}, background)
