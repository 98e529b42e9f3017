"""Our images for several architectures without buildx: built one by one, put together in the registry.

Foreign ones are built by the same Dockerfiles as this machine's own, with QEMU, which takes longer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stack import cache, components, emulation, engine, remote
from stack.published import Published, pinned
from stack.step import run, step


def push(published: Published, platforms: Sequence[str], labels: Mapping[str, str]) -> dict[str, str]:
    """Build our images for all platforms, push them, and return the digests of their indexes."""
    own = engine.platform()
    for platform in platforms:
        if platform != own:
            emulation.ensure(architecture(platform))
    found: dict[str, str] = {}
    for name, tag in published.images.items():
        parts: list[str] = []
        for platform in platforms:
            built = components.built(name, "" if platform == own else platform, labels)
            parts.append(pushed(built, f"{tag}-{architecture(platform)}"))
        with step(f"put {tag} together from {', '.join(platforms)}"):
            found[name] = remote.index(tag, parts)
    return found


def architecture(platform: str) -> str:
    """The architecture of `os/architecture`."""
    return platform.partition("/")[2]


def pushed(built: str, tag: str) -> str:
    """Push an image of the engine under a name; the reference to it by its digest there."""
    with step(f"push {tag}"):
        log = cache.log("push")
        run(["docker", "tag", built, tag], log=log)
        run(["docker", "push", tag], log=log)
        run(["docker", "image", "rm", tag], log=log)  # the name, which `make clean` would not know
    return pinned(tag, remote.digest(tag))
