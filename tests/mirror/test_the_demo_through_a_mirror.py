"""`STACK=pull MIRROR=... make demo`, where the mirror holds what is built here under the names of the pins.

It shows that every image is pulled by its pin through a mirror, and that all of it works from there: base
image, node image by its digest, images loaded into the node. It does not show that the public images work:
the node image's digest, and with it its pin, is that of the one which is built here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack import cache, cluster, components, engine, golang, images, pins
from stack.step import output
from tests.install import registry

_NAMES = "{{.Repository}} {{.Tag}} {{.Digest}}"
NEEDED = ("base", "ollama", "kuberay")


def _images() -> set[str]:
    """The names of the engine's images, those that were pulled by a digest with it."""
    lines = output(["docker", "image", "ls", "--digests", "--format", _NAMES]).splitlines()
    named = [line.split() for line in lines]
    return {
        f"{repository}:{tag}" if tag != "<none>" else f"{repository}@{digest}"
        for repository, tag, digest in named
        if repository != "<none>"
    }


@pytest.fixture
def mirror() -> Iterator[registry.Registry]:
    """A mirror with all that the demo needs but the node image."""
    engine.ensure()
    with registry.serving(network="bridge") as served:
        here = {name: components.ensure(name) for name in NEEDED}
        before = _images()
        try:
            for name, image in here.items():
                served.push(image, images.full_name(pins.load().pulled[name]))
            yield served
        finally:
            # What was pulled, and what was built on it: the next mirror has another address.
            if new := _images() - before:
                output(["docker", "image", "rm", *new])


@pytest.fixture
def checkout(mirror: registry.Registry, tmp_path: Path) -> Path:
    """This checkout, with the digest in its pin that the node image has in the mirror."""
    folder = tmp_path / "checkout"
    shutil.copytree(
        cache.REPOSITORY, folder, ignore=shutil.ignore_patterns(".git", "__pycache__", ".*_cache")
    )
    name = f"kindest/node:{golang.module_version('kubernetes', 'k8s.io/kubernetes')}"
    digest = mirror.push(components.ensure("kind-node"), images.full_name(name))
    file = folder / "pins" / "versions.toml"
    pinned = file.read_text()
    assert pinned.count(pins.load().pulled["kind-node"]) == 1
    file.write_text(pinned.replace(pins.load().pulled["kind-node"], f"{name}@{digest}"))
    return folder


@pytest.mark.timeout(2400)
def test_all_of_it_is_pulled_by_its_pins(mirror: registry.Registry, checkout: Path) -> None:
    assert cluster.NAME.endswith("-mirror"), f"{cluster.NAME} is not to be taken away; use make e2e-mirror"
    environment = {**os.environ, "STACK": "pull", "MIRROR": mirror.address}
    try:
        done = subprocess.run(
            ["make", "demo"], cwd=checkout, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "smollm2: " in done.stdout
        for name in NEEDED:
            pulled = f"pull {mirror.address}/{images.full_name(pins.load().pulled[name])}"
            assert f"✓ {pulled}" in done.stderr
        assert f"✓ pull {mirror.address}/docker.io/kindest/node:" in done.stderr
        assert "▸ build image modelset/base" not in done.stderr
    finally:
        subprocess.run(["make", "down"], cwd=checkout, env=environment, check=True)
