"""A kube-apiserver and its etcd on loopback, as the stack builds them, and nothing else of Kubernetes."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import secrets
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from benchmarks import loopback, processes
from benchmarks.operator import audit
from stack import golang

OPERATOR = "system:serviceaccount:modelset-system:modelset-operator"
EDITOR = "modelset-bench"
_START_SECONDS = 60.0


@dataclasses.dataclass(frozen=True)
class ControlPlane:
    """An API server that runs: who may ask it, and the log of what it was asked."""

    url: str
    authority: Path
    token: str
    kubeconfig: Path
    audit_log: Path


@contextlib.contextmanager
def started(folder: Path) -> Iterator[ControlPlane]:
    """Run both, with data, certificates and tokens of their own in a folder."""
    with _etcd(folder) as etcd, _api_server(folder, etcd) as plane:
        yield plane


@contextlib.contextmanager
def _etcd(folder: Path) -> Iterator[str]:
    url, peers = (f"http://127.0.0.1:{loopback.free_port()}" for _ in range(2))
    options: list[str | Path] = ["--data-dir", folder / "etcd", "--log-level", "warn"]
    options += ["--listen-client-urls", url, "--advertise-client-urls", url, "--listen-peer-urls", peers]
    options += ["--initial-advertise-peer-urls", peers, "--initial-cluster", f"default={peers}"]
    # How fast this machine's disk is says nothing of the operator.
    options += ["--unsafe-no-fsync"]
    group = processes.Group(
        [golang.binaries("etcd") / "server", *options], env=dict(os.environ), log=folder / "etcd.log"
    )
    try:
        group.until(
            lambda: loopback.get(f"{url}/health") is not None, seconds=_START_SECONDS, what="etcd answers"
        )
        yield url
    finally:
        group.stop()


@contextlib.contextmanager
def _api_server(folder: Path, etcd: str) -> Iterator[ControlPlane]:
    port = loopback.free_port()
    certificates = folder / "certificates"
    plane = ControlPlane(
        url=f"https://127.0.0.1:{port}",
        authority=certificates / "apiserver.crt",
        token=secrets.token_hex(16),
        kubeconfig=folder / "kubeconfig",
        audit_log=folder / "audit.log",
    )
    operators = secrets.token_hex(16)
    tokens = folder / "tokens.csv"
    tokens.write_text(
        f'{plane.token},{EDITOR},1,"system:masters"\n{operators},{OPERATOR},2,"system:serviceaccounts"\n'
    )
    policy = folder / "audit-policy.json"
    policy.write_text(json.dumps(audit.policy(OPERATOR, EDITOR)))
    plane.kubeconfig.write_text(json.dumps(_kubeconfig(plane, operators)))
    key = certificates / "apiserver.key"
    options: list[str | Path] = [
        "--etcd-servers",
        etcd,
        "--bind-address",
        "127.0.0.1",
        "--secure-port",
        str(port),
    ]
    options += ["--cert-dir", certificates, "--token-auth-file", tokens, "--authorization-mode", "RBAC"]
    options += ["--service-account-issuer", plane.url, "--service-account-signing-key-file", key]
    options += ["--service-account-key-file", key, "--service-cluster-ip-range", "10.96.0.0/12"]
    options += ["--audit-policy-file", policy, "--audit-log-path", plane.audit_log]
    # In megabytes; beyond it, the log would go on in another file.
    options += ["--audit-log-maxsize", "10000"]
    # Nobody makes the accounts that pods run as.
    options += ["--disable-admission-plugins", "ServiceAccount"]
    group = processes.Group(
        [golang.binaries("kubernetes") / "kube-apiserver", *options],
        env=dict(os.environ),
        log=folder / "apiserver.log",
    )
    try:
        group.until(lambda: _ready(plane), seconds=_START_SECONDS, what="the API server is ready")
        yield plane
    finally:
        group.stop()


def _ready(plane: ControlPlane) -> bool:
    if not plane.authority.exists():
        return False
    request = urllib.request.Request(  # noqa: S310 - the API server that was started here
        f"{plane.url}/readyz", headers={"Authorization": f"Bearer {plane.token}"}
    )
    context = ssl.create_default_context(cafile=plane.authority)
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    try:
        with opener.open(request, timeout=5):
            return True
    except (OSError, urllib.error.URLError):
        return False


def _kubeconfig(plane: ControlPlane, token: str) -> dict[str, object]:
    cluster = {"server": plane.url, "certificate-authority": str(plane.authority)}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "bench", "cluster": cluster}],
        "users": [{"name": "operator", "user": {"token": token}}],
        "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "operator"}}],
        "current-context": "bench",
    }
