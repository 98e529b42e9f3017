"""Who wrote what to the API server, and when, as managedFields and resourceVersions tell."""

from __future__ import annotations

from tests.e2e.support.kube import Kube, Manifest

OPERATOR = "modelset-operator"
KINDS = ("ollamamodelsets", "statefulsets", "services", "rayservices", "pods", "events")


def of_operator(kube: Kube) -> dict[str, tuple[str, ...]]:
    """What the operator wrote in a namespace: object -> its writes' times, or its resourceVersion.

    The resourceVersion stands for an object that nobody else writes to once it was applied.
    """
    return {
        f"{kind}/{item['metadata']['name']}": _trace(kind, item)
        for kind in KINDS
        for item in kube.find(kind)
        if any(field["manager"] == OPERATOR for field in item["metadata"].get("managedFields", []))
    }


def _trace(kind: str, item: Manifest) -> tuple[str, ...]:
    if kind == "ollamamodelsets":
        return (item["metadata"]["resourceVersion"],)
    return tuple(field["time"] for field in item["metadata"]["managedFields"] if field["manager"] == OPERATOR)
