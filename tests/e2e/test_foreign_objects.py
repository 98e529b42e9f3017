"""What somebody else made under a set's names stays as it was, and the set says why it waits."""

from __future__ import annotations

import json

import pytest

from tests.e2e.support import modelset as ms
from tests.e2e.support.kube import Kube, Manifest
from tests.e2e.support.waiting import until

IMAGE = "example.invalid/nothing:1"
POD = {"metadata": {"labels": {"app": "theirs"}}, "spec": {"containers": [{"name": "any", "image": IMAGE}]}}
THEIRS: dict[str, Manifest] = {
    "Service": {
        "apiVersion": "v1",
        "metadata": {"name": "contested-ollama"},
        "spec": {"ports": [{"port": 80}], "selector": {"app": "theirs"}},
    },
    "ConfigMap": {"apiVersion": "v1", "metadata": {"name": "contested-ollama"}, "data": {"theirs": "yes"}},
    "StatefulSet": {
        "apiVersion": "apps/v1",
        "metadata": {"name": "contested-ollama"},
        "spec": {
            "replicas": 0,
            "serviceName": "theirs",
            "selector": {"matchLabels": {"app": "theirs"}},
            "template": POD,
        },
    },
    "RayService": {
        "apiVersion": "ray.io/v1",
        "metadata": {"name": "contested"},
        "spec": {
            "rayClusterConfig": {
                "headGroupSpec": {
                    "rayStartParams": {},
                    "template": POD,
                    # KubeRay refuses a Service of one's own name, and leaves the RayService alone.
                    "headService": {"metadata": {"name": "theirs"}},
                }
            }
        },
    },
}


@pytest.fixture
def theirs(kube: Kube) -> dict[str, str]:
    """Objects of somebody else, as they are once their controllers have seen them."""
    for kind, manifest in THEIRS.items():
        kube.apply({"kind": kind, **manifest})
    until(
        lambda: kube.get("statefulset", "contested-ollama").get("status", {}).get("observedGeneration"),
        lambda seen: seen == 1,
        seconds=30,
        what="the StatefulSet's controller has seen it",
    )
    return _all(kube)


def _all(kube: Kube) -> dict[str, str]:
    return {
        kind: kube.run("get", kind, manifest["metadata"]["name"], "--output", "json", "--show-managed-fields")
        for kind, manifest in THEIRS.items()
    }


def test_are_left_alone_and_the_set_is_ready_once_they_are_gone(kube: Kube, theirs: dict[str, str]) -> None:
    kube.apply(ms.manifest("contested", [ms.EMBEDDING]))
    contested = ms.ModelSet(kube, "contested")
    told = [f"{kind} {manifest['metadata']['name']}" for kind, manifest in THEIRS.items()]

    ready = until(
        lambda: contested.condition("Ready"),
        lambda found: found.get("status") == "False" and all(what in found["message"] for what in told),
        seconds=60,
        what="the condition names all of them",
    )
    assert ready["reason"] == "ApplyFailed"
    assert "delete or rename it" in ready["message"]
    until(
        lambda: [event["message"] for event in kube.events("contested") if event["type"] == "Warning"],
        lambda messages: any(all(what in message for what in told) for message in messages),
        seconds=30,
        what="an event names all of them",
    )
    kube.run("delete", "ollamamodelset", "contested", "--wait", "--timeout=60s")
    kube.apply(ms.manifest("contested", [ms.EMBEDDING]))
    until(
        lambda: contested.condition("Ready"),
        lambda found: found.get("reason") == "ApplyFailed",
        seconds=60,
        what="the set that was made anew waits, too",
    )
    assert _all(kube) == theirs

    for kind, manifest in THEIRS.items():
        kube.run("delete", kind, manifest["metadata"]["name"], "--wait", "--timeout=60s")

    contested.await_ready()
    uid = contested.get()["metadata"]["uid"]
    for kind, text in _all(kube).items():
        (owner,) = json.loads(text)["metadata"]["ownerReferences"]
        assert owner["uid"] == uid, f"{kind} is not the set's"
