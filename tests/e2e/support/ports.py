"""What listens in a pod, and what of it answers to another one."""

from __future__ import annotations

from dataclasses import dataclass

from tests.e2e.support.kube import Kube, Manifest

_LISTENING = "0A"
_LOOPBACK = ("0100007F", "0" * 24 + "01000000")
_CONNECT = """
for target in "$@"; do
  (timeout 5 bash -c ": </dev/tcp/${target/:/\\/}" 2>/dev/null && echo "$target") &
done
wait
"""


@dataclass(frozen=True)
class Pod:
    """A running pod, by its namespace's kubectl."""

    kube: Kube
    name: str

    @property
    def ip(self) -> str:
        return str(self.kube.get("pod", self.name)["status"]["podIP"])

    def listening(self) -> set[int]:
        """Ports at which something listens for others than the pod itself, as its kernel has it."""
        table = self.kube.run("exec", self.name, "--", "cat", "/proc/net/tcp", "/proc/net/tcp6")
        rows = [line.split() for line in table.splitlines() if ":" in line]
        local = [row[1].rsplit(":", 1) for row in rows if row[3] == _LISTENING]
        return {int(port, 16) for address, port in local if address not in _LOOPBACK}

    def reached(self, ip: str, ports: set[int]) -> set[int]:
        """Those of the ports at which a connection from this pod is taken."""
        targets = [f"{ip}:{port}" for port in sorted(ports)]
        answered = self.kube.run("exec", self.name, "--", "bash", "-c", _CONNECT, "bash", *targets)
        return {int(line.rpartition(":")[2]) for line in answered.split()}


def bystander(kube: Kube, image: str, labels: dict[str, str]) -> Pod:
    """A pod that does nothing, for asking from."""
    manifest: Manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "bystander", "labels": labels},
        "spec": {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 1000,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "bystander",
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["sleep", "infinity"],
                    "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                }
            ],
        },
    }
    kube.apply(manifest)
    kube.run("wait", "pod/bystander", "--for=condition=Ready", "--timeout=60s")
    return Pod(kube, "bystander")
