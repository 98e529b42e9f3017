"""Who may make sets may not read Secrets by it: a set names only what its maker could read anyway."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.e2e.support import modelset as ms
from tests.e2e.support.kube import Kube, Manifest, Refused

MAKER = "maker"
NOWHERE = {"nodeSelector": {"modelset.dev/test": "nowhere"}}


def _set(name: str, proxy: dict[str, Any], models: list[dict[str, Any]] | None = None) -> Manifest:
    """A set whose pods find no node: nothing of it has to run."""
    manifest = ms.manifest(name, models or [ms.EMBEDDING])
    manifest["spec"]["ollama"] |= NOWHERE
    manifest["spec"]["proxy"] |= NOWHERE | proxy
    return manifest


def _keys(secret: str) -> dict[str, Any]:
    return {"auth": {"apiKeysSecret": {"name": secret}}}


def _may(kube: Kube, role: str, group: str, resource: str, *names: str) -> None:
    rule = {"apiGroups": [group], "resources": [resource], "verbs": ["get", "create", "patch"]}
    rbac = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": role}}
    kube.apply({**rbac, "kind": "Role", "rules": [{**rule, "resourceNames": list(names)} if names else rule]})
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role}
    subject = {"kind": "ServiceAccount", "name": MAKER, "namespace": kube.namespace}
    kube.apply({**rbac, "kind": "RoleBinding", "roleRef": reference, "subjects": [subject]})


def _try(kube: Kube, manifest: Manifest) -> str:
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


def test_who_names_a_secret_must_be_allowed_to_read_it(kube: Kube) -> None:
    _may(kube, "make-sets", "modelset.dev", "ollamamodelsets")
    kube.apply(_set("made", _keys("api-keys")))

    _try(kube, _set("another", {}))
    with pytest.raises(Refused, match="may not get Secret database"):
        _try(kube, _set("another", _keys("database")))

    _try(kube, _set("made", _keys("api-keys"), [ms.CHAT]))
    with pytest.raises(Refused, match="may not get Secret database"):
        _try(kube, _set("made", _keys("database")))
    with pytest.raises(Refused, match="may not get Secret api-keys"):
        _try(kube, _set("made", _keys("api-keys") | {"image": "reads/secrets:1"}))

    _may(kube, "read-keys", "", "secrets", "api-keys")
    _try(kube, _set("another", _keys("api-keys")))
    with pytest.raises(Refused, match="may not get Secret database"):
        _try(kube, _set("another", _keys("database")))
