"""A registry of this machine's own, for releases that nobody is to see."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from string import Template

from stack import cache, golang
from stack.step import StepFailed, say, tail

START_SECONDS = 30
_CONFIGURATION = Template("""\
version: 0.1
storage: {filesystem: {rootdirectory: $folder}}
http: {addr: "$address"}
""")


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address of a registry that keeps what it gets in a folder, while the body runs."""
    binary = golang.binaries("registry") / "registry"
    address = f"127.0.0.1:{_free_port()}"
    folder.mkdir(parents=True, exist_ok=True)
    described = folder / "registry.yml"
    described.write_text(configuration(folder / "data", address))
    log = cache.log("oci-registry")
    with log.open("a") as out:
        server = subprocess.Popen([binary, "serve", described], stdout=out, stderr=out)
    try:
        _await(server, address, log)
        say(f"• registry: {address}, which keeps its images in {folder}")
        yield address
    finally:
        server.terminate()
        server.wait()


def configuration(folder: Path, address: str) -> str:
    """The registry's configuration: where it keeps things, and where it listens."""
    return _CONFIGURATION.substitute(folder=folder, address=address)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def _await(server: subprocess.Popen[bytes], address: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"http://{address}/v2/", timeout=5):
                return
        except (urllib.error.URLError, ConnectionError):
            if server.poll() is not None or time.monotonic() > deadline:
                raise StepFailed(
                    f"the registry at {address} does not answer; log: {log}\n{tail(log)}"
                ) from None
            time.sleep(0.1)
