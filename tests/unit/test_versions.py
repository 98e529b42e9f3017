"""One version, written in several files, and pins that a machine can check."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from modelset_operator.manifests import ray
from stack import cache, golang, pins

CHART = yaml.safe_load((cache.REPOSITORY / "charts" / "modelset-operator" / "Chart.yaml").read_text())
VALUES = yaml.safe_load((cache.REPOSITORY / "charts" / "modelset-operator" / "values.yaml").read_text())
GO_MODULES = sorted(path.name for path in golang.MODULES.iterdir())
REQUIREMENTS = sorted(pins.FOLDER.glob("*.txt"))


def _package_version(folder: str) -> str:
    text = (cache.REPOSITORY / folder / "pyproject.toml").read_text()
    return str(tomllib.loads(text)["project"]["version"])


@pytest.mark.parametrize(
    "version",
    [
        pytest.param(_package_version("operator"), id="operator"),
        pytest.param(_package_version("serve_app"), id="proxy"),
        pytest.param(CHART["version"], id="chart"),
        pytest.param(CHART["appVersion"], id="images"),
    ],
)
def test_package_images_and_chart_have_one_version(version: str) -> None:
    assert version == pins.load().version


def test_the_chart_names_the_ollama_that_is_built_and_pulled() -> None:
    built = golang.module_version("ollama", "github.com/ollama/ollama").removeprefix("v")
    default = VALUES["defaults"]["ollamaImage"]
    assert f"{default['repository']}:{default['tag']}" == pins.load().pulled["ollama"]
    assert str(default["tag"]) == built


def test_kuberay_is_told_the_version_of_ray_that_the_proxy_brings() -> None:
    installed = re.findall(
        r"^ray(?:\[\w+\])?==(\S+)", (pins.FOLDER / "serve-app.txt").read_text(), re.MULTILINE
    )
    assert installed == [ray.RAY_VERSION]


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("kuberay", "github.com/ray-project/kuberay/ray-operator"),
        ("metrics-server", "sigs.k8s.io/metrics-server"),
    ],
)
def test_an_image_is_the_same_built_and_pulled(name: str, module: str) -> None:
    assert pins.load().pulled[name].endswith(f":{golang.module_version(name, module)}")


@pytest.mark.parametrize("path", REQUIREMENTS, ids=lambda path: path.name)
def test_python_packages_are_pinned_with_hashes_and_without_an_index(path: Path) -> None:
    logical_lines = path.read_text().replace("\\\n", " ").splitlines()
    required = [line for line in logical_lines if line and not line.lstrip().startswith("#")]
    assert required
    for line in required:
        assert re.match(r"[A-Za-z0-9._\[\]-]+==\S+", line), line
        assert "--hash=sha256:" in line, line
        assert "://" not in line, line


def test_the_client_is_the_one_whose_own_tests_are_run() -> None:
    versions = {
        re.findall(r"^openai==(\S+)", (pins.FOLDER / name).read_text(), re.MULTILINE)[0]
        for name in ("dev.txt", "openai-suite.txt")
    }
    assert len(versions) == 1


@pytest.mark.parametrize("group", GO_MODULES)
def test_go_modules_are_pinned_with_sums(group: str) -> None:
    go_mod = (golang.MODULES / group / "go.mod").read_text()
    go_sum = (golang.MODULES / group / "go.sum").read_text()
    headline = re.search(r"^// pinned: (\S+)$", go_mod, re.MULTILINE)
    assert headline is not None
    assert f"{headline[1]} {golang.module_version(group, headline[1])} h1:" in go_sum


def test_every_tool_names_a_package_of_its_module() -> None:
    for name, (group, package) in golang.TOOLS.items():
        assert package in (golang.MODULES / group / "go.mod").read_text(), name


DOCUMENTED = (cache.REPOSITORY / "docs" / "install.md").read_text()


@pytest.mark.parametrize(
    ("component", "version"),
    [
        ("Kubernetes", golang.module_version("kubernetes", "k8s.io/kubernetes")),
        ("Kubernetes", pins.load().pulled["kind-node"].partition("@")[0].partition(":")[2]),
        ("KubeRay", golang.module_version("kuberay", "github.com/ray-project/kuberay/ray-operator")),
        ("Ray", ray.RAY_VERSION),
        ("Ollama", golang.module_version("ollama", "github.com/ollama/ollama")),
    ],
)
def test_the_table_of_versions_has_what_is_tried(component: str, version: str) -> None:
    (row,) = re.findall(rf"^\| {component} \|.*\| ([^|]*) \|$", DOCUMENTED, re.MULTILINE)
    assert re.search(rf"(?<![\d.]){re.escape(version.removeprefix('v'))}(?![\d.])", row)


def test_the_oldest_kubernetes_that_is_documented_is_the_oldest_that_the_chart_takes() -> None:
    oldest = re.match(r">=(\d+\.\d+)\.0-0$", CHART["kubeVersion"])
    assert oldest
    assert f"| Kubernetes | {oldest[1]} or newer |" in DOCUMENTED


def test_kuberay_is_installed_in_the_version_that_is_tried() -> None:
    tried = golang.module_version("kuberay", "github.com/ray-project/kuberay/ray-operator").removeprefix("v")
    for text in (DOCUMENTED, (cache.REPOSITORY / "README.md").read_text()):
        assert re.findall(r"kuberay/kuberay-operator --version (\S+)", text) == [tried]


def test_the_ollama_that_is_to_be_mirrored_is_the_default_one() -> None:
    assert f"copy `{pins.load().pulled['ollama']}`" in DOCUMENTED
