"""What kind is told so that the API server logs what the operator asks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stack import auditing


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("MODELSET_CACHE", str(tmp_path))
    return auditing.node("system:serviceaccount:home:operator")


def test_the_node_has_the_policy_where_the_api_server_mounts_it(node: dict[str, Any]) -> None:
    (mount,) = node["extraMounts"]
    server = json.loads(node["kubeadmConfigPatches"][0])["apiServer"]
    assert json.loads(Path(mount["hostPath"]).read_text())["rules"] == [
        {"level": "Metadata", "users": ["system:serviceaccount:home:operator"]},
        {"level": "None"},
    ]
    assert mount["containerPath"] == server["extraArgs"]["audit-policy-file"]
    mounted = {volume["mountPath"]: volume["readOnly"] for volume in server["extraVolumes"]}
    assert mounted[str(Path(mount["containerPath"]).parent)] is True
    assert mounted[str(Path(server["extraArgs"]["audit-log-path"]).parent)] is False
    assert all(volume["hostPath"] == volume["mountPath"] for volume in server["extraVolumes"])


def test_another_policy_is_another_node(node: dict[str, Any]) -> None:
    """So that a cluster which logs something else is made anew."""
    assert auditing.node("system:serviceaccount:home:operator") == node
    assert auditing.node("system:serviceaccount:home:other") != node
