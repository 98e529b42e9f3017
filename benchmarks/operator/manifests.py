"""What is put to the API server: sets, and what controllers and kubelets would make of a set's objects."""

from __future__ import annotations

import ipaddress
from typing import Any

from benchmarks.operator.api import Object

MODELS = ("chat-small:1b", "chat-large:7b", "embed:30m")
# Of it each pod has an address of its own; what others listen on is left alone.
_FIRST_ADDRESS = ipaddress.IPv4Address("127.77.0.1")
_SETS_A_NAMESPACE = 20


def address(number: int) -> str:
    """Return the loopback address of a set's Ollama pod."""
    return str(_FIRST_ADDRESS + number)


def name(number: int) -> str:
    """Return the name of a set."""
    return f"set-{number:04d}"


def number(name: str) -> int:
    """Return the number of a set by its name."""
    return int(name.rpartition("-")[2])


def namespace(number: int) -> str:
    """Return the namespace of a set."""
    return f"tenant-{number // _SETS_A_NAMESPACE:02d}"


def namespaces(count: int) -> list[str]:
    """Return the namespaces of so many sets."""
    return sorted({namespace(number) for number in range(count)})


def model_set(number: int, edit: int = 0) -> dict[str, Any]:
    """Return a set of three models; each `edit` has the first one served under another name."""
    models = [{"name": model, "servedNames": [model.partition(":")[0]]} for model in MODELS]
    if edit:
        models[0]["servedNames"] = [f"chat-{edit}"]
    return {
        "apiVersion": "modelset.dev/v1alpha1",
        "kind": "OllamaModelSet",
        "metadata": {"name": name(number), "namespace": namespace(number)},
        "spec": {"models": models},
    }


def pod(owner: Object, template: Object, name: str, labels: dict[str, str]) -> dict[str, Any]:
    """Return a pod as a controller makes it of its template."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": {**template["metadata"]["labels"], **labels},
            "ownerReferences": [_reference(owner)],
        },
        "spec": {**template["spec"], "volumes": [], "containers": _unmounted(template["spec"])},
    }


def _unmounted(spec: Object) -> list[dict[str, Any]]:
    # The claims of a StatefulSet become volumes; nobody mounts them here.
    return [{**container, "volumeMounts": []} for container in spec["containers"]]


def pod_status(address: str, *, ready: bool, containers: list[str]) -> dict[str, Any]:
    """Return the status that a kubelet reports of a pod that runs."""
    conditions = ("PodScheduled", "Initialized", "ContainersReady", "Ready")
    late = {"ContainersReady", "Ready"}
    return {
        "phase": "Running",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "conditions": [{"type": kind, "status": str(ready or kind not in late)} for kind in conditions],
        "containerStatuses": [
            {
                "name": name,
                "ready": ready,
                "started": ready,
                "restartCount": 0,
                "image": "image",
                "imageID": "sha256:image",
                "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
            }
            for name in containers
        ],
    }


def stateful_set_status(found: Object, ready: int) -> dict[str, Any]:
    """Return the status of a StatefulSet whose pods are all of its present generation."""
    replicas = found["spec"]["replicas"]
    return {
        "observedGeneration": found["metadata"]["generation"],
        "replicas": replicas,
        "currentReplicas": replicas,
        "updatedReplicas": replicas,
        "readyReplicas": ready,
        "availableReplicas": ready,
    }


def ray_cluster(service: Object) -> dict[str, Any]:
    """Return the RayCluster that KubeRay makes for a RayService."""
    metadata = service["metadata"]
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": {
            "name": f"{metadata['name']}-abcde",
            "labels": {**metadata["labels"], **_originated(metadata["name"])},
            "ownerReferences": [_reference(service)],
        },
        "spec": service["spec"]["rayClusterConfig"],
    }


def serve_service(service: Object) -> dict[str, Any]:
    """Return the Service that KubeRay makes for the clients of a RayService."""
    name = service["metadata"]["name"]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": f"{name}-serve-svc",
            "labels": {"ray.io/serve": f"{name}-serve", **_originated(name)},
            "ownerReferences": [_reference(service)],
        },
        "spec": {
            "selector": {"ray.io/cluster": f"{name}-abcde", "ray.io/serve": "true"},
            "ports": [{"name": "serve", "port": 8000, "protocol": "TCP", "targetPort": 8000}],
        },
    }


def ray_service_status(service: Object, applications: str) -> dict[str, Any]:
    """Return the status that KubeRay writes; `applications` is Serve's word, "" before there is one."""
    runs = applications == "RUNNING"
    part: dict[str, Any] = {"rayClusterName": f"{service['metadata']['name']}-abcde"}
    if applications:
        part["applicationStatuses"] = {"modelset": {"status": applications}}
    told = "Number of serve endpoints is greater than 0" if runs else "RayService is initializing"
    at = "2026-01-01T00:00:00Z"
    return {
        "observedGeneration": service["metadata"]["generation"],
        "serviceStatus": "Running" if runs else "",
        "numServeEndpoints": int(runs),
        "activeServiceStatus": part if runs else None,
        "pendingServiceStatus": None if runs else part,
        "conditions": [
            {
                "type": "Ready",
                "status": str(runs),
                "reason": "NonZeroServeEndpoints" if runs else "Initializing",
                "message": told,
                "lastTransitionTime": at,
            },
            {
                "type": "UpgradeInProgress",
                "status": "False",
                "reason": "NoPendingCluster" if runs else "Initializing",
                "message": "",
                "lastTransitionTime": at,
            },
        ],
    }


def head_labels(cluster: str) -> dict[str, str]:
    """Return the labels that KubeRay gives a head beyond those of its template."""
    return {"ray.io/cluster": cluster, "ray.io/node-type": "head", "ray.io/group": "headgroup"}


def _originated(name: str) -> dict[str, str]:
    return {"ray.io/originated-from-crd": "RayService", "ray.io/originated-from-cr-name": name}


def _reference(owner: Object) -> dict[str, Any]:
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
