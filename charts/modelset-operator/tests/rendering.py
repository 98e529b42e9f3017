"""The chart as helm renders it, for tests.

`make chart-test` names the tools in HELM, HELM_UNITTEST and KUBECONFORM; without it they are taken from PATH.
"""

import copy
import functools
import json
import os
import pathlib
import shutil
import subprocess
from collections.abc import Mapping
from typing import Any

import yaml

CHART = pathlib.Path(__file__).parents[1]
RELEASE, NAMESPACE = "modelset-operator", "modelset-system"
KUBERNETES = "1.34.4"


def tool(variable: str, name: str) -> str:
    """Return where a tool is."""
    found = os.environ.get(variable) or shutil.which(name)
    assert found, f"{name} is neither in ${variable} nor on PATH; `make chart-test` provides it"
    return found


def helm(
    *arguments: str, values: Mapping[str, Any] | None = None, release: str = RELEASE
) -> subprocess.CompletedProcess[str]:
    """Run `helm template` with further arguments, and values as in a file (JSON: in YAML `y` is true)."""
    command = [tool("HELM", "helm"), "template", release, str(CHART), "--namespace", NAMESPACE]
    command += ["--kube-version", KUBERNETES, *arguments]
    if values is not None:
        command += ["--values", "-"]
    return subprocess.run(command, input=json.dumps(values), capture_output=True, text=True, check=False)


def manifests(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """Return what helm printed, what `helm test` makes included."""
    assert done.returncode == 0, done.stderr
    return [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]


@functools.cache
def _rendered(settings: tuple[str, ...]) -> list[dict[str, Any]]:
    return manifests(helm(*(argument for setting in settings for argument in ("--set", setting))))


def render(*settings: str) -> list[dict[str, Any]]:
    """Return what is installed with some settings, as in `--set`; helm runs once for the same ones."""
    return installed(copy.deepcopy(_rendered(settings)))


def is_hook(manifest: dict[str, Any]) -> bool:
    """Tell whether a manifest is `helm test`'s."""
    return "helm.sh/hook" in manifest["metadata"].get("annotations", {})


def installed(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out what `helm test` makes."""
    return [manifest for manifest in found if not is_hook(manifest)]


def of_kind(found: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Return all manifests of a kind."""
    return [manifest for manifest in found if manifest["kind"] == kind]


def one(found: list[dict[str, Any]], kind: str, name: str = "") -> dict[str, Any]:
    """Return the only manifest of a kind, or of a kind and name."""
    (only,) = [manifest for manifest in of_kind(found, kind) if name in ("", manifest["metadata"]["name"])]
    return only


def container(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the operator's container."""
    only: dict[str, Any] = one(found, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    return only
