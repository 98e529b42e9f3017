"""A pool of Ollama pods: a StatefulSet with one volume a replica, its headless Service, and a ConfigMap."""

from collections.abc import Iterable, Mapping
from typing import Any

from modelset_operator.api import names, spec
from modelset_operator.manifests import common

CONTAINER = "ollama"
VOLUME = "models"
HOME = "/var/lib/ollama"
MODELS = f"{HOME}/models"
# What every pod is to hold before it is ready: a file of the ConfigMap, with the path of one manifest a line.
# What one pod is to hold beyond that is in a file of its name.
REQUIRED = "required"
_REQUIRED_FOLDER = "/etc/modelset"
# Ollama writes a model's manifest last, so the model of one that is there is whole. It folds case.
_HOLDS_ALL = f"""
held=$(find {MODELS}/manifests -type f -size +0 2>/dev/null | tr A-Z a-z)
for list in {REQUIRED} "$HOSTNAME"; do
  [ "$list" = {REQUIRED} ] || [ -e "{_REQUIRED_FOLDER}/$list" ] || continue
  while read -r path; do
    printf '%s\\n' "$held" | grep -qxF "{MODELS}/manifests/$path" || exit 1
  done < "{_REQUIRED_FOLDER}/$list" || exit 1
done
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


def config_map(
    modelset: spec.ModelSet, pool: spec.Pool, required: Mapping[str, Iterable[spec.Model]]
) -> dict[str, Any]:
    """Return the ConfigMap that tells a pool's pods, by name, which models they hold before they are ready.

    It is also how it is remembered which pods keep a model that not all of them keep: see `assigned`.
    """
    paths = {pod: {model.reference.manifest_path for model in those} for pod, those in required.items()}
    shared = set.intersection(*paths.values()) if paths else set()
    lists = {REQUIRED: shared} | {pod: those - shared for pod, those in paths.items() if those - shared}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": common.metadata(modelset, pool.name, names.OLLAMA_COMPONENT),
        "data": {key: "".join(f"{path}\n" for path in sorted(those)) for key, those in lists.items()},
    }


def assigned(config_map: Mapping[str, Any] | None, pod: str) -> frozenset[str]:
    """Return the manifests' paths that a pod was told to hold last."""
    data = (config_map or {}).get("data") or {}
    return frozenset(data.get(REQUIRED, "").split()) | frozenset(data.get(pod, "").split())


def stateful_set(modelset: spec.ModelSet, pool: spec.Pool, replicas: int) -> dict[str, Any]:
    """Return the StatefulSet of a pool's pods. Nothing in it depends on the models."""
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": common.metadata(modelset, pool.name, names.OLLAMA_COMPONENT),
        "spec": {
            "replicas": replicas,
            "serviceName": pool.name,
            # Pods do not depend on each other: all of them pull at once.
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": dict(pool.selector)},
            "template": {
                "metadata": common.pod_metadata(_pod_labels(modelset, pool), pool.ollama.pod),
                "spec": _pod_spec(modelset, pool),
            },
            **_claim_fields(modelset, pool),
        },
    }


def claims(pool: spec.Pool) -> tuple[str, ...]:
    """Return the names of the claims that a StatefulSet has for as many pods as a pool may have."""
    if pool.ollama.storage.ephemeral:
        return ()
    return tuple(claim(f"{pool.name}-{ordinal}") for ordinal in range(pool.ollama.most))


def claim(pod: str) -> str:
    """Return the name of the claim that a StatefulSet has for a pod."""
    return f"{VOLUME}-{pod}"


def _labels(modelset: spec.ModelSet, pool: spec.Pool) -> dict[str, str]:
    return {**names.common_labels(modelset.name, names.OLLAMA_COMPONENT), **pool.selector}


def _pod_labels(modelset: spec.ModelSet, pool: spec.Pool) -> dict[str, str]:
    """Return the labels of pods, of which one says whether they pull through a cache."""
    cached = {} if modelset.cache is None else {names.CACHED_LABEL: "true"}
    return {**_labels(modelset, pool), **cached}


def _pod_spec(modelset: spec.ModelSet, pool: spec.Pool) -> dict[str, Any]:
    supplemental = list(pool.ollama.supplemental_groups)
    groups = {"supplementalGroups": supplemental} if supplemental else {}
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {**common.pod_security_context(), **groups},
        **common.grace(pool.ollama.drain_seconds),
        **pool.ollama.pod.fields,
        "containers": [_container(modelset, pool.ollama)],
        "volumes": [
            *_folder(pool.ollama.storage),
            {"name": "tmp", "emptyDir": {}},
            {"name": REQUIRED, "configMap": {"name": pool.name, "defaultMode": 0o444}},
            *(_by_claim(one) for one in pool.ollama.volumes),
        ],
    }


def _container(modelset: spec.ModelSet, ollama: spec.Ollama) -> dict[str, Any]:
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
        "imagePullPolicy": ollama.pod.image_pull_policy,
        "args": ["serve"],
        "env": _environment(modelset, ollama),
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
            {"name": VOLUME, "mountPath": HOME},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - an emptyDir of the pod's own
            {"name": REQUIRED, "mountPath": _REQUIRED_FOLDER, "readOnly": True},
            *(_mount(one) for one in ollama.volumes),
        ],
    }


def _by_claim(volume: spec.Volume) -> dict[str, Any]:
    # The API server leaves out what is false, and would seem to have changed it.
    read_only = {"readOnly": True} if volume.claim_read_only else {}
    return {"name": volume.name, "persistentVolumeClaim": {"claimName": volume.claim, **read_only}}


def _mount(volume: spec.Volume) -> dict[str, Any]:
    read_only = {"readOnly": True} if volume.read_only else {}
    return {"name": volume.name, "mountPath": volume.mount_path, **read_only}


def _environment(modelset: spec.ModelSet, ollama: spec.Ollama) -> list[Mapping[str, Any]]:
    values = {
        # Ollama keeps its key pair under HOME; on the volume, so that a registry goes on knowing the pod.
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
    if ollama.flash_attention is not None:
        values["OLLAMA_FLASH_ATTENTION"] = str(int(ollama.flash_attention))
    if ollama.kv_cache_type is not None:
        values["OLLAMA_KV_CACHE_TYPE"] = ollama.kv_cache_type
    if modelset.cache is not None:
        # Only what is asked over plain HTTP goes there: pulls, which the operator asks for so.
        values["HTTP_PROXY"] = names.cache_url(modelset.name, modelset.namespace)
        # Ollama's own client, as in `kubectl exec`, takes OLLAMA_HOST for where the server is.
        values["NO_PROXY"] = "0.0.0.0"  # noqa: S104 - nothing listens by this
    own = [{"name": name, "value": value} for name, value in sorted(values.items())]
    # Ours first: what follows may refer to them, as in $(HOME).
    return [*own, *ollama.env]


def _folder(storage: spec.Storage) -> list[dict[str, Any]]:
    """Return the volume that a pod's models are on where they go with the pod, none where it has a claim."""
    if not storage.ephemeral:
        return []
    # Beyond it the kubelet evicts the pod, so that it does not fill the disk of its node.
    return [{"name": VOLUME, "emptyDir": {"sizeLimit": storage.size}}]


def _claim_fields(modelset: spec.ModelSet, pool: spec.Pool) -> dict[str, Any]:
    """Return what a StatefulSet says of claims, nothing where its pods have none."""
    storage = pool.ollama.storage
    if storage.ephemeral:
        return {}
    return {
        "persistentVolumeClaimRetentionPolicy": {
            "whenDeleted": "Retain" if storage.retain else "Delete",
            # Scaling down and up again finds the models still there; deleting the set cleans up.
            "whenScaled": "Retain",
        },
        "volumeClaimTemplates": [_claim(modelset, pool)],
    }


def _claim(modelset: spec.ModelSet, pool: spec.Pool) -> dict[str, Any]:
    storage = pool.ollama.storage
    return common.claim_template(VOLUME, _labels(modelset, pool), storage.size, storage.class_name)
