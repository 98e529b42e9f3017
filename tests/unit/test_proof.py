"""What a release is held to: its platforms, programs, SBOMs and signatures."""

from __future__ import annotations

import base64
import io
import json
import struct
import tarfile
from collections.abc import Mapping
from typing import Any

import pytest

from stack import emulation, multiarch, proof, remote, sbom, signing
from stack.step import StepFailed

AMD64, ARM64 = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"


def listed(digest: str, os: str, architecture: str, **more: str) -> dict[str, Any]:
    return {"digest": digest, "platform": {"os": os, "architecture": architecture, **more}}


@pytest.mark.parametrize(
    ("manifest", "expected"),
    [
        (
            {"manifests": [listed(AMD64, "linux", "amd64"), listed(ARM64, "linux", "arm64", variant="v8")]},
            {"linux/amd64": AMD64, "linux/arm64": ARM64},
        ),
        # What buildx adds: the provenance of an image is of no platform.
        (
            {"manifests": [listed(AMD64, "linux", "amd64"), listed(ARM64, "unknown", "unknown")]},
            {"linux/amd64": AMD64},
        ),
        ({"config": {}, "layers": []}, {}),
    ],
)
def test_the_platforms_of_an_image_are_what_its_index_lists(
    manifest: Mapping[str, Any], expected: Mapping[str, str]
) -> None:
    assert remote.platforms(manifest) == expected


# ---- programs ----


def program(machine: int) -> bytes:
    return b"\x7fELF" + bytes(12) + struct.pack("<HH", 2, machine) + bytes(44)


def archive(**files: bytes) -> tarfile.TarFile:
    """An archive with files, as images are exported: `usr_bin_python3` is `usr/bin/python3`."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name.replace("_", "/"))
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo("usr/bin/python3.99")
        link.type, link.linkname = tarfile.SYMTYPE, "python3"
        tar.addfile(link)
    packed.seek(0)
    return tarfile.open(fileobj=packed, mode="r|")


@pytest.mark.parametrize(("machine", "expected"), [(0x3E, "amd64"), (0xB7, "arm64"), (0xF3, "machine 0xf3")])
def test_an_image_is_of_the_architecture_that_its_python_is_compiled_for(machine: int, expected: str) -> None:
    files = {"usr_bin_bash": program(1), "usr_bin_python3.11": program(machine)}
    assert remote.architecture(remote.beginnings(archive(**files)), "an image") == expected


@pytest.mark.parametrize(
    "files",
    [
        {"usr_bin_bash": program(0x3E)},
        {"usr_lib_python3.11": program(0x3E)},
        {"usr_bin_python3.11": b"#!/bin/sh"},
        {"usr_bin_python3.11": b"#!/bin/sh, and more than a header is long"},
    ],
)
def test_an_image_without_a_python_is_noticed(files: dict[str, bytes]) -> None:
    with pytest.raises(StepFailed, match="an image has no Python"):
        remote.architecture(remote.beginnings(archive(**files)), "an image")


@pytest.mark.parametrize(
    ("entry", "runs"),
    [
        ("enabled\ninterpreter /usr/libexec/qemu\nflags: PF\noffset 0\n", True),
        ("enabled\ninterpreter /usr/libexec/F\nflags: P\noffset 0\n", False),
        ("disabled\ninterpreter /usr/libexec/qemu\nflags: F\noffset 0\n", False),
    ],
)
def test_containers_run_what_the_kernel_holds_an_interpreter_open_for(entry: str, runs: bool) -> None:
    assert emulation.fixed(entry) is runs


def test_an_architecture_that_nobody_emulates_is_refused_by_name() -> None:
    assert multiarch.architecture("linux/s390x") == "s390x"
    with pytest.raises(StepFailed, match="not s390x"):
        emulation.ensure("s390x")


# ---- SBOMs ----


def package(name: str, version: str, purl: str = "") -> dict[str, Any]:
    references = [{"referenceType": "cpe23Type", "referenceLocator": "cpe:2.3:a:x"}]
    if purl:
        references.append({"referenceType": "purl", "referenceLocator": purl})
    return {"name": name, "versionInfo": version, "externalRefs": references}


def bom(*packages: dict[str, Any]) -> dict[str, Any]:
    return {"packages": [*packages, {"name": "the image"}]}


DEBIAN = package("python3", "3.11.2", "pkg:deb/debian/python3@3.11.2?arch=arm64")


def test_packages_are_told_apart_by_who_packed_them() -> None:
    found = sbom.versions(bom(DEBIAN, package("python3", "1", "pkg:pypi/python3@1"), package("x", "2")))
    assert found == {"deb/python3": "3.11.2", "pypi/python3": "1"}


@pytest.mark.parametrize("name", proof.WITNESSES)
def test_an_sbom_names_what_is_pinned(name: str) -> None:
    witness = proof.WITNESSES[name]
    version = proof.pinned_version(name)
    whole = bom(DEBIAN, package(witness, version, f"pkg:pypi/{witness}@{version}"))
    assert proof.listed(whole, name) == [f"{witness} {version}", "python3 3.11.2", "2 packages in all"]


@pytest.mark.parametrize(
    ("packages", "said"),
    [
        ([DEBIAN], "kopf in the SBOM of operator: None"),
        ([DEBIAN, package("kopf", "0.1", "pkg:pypi/kopf@0.1")], "kopf in the SBOM of operator: 0.1"),
        ([package("kopf", proof.pinned_version("operator"), "pkg:pypi/kopf@1")], "no deb/python3"),
    ],
)
def test_an_sbom_that_says_anything_else_is_refused(packages: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(StepFailed, match=said):
        proof.listed(bom(*packages), "operator")


# ---- signatures ----


def test_what_is_attested_is_read_out_of_its_envelope() -> None:
    def envelope(version: str) -> str:
        statement = json.dumps({"predicate": {"spdxVersion": version}})
        return json.dumps({"payload": base64.b64encode(statement.encode()).decode()})

    assert signing.predicate(f"{envelope('1')}\n{envelope('2')}\n") == {"spdxVersion": "2"}


@pytest.mark.parametrize("said", ["Error: no signatures found", "main.go: error: no signatures found in x"])
def test_an_image_that_nobody_signed_is_refused_for_that(said: str) -> None:
    proof.ensure_refused("an image", said)


def test_a_registry_that_does_not_answer_is_no_refusal() -> None:
    with pytest.raises(StepFailed, match="not for its signature: dial tcp"):
        proof.ensure_refused("an image", "dial tcp: connection refused")
