"""The Go module in load/: built once, run as the stub and as the driver."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import processes
from stack import cache, golang
from stack.step import run, step

_SOURCES = Path(__file__).parent / "load"
# Longer than any limit that the driver accepts, twice: it may wait for its warm-up as well.
_LONGEST_SECONDS = 300


class LoadFailedError(Exception):
    """The driver could not measure; the message is its own."""


@functools.cache
def binary() -> Path:
    """Return the built program."""

    def build(folder: Path) -> None:
        with step("build the load generator"):
            run(
                [golang.go(), "build", "-trimpath", "-buildvcs=false", "-o", f"{folder}/", "."],
                log=cache.log("go-load"),
                env={"GOTOOLCHAIN": "local", "GOWORK": "off", "GOCACHE": str(cache.root() / "go" / "build")},
                cwd=_SOURCES,
            )

    return cache.entry("go-bin", "load", cache.key(_SOURCES), build) / "load"


def stub(folder: Path, parallel: int = 0) -> contextlib.AbstractContextManager[tuple[str, processes.Group]]:
    """Run the stub, with so many slots a model, 0 for any number; yields its URL and its process."""
    return _listening("stub", folder, "-parallel", str(parallel))


def forward(upstream: str, folder: Path) -> contextlib.AbstractContextManager[tuple[str, processes.Group]]:
    """Run the proxy that only forwards; yields its URL and its process."""
    return _listening("forward", folder, "-upstream", upstream)


@contextlib.contextmanager
def _listening(kind: str, folder: Path, *options: str) -> Iterator[tuple[str, processes.Group]]:
    log = folder / f"{kind}.log"
    group = processes.Group([binary(), kind, *options], env=dict(os.environ), log=log)
    try:
        group.until(lambda: "\n" in log.read_text(), seconds=10, what=f"load {kind} listens")
        yield f"http://{json.loads(log.read_text())['address']}", group
    finally:
        group.stop()


def _command(kind: str, flags: dict[str, str]) -> list[str]:
    options = [part for name, value in flags.items() for part in (f"-{name}", value)]
    return [str(binary()), "drive", kind, *options]


def drive(kind: str, **flags: str) -> dict[str, Any]:
    """Run one kind of load to its end and return what it measured; raises LoadFailedError."""
    done = subprocess.run(
        _command(kind, flags), capture_output=True, text=True, timeout=_LONGEST_SECONDS, check=False
    )
    if done.returncode != 0:
        raise LoadFailedError(f"{kind}: {done.stderr.strip()[-500:]}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@contextlib.contextmanager
def holding(**flags: str) -> Iterator[dict[str, Any]]:
    """Hold idle streams open inside the body; yields how many, completed afterwards by how many ended."""
    process = subprocess.Popen(
        _command("hold", flags), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        if process.stdin is None or process.stdout is None:
            raise LoadFailedError("hold: no pipes")
        first = process.stdout.readline()
        result: dict[str, Any] = json.loads(first) if first else {}
        try:
            yield result
        finally:
            process.stdin.close()
            last = process.stdout.readline()
            process.wait(timeout=_LONGEST_SECONDS)
    if not last:
        raise LoadFailedError("hold: ended without a result")
    result.update(json.loads(last))
