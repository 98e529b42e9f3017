"""Taking away all that the stack made: cluster, images, an engine that it started, caches."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from stack import cache, cluster, engine
from stack.step import output, say, step, succeeds


def run() -> None:
    """Remove it all; what the machine had before (packages, a running engine) stays."""
    if succeeds(["docker", "info"]):
        cluster.down()
        _remove_images()
        engine.stop()
    if cache.root().exists():
        with step(f"remove {cache.root()}"):
            # Go makes its module cache read-only.
            subprocess.run(["chmod", "-R", "u+w", cache.root()], check=True)
            shutil.rmtree(cache.root())
    for leftover in Path(cache.REPOSITORY).rglob("__pycache__"):
        shutil.rmtree(leftover)
    say("✓ clean")


def _remove_images() -> None:
    tags = sorted({*_image_list("modelset/*"), *_component_images()})
    if tags:
        with step(f"remove {len(tags)} images"):
            output(["docker", "image", "rm", "--force", *tags])
            if engine.is_ours():  # on a shared engine the build cache is not only of this project
                output(["docker", "builder", "prune", "--force", "--all"])


def _component_images() -> list[str]:
    """Images that the node image was loaded from; they carry their upstream names."""
    return _image_list("--filter", "label=modelset.component")


def _image_list(*which: str) -> list[str]:
    return output(["docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}", *which]).split()
