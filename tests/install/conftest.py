"""An empty kind cluster of three nodes, which goes afterwards, and what stands for the internet."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from stack import cluster, components, engine, golang, pins
from tests.e2e.support import diagnostics
from tests.install import kuberay, registry, terminal


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and report.when == "call":
        diagnostics.attach(report, item.name, ["default"])
    return report


@pytest.fixture(scope="session")
def empty_cluster() -> Iterator[None]:
    """Three nodes, and the registry for models that stands for Ollama's."""
    assert cluster.NAME.endswith("-install"), (
        f"{cluster.NAME} is not to be installed on; use make e2e-install"
    )
    assert cluster.WORKERS == 2
    engine.ensure()
    cluster.down()
    try:
        cluster.ensure()
        cluster.install_model_registry()
        yield
    finally:
        cluster.down()


@pytest.fixture(scope="session")
def images(empty_cluster: None) -> Iterator[registry.Registry]:
    """A registry to push to, with the images of others, which nodes find under their public names."""
    with registry.serving() as served:
        for name in ("ollama", "kuberay"):
            served.mirror(components.ensure(name), pins.load().pulled[name])
        yield served


@pytest.fixture(scope="session")
def kuberay_repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Helm repository with KubeRay's chart."""
    with kuberay.repository(pins.load().pulled["kuberay"], tmp_path_factory.mktemp("kuberay")) as address:
        yield address


@pytest.fixture
def typing(empty_cluster: None) -> Iterator[terminal.Terminal]:
    """A terminal whose kubectl is set to the cluster."""
    programs: dict[str, Path] = {name: golang.tool(name) for name in ("helm", "kubectl")}
    with terminal.opened(programs, {"KUBECONFIG": str(cluster.kubeconfig())}) as opened:
        yield opened
