"""A kind cluster with the operator of a release, installed by that release's own stack."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack import cache, cluster, engine
from tests.e2e.support import namespaces
from tests.e2e.support.kube import Kube

# 0.1.0, as it was reviewed.
RELEASED = "627954c10532e3d94eec841b4f5a1c0c950dd3e1"
INSTALL = "from stack import cluster, step; step.main(cluster.install_operator)"


@pytest.fixture(scope="session")
def released_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the release, from this checkout's history."""
    folder = tmp_path_factory.mktemp("released")
    archive = folder.with_suffix(".tar")
    asked = ["git", "-C", str(cache.REPOSITORY), "archive", "--output", str(archive), RELEASED]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.fail(
            f"the commit of 0.1.0 is not in this checkout ({done.stderr.strip()}); fetch the whole history:"
            " git fetch --unshallow"
        )
    with tarfile.open(archive) as files:
        files.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="session")
def released_operator(released_tree: Path) -> Iterator[None]:
    """The released operator on a cluster that nothing else uses, and that goes afterwards."""
    assert cluster.NAME.endswith("-upgrade"), f"{cluster.NAME} is not to be upgraded; use make e2e-upgrade"
    engine.ensure()
    cluster.down()
    try:
        cluster.ensure()
        cluster.install_kuberay()
        cluster.install_model_registry()
        subprocess.run([sys.executable, "-c", INSTALL], cwd=released_tree, check=True)
        yield
    finally:
        cluster.down()


@pytest.fixture
def kube(released_operator: None, pytestconfig: pytest.Config) -> Iterator[Kube]:
    """A namespace that enforces Pod Security "restricted"."""
    yield from namespaces.fresh("upgraded", pytestconfig)
