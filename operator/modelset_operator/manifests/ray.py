"""The proxy side of a set: a RayService, and the Serve config with all that the proxy is told."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from modelset_operator.api import names, spec
from modelset_operator.manifests import common, compare

APPLICATION = "modelset"
# What decides in Serve how many proxies there are, where the set does not.
POLICY = "modelset_proxy.serving.scaling:policy"
DEPLOYMENT = "Proxy"
IMPORT_PATH = "modelset_proxy.app:app"
WORKER_GROUP = "proxy"
# How long a replaced Ray cluster lives on, so that answers it is still streaming reach their end.
# It takes the room of another proxy for that time.
DELETION_DELAY_SECONDS = 300
# KubeRay never goes beyond it; the CRD's maximum for proxy.replicas and autoscaling. Always the same, since
# KubeRay does not take a change of it to clusters that are there: Serve keeps the set's own bounds.
MOST_WORKERS = 100
# What runs in the proxy's image. KubeRay turns token authentication on only where it knows the version.
RAY_VERSION = "2.60.0"
# How long a proxy that is to stop lets answers go on.
DRAIN_SECONDS = 30
# Where the proxy reads who may call: a file a client.
API_KEYS_FOLDER = "/etc/modelset/api-keys"
# The object store is not used, and Ray's default would be 30 % of the machine's memory.
OBJECT_STORE_BYTES = 100_000_000

# Serve decides by what proxies tell every two seconds: more when it is so for five, fewer after a minute.
_TELL_SECONDS, _LOOK_BACK_SECONDS = 2, 10
_MORE_AFTER_SECONDS, _FEWER_AFTER_SECONDS = 5, 60
# A worker is idle when its proxy's last answer has ended and Serve has taken its HTTP server down.
_IDLE_SECONDS = 15
_AUTOSCALER_RESOURCES = {
    "requests": {"cpu": "50m", "memory": "256Mi"},
    "limits": {"memory": "512Mi"},
}
_TOKEN_VOLUME = "autoscaler-token"  # noqa: S105
_TOKEN_FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105

DASHBOARD_PORT = 8265
METRICS_PORT = 8080
# Declaring one port of the head drops KubeRay's defaults, so all of them are here.
_HEAD_PORTS = {
    "gcs-server": 6379,
    "dashboard": DASHBOARD_PORT,
    "client": 10001,
    "metrics": METRICS_PORT,
    "serve": names.SERVE_PORT,
}
_WORKER_PORTS = {"metrics": METRICS_PORT, "serve": names.SERVE_PORT}


def ray_service(
    modelset: spec.ModelSet,
    entries: Sequence[Mapping[str, Any]],
    discovery: Mapping[str, Any],
    token_hash: str = "",
) -> dict[str, Any]:
    """Return the RayService. `entries` are the models of user_config, `discovery` as in `common.discovery`.

    `token_hash` is of what opens the demand feed; without it nobody reads that.

    Models touch serveConfigV2 and the metadata only: a change in rayClusterConfig would replace the cluster.
    """
    metadata = common.metadata(modelset, names.ray_service(modelset.name), names.PROXY_COMPONENT)
    metadata["labels"] |= discovery["labels"]
    metadata["annotations"] = dict(discovery["annotations"])
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": metadata,
        "spec": {
            "rayClusterDeletionDelaySeconds": DELETION_DELAY_SECONDS,
            "serveConfigV2": serve_config(modelset, entries, token_hash),
            "rayClusterConfig": {
                "rayVersion": RAY_VERSION,
                # Ray's job API runs code for whoever reaches it. KubeRay makes a token for each cluster.
                "authOptions": {"mode": "token"},
                **_autoscaler(modelset),
                "headGroupSpec": {
                    # Ray's autoscaler is KubeRay's to start; a monitor without one only takes memory.
                    "rayStartParams": {
                        "dashboard-host": "0.0.0.0",  # noqa: S104
                        "no-monitor": "true",
                        **_start_params(),
                    },
                    "template": _head_template(modelset),
                },
                # Present even when empty, so that scaling from one replica to two keeps the cluster.
                "workerGroupSpecs": [
                    {
                        "groupName": WORKER_GROUP,
                        "replicas": modelset.proxy.replicas - 1,
                        "minReplicas": 0,
                        "maxReplicas": MOST_WORKERS,
                        "rayStartParams": _start_params(),
                        "template": _template(modelset, "ray-worker", _WORKER_PORTS),
                    }
                ],
            },
        },
    }


def serve_config(modelset: spec.ModelSet, entries: Sequence[Mapping[str, Any]], token_hash: str = "") -> str:
    """Return the Serve config as text. The same input gives the same text: KubeRay compares strings."""
    config = {
        "applications": [
            {
                "name": APPLICATION,
                "route_prefix": "/",
                "import_path": IMPORT_PATH,
                "deployments": [
                    {
                        "name": DEPLOYMENT,
                        **_replicas(modelset.proxy),
                        # One a Ray node: every pod behind the Service has a replica of its own.
                        "max_replicas_per_node": 1,
                        "ray_actor_options": {"num_cpus": 1},
                        "user_config": _user_config(modelset, entries, token_hash),
                    }
                ],
            }
        ]
    }
    return json.dumps(config, indent=2, sort_keys=True)


def _replicas(proxy: spec.Proxy) -> dict[str, Any]:
    """Return how many replicas Serve is to have, as a part of a deployment in its config."""
    if proxy.autoscaling is None:
        return {"num_replicas": proxy.replicas}
    return {
        "autoscaling_config": {
            "min_replicas": proxy.autoscaling.min_replicas,
            "max_replicas": proxy.autoscaling.max_replicas,
            "target_ongoing_requests": proxy.autoscaling.target_ongoing_requests,
            "metrics_interval_s": _TELL_SECONDS,
            "look_back_period_s": _LOOK_BACK_SECONDS,
            "upscale_delay_s": _MORE_AFTER_SECONDS,
            "downscale_delay_s": _FEWER_AFTER_SECONDS,
            "policy": {"policy_function": POLICY},
        }
    }


def _autoscaler(modelset: spec.ModelSet) -> dict[str, Any]:
    """Return what has KubeRay put Ray's autoscaler beside the head: a part of rayClusterConfig."""
    if modelset.proxy.autoscaling is None:
        return {}
    return {
        "enableInTreeAutoscaling": True,
        "autoscalerOptions": {
            "version": "v2",
            "image": modelset.proxy.image,
            "imagePullPolicy": modelset.proxy.pod.image_pull_policy,
            "idleTimeoutSeconds": _IDLE_SECONDS,
            "upscalingMode": "Default",
            "resources": _AUTOSCALER_RESOURCES,
            "securityContext": common.container_security_context(read_only=False),
            "volumeMounts": [{"name": _TOKEN_VOLUME, "mountPath": _TOKEN_FOLDER, "readOnly": True}],
        },
    }


def _head_template(modelset: spec.ModelSet) -> dict[str, Any]:
    template = _template(modelset, "ray-head", _HEAD_PORTS)
    if modelset.proxy.autoscaling is not None:
        pod = template["spec"]
        pod["volumes"] = [*pod.get("volumes", ()), _token_volume()]
    return template


def _token_volume() -> dict[str, Any]:
    """Return what Kubernetes otherwise mounts into all containers of a pod; here the autoscaler alone."""
    namespace = {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
    sources = [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [namespace]}},
    ]
    return {"name": _TOKEN_VOLUME, "projected": {"defaultMode": 0o440, "sources": sources}}


def _user_config(
    modelset: spec.ModelSet, entries: Sequence[Mapping[str, Any]], token_hash: str
) -> dict[str, Any]:
    """Return what the proxy takes over in place; serve_app/user_config.schema.json is the contract."""
    # What Ollama cannot run yet waits in the proxy, where clients take turns and nobody waits for ever.
    limits = {
        **modelset.proxy.limits,
        "maxInFlightPerServer": modelset.ollama.parallel,
        "maxLoadedPerServer": modelset.ollama.max_loaded_models,
    }
    if memory_bytes := memory_for_models(modelset.ollama.resources):
        limits["memoryBytesPerServer"] = memory_bytes
    urls = [names.ollama_url(pool.name, modelset.namespace) for pool in modelset.pools]
    config: dict[str, Any] = {
        "models": list(entries),
        "upstreams": [{"url": url} for url in urls],
        "limits": limits,
    }
    if modelset.proxy.allow_origins:
        config["cors"] = {"allowOrigins": list(modelset.proxy.allow_origins)}
    if token_hash:
        config["demand"] = {"tokenSha256": token_hash}
    return config


def memory_for_models(resources: Mapping[str, Any]) -> int | None:
    """Return the bytes that an Ollama pod may use; None where nothing bounds them.

    Models of a pod with a device of its own are in the device's memory, which Kubernetes does not know.
    """
    limits = resources.get("limits") or {}
    if any("/" in name for name in limits):
        return None
    found = compare.quantity(limits.get("memory"))
    return None if found is None else int(found) or None


def model_entry(model: spec.Model, kind: str, capabilities: Sequence[str], created: int) -> dict[str, Any]:
    """Return one model of user_config."""
    pinned = {} if model.context_length is None else {"contextLength": model.context_length}
    return {
        **pinned,
        "model": str(model.reference),
        "servedNames": list(model.served_names),
        "type": kind,
        "capabilities": list(capabilities),
        "keepAlive": model.keep_alive,
        "created": created,
    }


def _start_params() -> dict[str, str]:
    return {
        "num-cpus": "1",
        "object-store-memory": str(OBJECT_STORE_BYTES),
        # All logs go to standard error, so there are no files to watch. KubeRay would leave out "false".
        "include-log-monitor": "no",
    }


def _template(modelset: spec.ModelSet, container: str, ports: Mapping[str, int]) -> dict[str, Any]:
    keys = _api_keys(modelset.proxy.api_keys_secret)
    return {
        "metadata": common.pod_metadata(_pod_labels(modelset.name), modelset.proxy.pod),
        "spec": {
            # The proxy finds Ollama by DNS and needs no right in the cluster.
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": common.pod_security_context(),
            **common.grace(DRAIN_SECONDS),
            **modelset.proxy.pod.fields,
            "containers": [
                {
                    "name": container,
                    "image": modelset.proxy.image,
                    "imagePullPolicy": modelset.proxy.pod.image_pull_policy,
                    **({"env": keys.env} if keys.env else {}),
                    "ports": [
                        {"name": name, "containerPort": port, "protocol": "TCP"}
                        for name, port in ports.items()
                    ],
                    "resources": modelset.proxy.resources,
                    # Ray writes its session under /tmp and the image's home.
                    "securityContext": common.container_security_context(read_only=False),
                    **common.ending(names.SERVE_PORT, DRAIN_SECONDS),
                    **({"volumeMounts": keys.mounts} if keys.mounts else {}),
                }
            ],
            **({"volumes": keys.volumes} if keys.volumes else {}),
        },
    }


def _pod_labels(set_name: str) -> dict[str, str]:
    """Return our labels without the one by which KubeRay's head Service finds its pods: it is KubeRay's."""
    labels = names.common_labels(set_name, names.PROXY_COMPONENT)
    del labels[names.APPLICATION_LABEL]
    return labels


@dataclasses.dataclass(frozen=True)
class _ApiKeys:
    """How the API keys reach the proxy: parts of a pod's spec, empty when everybody may call."""

    env: Sequence[Mapping[str, Any]] = ()
    mounts: Sequence[Mapping[str, Any]] = ()
    volumes: Sequence[Mapping[str, Any]] = ()


def _api_keys(secret: str | None) -> _ApiKeys:
    if secret is None:
        return _ApiKeys()
    # Optional: a Secret may come after the set. Until then the proxy finds no key and lets nobody in.
    source = {"secretName": secret, "optional": True, "defaultMode": 0o440}
    return _ApiKeys(
        env=[{"name": "PROXY_API_KEYS_DIR", "value": API_KEYS_FOLDER}],
        mounts=[{"name": "api-keys", "mountPath": API_KEYS_FOLDER, "readOnly": True}],
        volumes=[{"name": "api-keys", "secret": source}],
    )
