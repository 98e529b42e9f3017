"""A registry of a test's own: the demo models behind what real ones ask for, with their faults at will."""

from __future__ import annotations

import base64
import hashlib
import json
import re

import httpx

from stack import models
from tests.e2e.support.kube import Kube, Manifest

NAME = "login-registry"
USER, PASSWORD = "alice", "correct-horse-battery"
TOKEN = "token-that-only-the-registry-gives"  # noqa: S105
LOGIN = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
BASIC_PORT, TOKEN_PORT, OPEN_PORT = 5000, 5001, 5002
# Faults are files: what is there is so. Of blobs whose digest follows LIES something else is sent.
MOVED, LIES, FAILS, SLOW = "/tmp/moved", "/tmp/lies-", "/tmp/fails", "/tmp/slow"  # noqa: S108 - in its pod
ROLLOUT_SECONDS = 120
_NGINX = """
pid /tmp/nginx.pid;
error_log stderr warn;
worker_processes 1;
daemon off;
events { worker_connections 256; }
http {
    # By this the tests count what has left the registry.
    log_format counted 'sent $request_method $status $body_bytes_sent $uri';
    access_log /dev/stdout counted;
    client_body_temp_path /tmp/body;
    proxy_temp_path /tmp/proxy;
    fastcgi_temp_path /tmp/fastcgi;
    uwsgi_temp_path /tmp/uwsgi;
    scgi_temp_path /tmp/scgi;
    proxy_http_version 1.1;
    proxy_set_header Host $http_host;
    # nginx slows down only what it buffers in part.
    proxy_max_temp_file_size 0;
    map $http_authorization $has_token { default 0; "Bearer TOKEN" 1; }
    map $http_authorization $has_login { default 0; "Basic LOGIN" 1; }
    server {
        listen 5000;
        set $admitted 1;
        auth_basic models;
        auth_basic_user_file /etc/private/htpasswd;
        include /etc/private/faults;
    }
    server {
        listen 5001;
        location = /token {
            if ($has_login = 0) { return 403; }
            default_type application/json;
            return 200 '{"token": "TOKEN", "expires_in": 300}';
        }
        error_page 401 = @challenge;
        location @challenge {
            add_header WWW-Authenticate 'Bearer realm="http://$http_host/token",service="models"' always;
            return 401;
        }
        set $admitted $has_token;
        include /etc/private/faults;
    }
    server {
        listen 5002;
        set $admitted 1;
        include /etc/private/faults;
    }
}
""".replace("TOKEN", TOKEN).replace("LOGIN", LOGIN)
# `moving` is a tag that stands for another model once it has moved.
_FAULTS = f"""
location / {{
    if ($admitted = 0) {{ return 401; }}
    if (-f {FAILS}) {{ return 503; }}
    if (-f {SLOW}) {{ set $limit_rate 6m; }}
    set $asked $uri;
    set $tag 135m;
    if (-f {MOVED}) {{ set $tag 135m-tools; }}
    if ($uri ~ ^(?<before>.*/manifests/)moving$) {{ set $asked $before$tag; }}
    set $blob none;
    if ($uri ~ /blobs/(?<digest>.*)$) {{ set $blob $digest; }}
    if (-f {LIES}$blob) {{ return 200 "not at all what was asked for"; }}
    proxy_pass http://127.0.0.1:5555$asked;
}}
"""


def host(kube: Kube, port: int) -> str:
    """What a set names as its registry."""
    return f"{NAME}.{kube.namespace}.svc.cluster.local:{port}"


def install(kube: Kube) -> None:
    """Run it in the test's namespace."""
    for manifest in _manifests():
        kube.apply(manifest)
    kube.run("rollout", "status", f"deployment/{NAME}", f"--timeout={ROLLOUT_SECONDS}s")


def login(kube: Kube, secret: str, *ports: int) -> None:
    """Make the Secret with who may pull, as `kubectl create secret docker-registry` makes it."""
    entry = {"username": USER, "password": PASSWORD}
    config = {"auths": {host(kube, port): entry for port in ports}}
    kube.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": secret},
            "type": "kubernetes.io/dockerconfigjson",
            "stringData": {".dockerconfigjson": json.dumps(config)},
        }
    )


def secrets() -> list[str]:
    """Return what nobody may find anywhere else."""
    return [PASSWORD, base64.b64encode(PASSWORD.encode()).decode(), LOGIN, TOKEN]


def put(kube: Kube, fault: str) -> None:
    """Have it be so from now on."""
    kube.run("exec", f"deployment/{NAME}", "--container=nginx", "--", "touch", fault)


def end(kube: Kube, fault: str) -> None:
    """Have it be so no longer."""
    kube.run("exec", f"deployment/{NAME}", "--container=nginx", "--", "rm", "-f", fault)


def weights(kube: Kube) -> str:
    """Return the digest of the largest file of the chat model."""
    with kube.forward(f"service/{NAME}", OPEN_PORT) as port:
        manifest = httpx.get(f"http://127.0.0.1:{port}/v2/library/smollm2/manifests/135m").raise_for_status()
    return str(max(manifest.json()["layers"], key=lambda layer: layer["size"])["digest"])


def sent(kube: Kube) -> int:
    """Return the bytes of blobs that have left it."""
    log = kube.run("logs", f"deployment/{NAME}", "--container=nginx", "--tail=-1")
    return sum(int(found[1]) for found in re.finditer(r"^sent GET 20\d (\d+) \S*/blobs/", log, re.MULTILINE))


def _htpasswd() -> str:
    digest = base64.b64encode(hashlib.sha1(PASSWORD.encode(), usedforsecurity=False).digest()).decode()
    return f"{USER}:{{SHA}}{digest}\n"


def _manifests() -> list[Manifest]:
    image, labels = models.registry_image(), {"app": NAME}
    restricted = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    ports = (BASIC_PORT, TOKEN_PORT, OPEN_PORT)
    folders = [{"name": "tmp", "mountPath": "/tmp"}, {"name": "tmp", "mountPath": "/var/log/nginx"}]  # noqa: S108
    registry = {
        "name": "registry",
        "image": image,
        "command": ["registry", "serve", "/etc/model-registry/registry.yml"],
        "securityContext": restricted,
        "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}},
    }
    nginx = {
        "name": "nginx",
        "image": image,
        "command": ["nginx", "-c", "/etc/private/nginx.conf"],
        "ports": [{"containerPort": port} for port in ports],
        "readinessProbe": {"tcpSocket": {"port": OPEN_PORT}, "periodSeconds": 1},
        "securityContext": restricted,
        "resources": {"requests": {"cpu": "20m", "memory": "32Mi"}},
        "volumeMounts": [*folders, {"name": "config", "mountPath": "/etc/private"}],
    }
    pod = {
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [registry, nginx],
        "volumes": [{"name": "tmp", "emptyDir": {}}, {"name": "config", "configMap": {"name": NAME}}],
    }
    files = {"nginx.conf": _NGINX, "faults": _FAULTS, "htpasswd": _htpasswd()}
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": NAME}, "data": files},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": NAME},
            "spec": {"selector": labels, "ports": [{"name": f"p{port}", "port": port} for port in ports]},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": NAME},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        },
    ]
