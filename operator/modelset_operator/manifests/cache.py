"""The registry cache of a set: a StatefulSet of one pod with a volume, and the Service to pull through.

Credentials are in this pod alone, as a file: what asks for it by name, environment or log does not find them.
"""

from typing import Any

from modelset_operator.api import names, quantities, spec
from modelset_operator.manifests import common

VOLUME = "blobs"
HOME = "/var/lib/modelset-cache"
_CREDENTIALS_FOLDER = "/etc/modelset/registry"
# The key of a Secret of the type kubernetes.io/dockerconfigjson.
_CREDENTIALS_KEY = ".dockerconfigjson"
_STOP_SECONDS = 10


def service(modelset: spec.ModelSet) -> dict[str, Any]:
    """Return the Service that Ollama pods pull through."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": common.metadata(modelset, names.cache(modelset.name), names.CACHE_COMPONENT),
        "spec": {
            # An address of the Service's own leads nowhere until each node knows it, and an Ollama that
            # reached somebody else by it would stay connected to that.
            "clusterIP": "None",
            "selector": names.selector(modelset.name, names.CACHE_COMPONENT),
            "ports": [{"name": "http", "port": names.CACHE_PORT, "protocol": "TCP", "targetPort": "http"}],
        },
    }


def stateful_set(modelset: spec.ModelSet, cache: spec.Cache) -> dict[str, Any]:
    """Return the StatefulSet of the cache. Nothing in it depends on the models."""
    name = names.cache(modelset.name)
    labels = names.common_labels(modelset.name, names.CACHE_COMPONENT)
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": common.metadata(modelset, name, names.CACHE_COMPONENT),
        "spec": {
            "replicas": 1,
            "serviceName": name,
            "selector": {"matchLabels": names.selector(modelset.name, names.CACHE_COMPONENT)},
            "template": {"metadata": {"labels": labels}, "spec": _pod_spec(modelset, cache)},
            # What it holds can be had again.
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete", "whenScaled": "Retain"},
            "volumeClaimTemplates": [common.claim_template(VOLUME, labels, cache.size, cache.class_name)],
        },
    }


def claim(set_name: str) -> str:
    """Return the name of the claim of the cache's volume."""
    return f"{VOLUME}-{names.cache(set_name)}-0"


def _pod_spec(modelset: spec.ModelSet, cache: spec.Cache) -> dict[str, Any]:
    # Optional: a Secret may come after the set. Until then registries are asked as nobody.
    secret = {"secretName": cache.credentials_secret, "optional": True, "defaultMode": 0o440}
    volumes = [{"name": "credentials", "secret": secret}] if cache.credentials_secret else []
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": common.pod_security_context(),
        "terminationGracePeriodSeconds": _STOP_SECONDS,
        **cache.fields,
        "containers": [_container(modelset, cache)],
        **({"volumes": volumes} if volumes else {}),
    }


def _container(modelset: spec.ModelSet, cache: spec.Cache) -> dict[str, Any]:
    mounts: list[dict[str, Any]] = [{"name": VOLUME, "mountPath": HOME}]
    if cache.credentials_secret:
        mounts.append({"name": "credentials", "mountPath": _CREDENTIALS_FOLDER, "readOnly": True})
    # The site's way out, which is the cache's to take now.
    way_out = [one for one in modelset.ollama.env if one["name"].upper() == "HTTPS_PROXY"]
    probe = {"httpGet": {"path": "/healthz", "port": "metrics"}, "periodSeconds": 5, "timeoutSeconds": 5}
    return {
        "name": names.CACHE_COMPONENT,
        "image": cache.image,
        "imagePullPolicy": spec.DEFAULT_PULL_POLICY,
        "command": ["python", "-m", "modelset_cache"],
        "args": _arguments(cache),
        **({"env": way_out} if way_out else {}),
        "ports": [
            {"name": "http", "containerPort": names.CACHE_PORT, "protocol": "TCP"},
            {"name": "metrics", "containerPort": names.CACHE_WATCH_PORT, "protocol": "TCP"},
        ],
        "resources": cache.resources,
        "securityContext": common.container_security_context(read_only=True),
        "readinessProbe": {**probe, "failureThreshold": 3},
        "livenessProbe": {**probe, "periodSeconds": 10, "failureThreshold": 6},
        "volumeMounts": mounts,
    }


def _arguments(cache: spec.Cache) -> list[str]:
    arguments = [f"--folder={HOME}/blobs", f"--bytes={int(quantities.parse(cache.size))}"]
    arguments += [f"--port={names.CACHE_PORT}", f"--watch-port={names.CACHE_WATCH_PORT}"]
    if cache.insecure is not None:
        arguments.append(f"--insecure={cache.insecure}")
    if cache.credentials_secret is not None:
        arguments.append(f"--credentials={_CREDENTIALS_FOLDER}/{_CREDENTIALS_KEY}")
    return arguments
