"""What the fleet needs on the kind cluster: models in a registry and on a volume, a set, Deployments."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks import models
from modelset_operator.manifests import common
from stack import cluster, components, ollama, step
from stack import models as demo

NAMESPACE = "bench-fleet"
SET = "fleet"
PARALLEL = 4
# Ollama's pods may take so much of a core, so that more of them answer more.
_RESOURCES = {"requests": {"cpu": "50m", "memory": "256Mi"}, "limits": {"cpu": "400m"}}
_REGISTRY = f"model-registry.{NAMESPACE}.svc.cluster.local:5000"
_READY_SECONDS = 400
# Longer than an answer takes.
_DRAIN_SECONDS = 10
_SCRATCH = "/tmp"  # noqa: S108 - a volume of each pod
# A model's pods
MODEL_LABEL = "bench/model"
SET_SELECTOR = f"modelset.dev/set={SET},app.kubernetes.io/component=ollama"

Manifest = dict[str, Any]


@contextlib.contextmanager
def namespace() -> Iterator[None]:
    """Make the namespace; delete all of it at the end."""
    cluster.kubectl("create", "namespace", NAMESPACE)
    try:
        yield
    finally:
        with step.step("remove what was measured"):
            cluster.kubectl("delete", "namespace", NAMESPACE)


def prepare(names: Sequence[str]) -> None:
    """Put copies of a model into a registry, for the set, and onto a volume, for the Deployments."""
    with step.step(f"make {len(names)} models"):
        apply(*_preparing())
        _kubectl("wait", "--for=condition=Ready", "pod/preparing", f"--timeout={_READY_SECONDS}s")
        with cluster.forwarded(NAMESPACE, "pod/preparing", 11434) as port:
            url = f"http://127.0.0.1:{port}"
            models.make_copies(url, names)
            for name in names:
                pushed = f"{demo.REGISTRY}/library/{name}"
                ollama.copy(url, name, pushed)
                ollama.push(url, pushed)


def apply_set(names: Sequence[str], **of_ollama: object) -> None:
    """Apply the set, and wait until it is Ready as it is now."""
    manifest = {
        "apiVersion": "modelset.dev/v1alpha1",
        "kind": "OllamaModelSet",
        "metadata": {"name": SET},
        "spec": {
            "registry": {"host": _REGISTRY, "insecure": True},
            "models": [{"name": name} for name in names],
            "ollama": {
                "parallel": PARALLEL,
                "drainSeconds": _DRAIN_SECONDS,
                "maxLoadedModels": len(names),
                "storage": {"size": "2Gi"},
                "resources": _RESOURCES,
                **of_ollama,
            },
        },
    }
    apply(manifest)
    _kubectl("wait", "--for=condition=Ready", f"oms/{SET}", f"--timeout={_READY_SECONDS}s")


def await_pods(count: int) -> None:
    """Wait until the set has so many pods, those that leave among them."""
    deadline = time.monotonic() + _READY_SECONDS
    while (
        found := len(_kubectl("get", "pods", "--selector", SET_SELECTOR, "--output=name").split())
    ) != count:
        if time.monotonic() > deadline:
            raise step.StepFailed(f"the set has {found} pods and not {count}")
        time.sleep(0.5)


def remove_set() -> None:
    """Delete it, and wait until its pods are gone."""
    _kubectl("delete", f"oms/{SET}")
    _kubectl("wait", "--for=delete", "pods", "--selector", SET_SELECTOR, f"--timeout={_READY_SECONDS}s")


def apply_deployments(names: Sequence[str]) -> None:
    """Apply a Deployment a model, without pods."""
    apply(*(_deployment(name) for name in names))


def apply(*manifests: Mapping[str, Any]) -> None:
    """Apply them."""
    _kubectl(
        "apply", "--filename", "-", data=json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})
    )


@contextlib.contextmanager
def proxied() -> Iterator[str]:
    """Yield a URL on loopback where the API server answers, which passes on to services and pods too."""
    process = subprocess.Popen(
        cluster.kubectl_command("proxy", "--port=0"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        said = (process.stdout.readline() if process.stdout else "").strip()
        found = re.search(r"127\.0\.0\.1:\d+", said)
        if found is None:
            raise step.StepFailed(f"kubectl proxy: {said}")
        yield f"http://{found[0]}"
    finally:
        process.terminate()
        process.communicate()


def _kubectl(*arguments: str, data: str = "") -> str:
    return cluster.kubectl("--namespace", NAMESPACE, *arguments, data=data)


def _preparing() -> list[Manifest]:
    """A registry like the stack's, with room for more, an Ollama beside it, and the volume."""
    image = demo.registry_image()
    secure = common.container_security_context(read_only=False)
    port = {"name": "http", "port": 5000}
    services = [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {"selector": {"app": "preparing"}, "ports": [port]},
        }
        for name in ("model-registry", "model-blobs")
    ]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "preparing", "labels": {"app": "preparing"}},
        "spec": {
            "automountServiceAccountToken": False,
            "securityContext": common.pod_security_context(),
            "containers": [
                {
                    "name": "registry",
                    "image": image,
                    "command": ["registry", "serve", "/etc/model-registry/registry.yml"],
                    "securityContext": secure,
                    "volumeMounts": [{"name": "blobs", "mountPath": "/var/lib/registry"}],
                },
                {
                    "name": "nginx",
                    "image": image,
                    "command": ["nginx", "-c", "/etc/model-registry/nginx.conf"],
                    "securityContext": secure,
                    "volumeMounts": [
                        {"name": "tmp", "mountPath": _SCRATCH},
                        {"name": "tmp", "mountPath": "/var/log/nginx"},
                    ],
                },
                _ollama(),
            ],
            "volumes": [{"name": "blobs", "emptyDir": {}}, *_volumes()],
        },
    }
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "models"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}}},
    }
    return [claim, *services, pod]


def _deployment(model: str) -> Manifest:
    """As KubeAI makes a model's pods: one is started when it has loaded the model."""
    loads = {"exec": {"command": ["ollama", "run", model, ""]}}
    container = {
        **_ollama(),
        "resources": _RESOURCES,
        "startupProbe": {**loads, "periodSeconds": 1, "timeoutSeconds": 60, "failureThreshold": 60},
        "readinessProbe": {"httpGet": {"path": "/", "port": 11434}, "periodSeconds": 5},
        **common.ending(11434, _DRAIN_SECONDS),
    }
    labels = {MODEL_LABEL: model}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": model},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "automountServiceAccountToken": False,
                    "securityContext": common.pod_security_context(),
                    **common.grace(_DRAIN_SECONDS),
                    "containers": [container],
                    "volumes": _volumes(),
                },
            },
        },
    }


def _ollama() -> Manifest:
    settings = {
        "OLLAMA_HOST": "0.0.0.0:11434",
        "OLLAMA_MODELS": "/models",
        "OLLAMA_NOPRUNE": "1",
        "OLLAMA_KEEP_ALIVE": "-1",
        "OLLAMA_NUM_PARALLEL": str(PARALLEL),
        "HOME": _SCRATCH,
    }
    return {
        "name": "ollama",
        "image": components.ensure("ollama"),
        "args": ["serve"],
        "env": [{"name": name, "value": value} for name, value in settings.items()],
        "securityContext": common.container_security_context(read_only=False),
        "volumeMounts": [{"name": "models", "mountPath": "/models"}, {"name": "tmp", "mountPath": _SCRATCH}],
    }


def _volumes() -> list[Manifest]:
    return [
        {"name": "models", "persistentVolumeClaim": {"claimName": "models"}},
        {"name": "tmp", "emptyDir": {}},
    ]
