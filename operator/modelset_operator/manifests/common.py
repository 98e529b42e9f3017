"""What all manifests of a set share."""

from collections.abc import Iterable, Mapping
from typing import Any

from modelset_operator.api import labels, names, spec

# Any number but 0 fits Pod Security "restricted"; files that pods write to volumes belong to this one.
USER = 1000
# Until all who call have noticed that a pod is on its way out.
_NOTICE_SECONDS = 5
# What the processes of a pod take to end.
_STOP_SECONDS = 15


def metadata(modelset: spec.ModelSet, name: str, component: str) -> dict[str, Any]:
    """Return the metadata of a child that goes when its set goes."""
    return {
        "name": name,
        "namespace": modelset.namespace,
        "labels": names.common_labels(modelset.name, component),
        "ownerReferences": [names.owner_reference(modelset.name, modelset.uid)],
    }


def pod_metadata(own: Mapping[str, str], pod: spec.Pod) -> dict[str, Any]:
    """Return the metadata of a pod template: what the set says, and our own labels, which it cannot set."""
    metadata: dict[str, Any] = {"labels": {**pod.labels, **own}}
    if pod.annotations:
        metadata["annotations"] = dict(pod.annotations)
    return metadata


def pod_security_context() -> dict[str, Any]:
    """Return the pod's half of what Pod Security "restricted" asks for."""
    return {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "fsGroup": USER,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security_context(*, read_only: bool) -> dict[str, Any]:
    """Return the container's half of what Pod Security "restricted" asks for."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": read_only,
        "runAsNonRoot": True,
    }


def claim_template(
    name: str, own_labels: Mapping[str, str], size: str, class_name: str | None
) -> dict[str, Any]:
    """Return the template of a claim a pod, as a StatefulSet has it; None is the cluster's default class."""
    asked: dict[str, Any] = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": size}},
    }
    if class_name is not None:
        asked["storageClassName"] = class_name
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "labels": dict(own_labels)},
        "spec": asked,
    }


def ending(port: int, drain_seconds: int) -> dict[str, Any]:
    """Return what a container does when it is to stop, `{lifecycle}`: its answers get so long to end.

    It waits while somebody is connected to the port. Those who call learn that the pod leaves, and open no
    new connections; idle ones they close after some seconds.
    """
    connected = f"grep -qs '^ *[0-9]*: [0-9A-F]*:{port:04X} [^ ]* 01 ' /proc/net/tcp /proc/net/tcp6"
    script = (
        f"sleep {min(_NOTICE_SECONDS, drain_seconds)}; left={max(0, drain_seconds - _NOTICE_SECONDS)}; "
        f'while [ "$left" -gt 0 ] && {connected}; do left=$((left - 1)); sleep 1; done'
    )
    return {"lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", script]}}}}


def grace(drain_seconds: int) -> dict[str, Any]:
    """Return for how long a pod may stop: its answers may end, then its processes."""
    return {"terminationGracePeriodSeconds": drain_seconds + _STOP_SECONDS}


def discovery(served_names: Iterable[str]) -> dict[str, Any]:
    """Return labels and the annotation by which clients find who serves a model: `{labels, annotations}`."""
    listed = list(served_names)
    return {
        "labels": labels.model_labels(listed),
        "annotations": {names.MODEL_NAMES_ANNOTATION: labels.model_names_text(listed)},
    }


def discovery_patch(
    api_version: str, kind: str, observed: Mapping[str, Any], discovery: Mapping[str, Any], set_name: str
) -> dict[str, Any]:
    """Return a manifest of only the discovery metadata, for an object that somebody else made.

    The uid makes the API server refuse it when the object was deleted meanwhile, instead of making a new one.
    """
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": observed["metadata"]["name"],
            "namespace": observed["metadata"]["namespace"],
            "uid": observed["metadata"]["uid"],
            "labels": {names.SET_LABEL: set_name, **discovery["labels"]},
            "annotations": discovery["annotations"],
        },
    }
