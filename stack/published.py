"""What our images and the chart are called in a registry."""

from __future__ import annotations

import dataclasses
import os
import re

from stack.step import StepFailed

IMAGES = ("operator", "proxy")
_REGISTRY = re.compile(r"^[a-z0-9.-]+(:\d+)?(/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*$")
_LOOPBACK = re.compile(r"^(localhost|127\.\d+\.\d+\.\d+)(:|/|$)")


@dataclasses.dataclass(frozen=True)
class Published:
    """Names below a registry, and a path in it, such as `ghcr.io/somebody`."""

    registry: str
    version: str

    def __post_init__(self) -> None:
        if not _REGISTRY.match(self.registry):
            raise StepFailed(
                f"REGISTRY is {self.registry!r}: use a host and a path, such as registry.example/team"
            )

    @property
    def images(self) -> dict[str, str]:
        """Each of our images by its name in images/: `<registry>/modelset-<name>:<version>`."""
        return {name: f"{self.registry}/modelset-{name}:{self.version}" for name in IMAGES}

    @property
    def charts(self) -> str:
        """Where `helm push` puts the chart: apart from the operator's image of the same name and tag."""
        return f"oci://{self.registry}/charts"

    @property
    def chart(self) -> str:
        """What `helm install` is told."""
        return f"{self.charts}/modelset-operator"

    @property
    def plain_http(self) -> bool:
        """Whether the registry is on this machine, where no certificate can be had."""
        return bool(_LOOPBACK.match(self.registry))


def pinned(image: str, digest: str) -> str:
    """An image by its digest instead of its tag."""
    return f"{image.rpartition(':')[0]}@{digest}"


def named(version: str) -> Published:
    """Names below $REGISTRY. Owners on GitHub may have capitals, names of images must not."""
    registry = os.environ.get("REGISTRY", "")
    if not registry:
        raise StepFailed(
            "REGISTRY is not set: a registry that you may push to, such as registry.example/team"
        )
    return Published(registry.removesuffix("/").lower(), version)
