"""What is in an image, package by package, by Syft: Debian's packages and Python's, as SPDX."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stack import cache, golang
from stack.step import run, step


def write(reference: str, target: Path, *, plain_http: bool) -> None:
    """Write the SBOM of an image in a registry, which is of one platform."""
    env = {
        "SYFT_CHECK_FOR_APP_UPDATE": "false",
        "SYFT_REGISTRY_INSECURE_USE_HTTP": str(plain_http).lower(),
        # Packages are what anybody asks for: not a digest of each of their files.
        "SYFT_FILE_METADATA_SELECTION": "none",
    }
    with step(f"list what is in {reference}"):
        scan: list[str | Path] = [golang.tool("syft"), "scan", f"registry:{reference}"]
        run([*scan, "--output", f"spdx-json={target}"], log=cache.log("syft"), env=env)


def versions(document: Mapping[str, Any]) -> dict[str, str]:
    """The version of each package of an SPDX document by `<kind>/<name>`, such as `pypi/kopf`, `deb/bash`."""
    return {
        f"{kind}/{package['name']}": package.get("versionInfo", "")
        for package in document["packages"]
        if (kind := _kind(package))
    }


def _kind(package: Mapping[str, Any]) -> str:
    """The type in a package's purl, `pkg:<type>/...`; "" where it has none, as the image itself."""
    locators = [
        one["referenceLocator"] for one in package.get("externalRefs", []) if one["referenceType"] == "purl"
    ]
    return str(locators[0]).removeprefix("pkg:").partition("/")[0] if locators else ""
