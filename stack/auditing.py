"""The audit log of kind's API server: what the operator asked of it, and nothing that anybody else did."""

from __future__ import annotations

import json
from pathlib import Path

from stack import cache

# On the node, and in the API server's pod, which mounts them from there.
POLICY = Path("/etc/kubernetes/policies/audit.json")
LOG = Path("/var/log/kubernetes/audit.log")
# A request takes a kilobyte. The file before the present one is kept, too.
_LOG_MEGABYTES = 100


def policy(account: str) -> dict[str, object]:
    """Return what is to be logged: what this account asks, without the contents."""
    return {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [{"level": "Metadata", "users": [account]}, {"level": "None"}],
    }


def node(account: str) -> dict[str, object]:
    """Return what makes the node of kind's control plane log so."""
    content = json.dumps(policy(account))

    def write(folder: Path) -> None:
        (folder / POLICY.name).write_text(content)

    file = cache.entry("audit", "policy", cache.key(content), write) / POLICY.name
    mount = {"hostPath": str(file), "containerPath": str(POLICY), "readOnly": True}
    return {"extraMounts": [mount], "kubeadmConfigPatches": [json.dumps(_kubeadm())]}


def _kubeadm() -> dict[str, object]:
    """Without an apiVersion kind fits it to the one that it renders: extraArgs are a list in newer ones."""
    volumes = [
        {"name": "audit-policy", "hostPath": str(POLICY.parent), "readOnly": True},
        {"name": "audit-log", "hostPath": str(LOG.parent), "readOnly": False},
    ]
    return {
        "kind": "ClusterConfiguration",
        "apiServer": {
            "extraArgs": {
                "audit-policy-file": str(POLICY),
                "audit-log-path": str(LOG),
                "audit-log-maxsize": str(_LOG_MEGABYTES),
                "audit-log-maxbackup": "1",
            },
            "extraVolumes": [
                {**volume, "mountPath": volume["hostPath"], "pathType": "DirectoryOrCreate"}
                for volume in volumes
            ],
        },
    }
