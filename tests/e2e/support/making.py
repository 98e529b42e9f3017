"""Somebody who may make sets, and what else is granted; the sets that they try to make."""

from __future__ import annotations

import json
from typing import Any

from tests.e2e.support import modelset as ms
from tests.e2e.support.kube import Kube, Manifest

MAKER = "maker"
NOWHERE = {"nodeSelector": {"modelset.dev/test": "nowhere"}}


def manifest(
    name: str,
    models: list[dict[str, Any]] | None = None,
    *,
    ollama: dict[str, Any] | None = None,
    proxy: dict[str, Any] | None = None,
    registry: dict[str, Any] | None = None,
) -> Manifest:
    """A set whose pods find no node: nothing of it has to run."""
    made = ms.manifest(name, models or [ms.EMBEDDING])
    made["spec"]["ollama"] |= NOWHERE | (ollama or {})
    made["spec"]["proxy"] |= NOWHERE | (proxy or {})
    made["spec"]["registry"] |= registry or {}
    if "cache" in made["spec"]["registry"]:
        made["spec"]["registry"]["cache"] |= NOWHERE
    return made


def may(kube: Kube, role: str, group: str, resource: str, *names: str) -> None:
    """Let the maker get, create and patch objects of a resource, all or those of these names."""
    rule = {"apiGroups": [group], "resources": [resource], "verbs": ["get", "create", "patch"]}
    rbac = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": role}}
    kube.apply({**rbac, "kind": "Role", "rules": [{**rule, "resourceNames": list(names)} if names else rule]})
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role}
    subject = {"kind": "ServiceAccount", "name": MAKER, "namespace": kube.namespace}
    kube.apply({**rbac, "kind": "RoleBinding", "roleRef": reference, "subjects": [subject]})


def attempt(kube: Kube, manifest: Manifest) -> str:
    """Apply as the maker, without effect."""
    user = f"--as=system:serviceaccount:{kube.namespace}:{MAKER}"
    return kube.run(
        "apply",
        user,
        "--dry-run=server",
        "--server-side",
        "--force-conflicts",
        "-f",
        "-",
        stdin=json.dumps(manifest),
    )
