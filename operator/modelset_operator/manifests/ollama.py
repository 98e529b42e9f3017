"""A pool of Ollama pods: a StatefulSet with one claim a replica, its headless Service, and a ConfigMap."""

from collections.abc import Iterable
from typing import Any

from modelset_operator.api import names, spec
from modelset_operator.manifests import common

CONTAINER = "ollama"
CLAIM = "models"
HOME = "/var/lib/ollama"
MODELS = f"{HOME}/models"
# What a pod is to hold before it is ready: a file of the ConfigMap, with the path of one manifest a line.
REQUIRED = "required"
_REQUIRED_FOLDER = "/etc/modelset"
# Ollama writes a model's manifest last, so the model of one that is there is whole. It folds case.
_HOLDS_ALL = f"""
held=$(find {MODELS}/manifests -type f -size +0 2>/dev/null | tr A-Z a-z)
while read -r path; do
  printf '%s\\n' "$held" | grep -qxF "{MODELS}/manifests/$path" || exit 1
done < {_REQUIRED_FOLDER}/{REQUIRED}
"""
_CHECK_SECONDS = 2
# Models may take a day to come. What does not end is told by the status, not by restarts.
_LONGEST_SECONDS = 86400


def service(modelset: spec.ModelSet, pool: spec.Pool) -> dict[str, Any]:
    """Return the headless Service whose DNS name lists the pods that can serve: ready ones only."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": common.metadata(modelset, pool.name, names.OLLAMA_COMPONENT),
        "spec": {
            "clusterIP": "None",
            "selector": dict(pool.selector),
            "ports": [
                {"name": "http", "port": names.OLLAMA_PORT, "protocol": "TCP", "targetPort": "http"},
            ],
        },
    }


def config_map(modelset: spec.ModelSet, pool: spec.Pool, required: Iterable[spec.Model]) -> dict[str, Any]:
    """Return the ConfigMap that tells a pool's pods which models they hold before they are ready."""
    paths = sorted({model.reference.manifest_path for model in required})
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": common.metadata(modelset, pool.name, names.OLLAMA_COMPONENT),
        "data": {REQUIRED: "".join(f"{path}\n" for path in paths)},
    }


def stateful_set(modelset: spec.ModelSet, pool: spec.Pool) -> dict[str, Any]:
    """Return the StatefulSet of a pool's pods. Nothing in it depends on the models."""
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": common.metadata(modelset, pool.name, names.OLLAMA_COMPONENT),
        "spec": {
            "replicas": pool.ollama.replicas,
            "serviceName": pool.name,
            # Pods do not depend on each other: all of them pull at once.
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": dict(pool.selector)},
            "persistentVolumeClaimRetentionPolicy": {
                "whenDeleted": "Retain" if pool.ollama.storage.retain else "Delete",
                # Scaling down and up again finds the models still there; deleting the set cleans up.
                "whenScaled": "Retain",
            },
            "template": {
                "metadata": {"labels": _labels(modelset, pool)},
                "spec": _pod_spec(pool),
            },
            "volumeClaimTemplates": [_claim(modelset, pool)],
        },
    }


def claims(pool: spec.Pool) -> tuple[str, ...]:
    """Return the names of the claims that a StatefulSet has for a pool's pods, whoever made them."""
    return tuple(f"{CLAIM}-{pool.name}-{ordinal}" for ordinal in range(pool.ollama.replicas))


def _labels(modelset: spec.ModelSet, pool: spec.Pool) -> dict[str, str]:
    return {**names.common_labels(modelset.name, names.OLLAMA_COMPONENT), **pool.selector}


def _pod_spec(pool: spec.Pool) -> dict[str, Any]:
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": common.pod_security_context(),
        **common.grace(pool.ollama.drain_seconds),
        **pool.ollama.pod,
        "containers": [_container(pool.ollama)],
        "volumes": [
            {"name": "tmp", "emptyDir": {}},
            {"name": REQUIRED, "configMap": {"name": pool.name, "defaultMode": 0o444}},
        ],
    }


def _container(ollama: spec.Ollama) -> dict[str, Any]:
    def probe(period: int, timeout: int, failures: int) -> dict[str, Any]:
        return {
            "httpGet": {"path": "/api/version", "port": "http"},
            "periodSeconds": period,
            "timeoutSeconds": timeout,
            "failureThreshold": failures,
        }

    return {
        "name": CONTAINER,
        "image": ollama.image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["serve"],
        "env": _environment(ollama),
        "ports": [{"name": "http", "containerPort": names.OLLAMA_PORT, "protocol": "TCP"}],
        "resources": ollama.resources,
        "securityContext": common.container_security_context(read_only=True),
        **common.ending(names.OLLAMA_PORT, ollama.drain_seconds),
        # It passes once, and by itself: a pod whose volume holds its models needs nobody to become ready, and
        # a model that comes later makes no ready pod unready.
        "startupProbe": {
            "exec": {"command": ["sh", "-c", _HOLDS_ALL]},
            "periodSeconds": _CHECK_SECONDS,
            "timeoutSeconds": 10,
            "failureThreshold": _LONGEST_SECONDS // _CHECK_SECONDS,
        },
        "livenessProbe": probe(period=10, timeout=10, failures=6),
        "readinessProbe": probe(period=5, timeout=5, failures=3),
        "volumeMounts": [
            {"name": CLAIM, "mountPath": HOME},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - an emptyDir of the pod's own
            {"name": REQUIRED, "mountPath": _REQUIRED_FOLDER, "readOnly": True},
        ],
    }


def _environment(ollama: spec.Ollama) -> list[dict[str, str]]:
    values = {
        # Ollama keeps its key pair under HOME; on the claim, so that a registry goes on knowing the pod.
        "HOME": HOME,
        "OLLAMA_HOST": f"0.0.0.0:{names.OLLAMA_PORT}",
        "OLLAMA_MAX_LOADED_MODELS": str(ollama.max_loaded_models),
        "OLLAMA_MODELS": MODELS,
        # Without it a prompt could leave the cluster for Ollama's hosted models.
        "OLLAMA_NO_CLOUD": "1",
        # A start would prune the layers of an interrupted pull, which is to be resumed instead.
        "OLLAMA_NOPRUNE": "1",
        "OLLAMA_NUM_PARALLEL": str(ollama.parallel),
    }
    return [{"name": name, "value": value} for name, value in sorted(values.items())]


def _claim(modelset: spec.ModelSet, pool: spec.Pool) -> dict[str, Any]:
    storage = pool.ollama.storage
    claim: dict[str, Any] = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": storage.size}},
    }
    if storage.class_name is not None:
        claim["storageClassName"] = storage.class_name
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": CLAIM, "labels": _labels(modelset, pool)},
        "spec": claim,
    }
