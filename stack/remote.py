"""What is in a registry, by crane: it logs in as docker does, and takes plain HTTP from this machine."""

from __future__ import annotations

import contextlib
import json
import re
import struct
import subprocess
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from stack import golang
from stack.step import StepFailed, output

# The number that the header of a program has for its architecture, by that architecture's name in images.
MACHINES = {0x3E: "amd64", 0xB7: "arm64"}
PYTHON = re.compile(r"^(\./)?usr/bin/python3\.\d+$")


def index(tag: str, members: Sequence[str]) -> str:
    """Put images of one platform each together under a tag; the digest of that."""
    parts = [part for member in members for part in ("--manifest", member)]
    return output([_binary(), "index", "append", "--tag", tag, *parts]).strip().rpartition("@")[2]


def digest(reference: str) -> str:
    """The digest of what a tag names."""
    return output([_binary(), "digest", reference]).strip()


def members(reference: str) -> dict[str, str]:
    """The digest of each platform's image in an index."""
    return platforms(json.loads(output([_binary(), "manifest", reference])))


def platforms(manifest: Mapping[str, Any]) -> dict[str, str]:
    """The digest by `os/architecture` of what an index lists; attestations are of no platform."""
    listed = {
        f"{one['platform']['os']}/{one['platform']['architecture']}": str(one["digest"])
        for one in manifest.get("manifests", [])
    }
    return {platform: found for platform, found in listed.items() if platform != "unknown/unknown"}


def configured(reference: str) -> str:
    """The `os/architecture` that an image says it is for."""
    found = json.loads(output([_binary(), "config", reference]))
    return f"{found['os']}/{found['architecture']}"


def altered(reference: str, tag: str) -> str:
    """An image with one more label, under a tag; its digest, which is another one."""
    output([_binary(), "mutate", reference, "--label", "modelset.dev/altered=true", "--tag", tag])
    return digest(tag)


def machine(reference: str) -> str:
    """The architecture that the Python of an image was compiled for."""
    with _exported(reference) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
        return architecture(beginnings(archive), reference)


def architecture(programs: Iterable[bytes], of: str) -> str:
    """The architecture of the first program, by the beginning of its file; StepFailed where there is none."""
    header = next(iter(programs), b"")
    if len(header) < 20 or header[:4] != b"\x7fELF":
        raise StepFailed(f"{of} has no Python in /usr/bin")
    (number,) = struct.unpack_from("<H", header, 18)
    return MACHINES.get(number, f"machine {number:#x}")


def beginnings(archive: tarfile.TarFile) -> Iterator[bytes]:
    """The first bytes of each Python in an archive of an image's files."""
    for member in archive:
        if member.isfile() and PYTHON.match(member.name) and (file := archive.extractfile(member)):
            yield file.read(20)


@contextlib.contextmanager
def _exported(reference: str) -> Iterator[IO[bytes]]:
    """All files of an image as one archive; it is ended early where the body has seen enough."""
    exporter = subprocess.Popen([_binary(), "export", reference, "-"], stdout=subprocess.PIPE)
    assert exporter.stdout is not None
    try:
        yield exporter.stdout
    finally:
        exporter.terminate()
        exporter.stdout.close()
        exporter.wait()


def _binary() -> Path:
    return golang.tool("crane")
