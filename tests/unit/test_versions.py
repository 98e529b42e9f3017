"""One version, written in several files, and pins that a machine can check."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from modelset_operator.manifests import ray
from stack import cache, compat, golang, images, pins

CHART = yaml.safe_load((cache.REPOSITORY / "charts" / "modelset-operator" / "Chart.yaml").read_text())
VALUES = yaml.safe_load((cache.REPOSITORY / "charts" / "modelset-operator" / "values.yaml").read_text())
GO_MODULES = sorted(pins.FOLDER.rglob("go.mod"))
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


@pytest.mark.parametrize("go_mod", GO_MODULES, ids=lambda path: str(path.parent.relative_to(pins.FOLDER)))
def test_go_modules_are_pinned_with_sums(go_mod: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    *_, combination, _, group = go_mod.parent.relative_to(pins.FOLDER.parent).parts
    monkeypatch.setenv("COMPAT", combination if combination in pins.combinations() else "")
    assert golang.group_folder(group) == go_mod.parent
    headline = re.search(r"^// pinned: (\S+)$", go_mod.read_text(), re.MULTILINE)
    assert headline is not None
    go_sum = go_mod.with_name("go.sum").read_text()
    assert f"{headline[1]} {golang.module_version(group, headline[1])} h1:" in go_sum


def test_every_tool_names_a_package_of_its_module() -> None:
    for name, (group, package) in golang.TOOLS.items():
        assert package in (golang.group_folder(group) / "go.mod").read_text(), name


DOCUMENTED = (cache.REPOSITORY / "docs" / "install.md").read_text()


TRIED = ("", "oldest", "newest")  # the combinations by their columns


@pytest.mark.parametrize("stack", ["build", "pull"])
@pytest.mark.parametrize("combination", TRIED)
def test_the_table_of_versions_has_what_is_tried(
    combination: str, stack: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPAT", combination)
    monkeypatch.setattr(images, "source", lambda: stack)
    for component, version in compat.versions().items():
        (row,) = re.findall(rf"^\| {component} \| (.*) \|$", DOCUMENTED, re.MULTILINE)
        cell = row.split(" | ")[1:][TRIED.index(combination)]
        assert re.search(rf"(?<![\d.]){re.escape(version)}(?![\d.])", cell), (component, version)


def test_all_combinations_are_in_the_table() -> None:
    assert set(pins.combinations()) == {*TRIED} - {""}


def test_the_oldest_kubernetes_that_is_documented_is_the_oldest_that_the_chart_takes() -> None:
    oldest = re.match(r">=(\d+\.\d+)\.0-0$", CHART["kubeVersion"])
    assert oldest
    assert f"| Kubernetes | {oldest[1]} or newer |" in DOCUMENTED


def test_the_oldest_that_is_documented_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPAT", "oldest")
    for stack in ("build", "pull"):
        monkeypatch.setattr(images, "source", lambda stack=stack: stack)
        for component, version in compat.versions().items():
            if oldest := re.search(rf"^\| {component} \| ([\d.]+) or newer", DOCUMENTED, re.MULTILINE):
                assert f"{version}.".startswith(f"{oldest[1]}."), (component, stack)


def test_kuberay_is_installed_in_the_version_that_is_tried() -> None:
    tried = golang.module_version("kuberay", "github.com/ray-project/kuberay/ray-operator").removeprefix("v")
    for text in (DOCUMENTED, (cache.REPOSITORY / "README.md").read_text()):
        assert re.findall(r"kuberay/kuberay-operator --version (\S+)", text) == [tried]


def test_the_ollama_that_is_to_be_mirrored_is_the_default_one() -> None:
    assert f"copy `{pins.load().pulled['ollama']}`" in DOCUMENTED
