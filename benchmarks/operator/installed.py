"""What is there before the operator: our chart, and KubeRay's CustomResourceDefinitions."""

from __future__ import annotations

import contextlib
import functools
from pathlib import Path
from typing import Any

import yaml

from benchmarks.operator.api import Api, Object
from stack import cluster, golang, step

_DEFINITION = "CustomResourceDefinition"
_OWN = f"namespaces/{cluster.OPERATOR_NAMESPACE}"
_RBAC = "/apis/rbac.authorization.k8s.io/v1"
_COLLECTIONS = {
    "Namespace": "/api/v1/namespaces",
    _DEFINITION: "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    "ClusterRole": f"{_RBAC}/clusterroles",
    "ClusterRoleBinding": f"{_RBAC}/clusterrolebindings",
    "Role": f"{_RBAC}/{_OWN}/roles",
    "RoleBinding": f"{_RBAC}/{_OWN}/rolebindings",
}
# The loader that is written in Python takes seconds for a megabyte.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_KUBERAY = ("ray.io_rayclusters.yaml", "ray.io_rayservices.yaml")


async def install(api: Api, namespaces: list[str]) -> None:
    """Create all of it; the operator has the rights that the chart gives it, and no others."""
    own = [cluster.OPERATOR_NAMESPACE, *namespaces]
    wanted: list[Object] = [{"kind": "Namespace", "metadata": {"name": name}} for name in own]
    wanted += [one for one in _chart() if one["kind"] in _COLLECTIONS]
    wanted += _kuberay()
    for manifest in wanted:
        await api.create(_COLLECTIONS[manifest["kind"]], manifest)
    missing = {one["metadata"]["name"] for one in wanted if one["kind"] == _DEFINITION}
    async with contextlib.aclosing(api.follow(_COLLECTIONS[_DEFINITION])) as following:
        async for found in following:
            if _is_served(found):
                missing.discard(found["metadata"]["name"])
            if not missing:
                return


def _is_served(definition: Object) -> bool:
    conditions = (definition.get("status") or {}).get("conditions") or ()
    return any(one["type"] == "Established" and one["status"] == "True" for one in conditions)


def arguments() -> list[str]:
    """Return what the chart tells the operator."""
    [deployment] = [one for one in _chart() if one["kind"] == "Deployment"]
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    told: list[str] = container["args"]
    return told


@functools.cache
def _chart() -> list[dict[str, Any]]:
    names = ["--namespace", cluster.OPERATOR_NAMESPACE, cluster.RELEASE]
    rendered = step.output([golang.tool("helm"), "template", *names, cluster.CHART])
    return [one for one in yaml.load_all(rendered, _LOADER) if one]


def _kuberay() -> list[dict[str, Any]]:
    folder = golang.module_folder("kuberay", "github.com/ray-project/kuberay/ray-operator")
    return [_read(folder / "config" / "crd" / "bases" / name) for name in _KUBERAY]


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.load(path.read_text(), _LOADER)  # noqa: S506 - a safe one
    return found
