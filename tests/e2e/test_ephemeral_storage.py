"""A set whose models are on the node's disk and go with their pod, beside a claim that stays."""

from __future__ import annotations

import pytest

from tests.e2e.support import modelset as ms
from tests.e2e.support.kube import Kube, Manifest
from tests.e2e.support.waiting import until

pytestmark = pytest.mark.long

CLAIM: Manifest = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "adapters"},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
}


def test_models_go_with_their_pod_and_the_next_one_pulls_them(kube: Kube) -> None:
    kube.apply(CLAIM)
    manifest = ms.manifest("thrown-away", [ms.EMBEDDING])
    volume = {
        "name": "adapters",
        "mountPath": "/adapters",
        "persistentVolumeClaim": {"claimName": "adapters"},
    }
    manifest["spec"]["ollama"] |= {
        "storage": {"size": "2Gi", "ephemeral": True},
        "volumes": [volume],
        "supplementalGroups": [2000],
        "podLabels": {"team": "research"},
    }
    kube.apply(manifest)
    thrown_away = ms.ModelSet(kube, "thrown-away")
    thrown_away.await_ready()
    assert [one["metadata"]["name"] for one in kube.find("persistentvolumeclaims")] == ["adapters"]
    (pod,) = kube.find("pods", "team=research")
    name = pod["metadata"]["name"]
    assert "2000" in kube.run("exec", name, "--", "id", "-G").split()
    kube.run("exec", name, "--", "touch", "/adapters/kept")

    kube.run("delete", "pod", name)
    until(
        lambda: kube.find("pods", "team=research"),
        lambda pods: [one["metadata"]["uid"] for one in pods] not in ([], [pod["metadata"]["uid"]]),
        seconds=ms.READY_SECONDS,
        what="another pod takes its place",
    )
    kube.run("wait", f"pod/{name}", "--for=condition=Ready", f"--timeout={ms.READY_SECONDS}s")
    assert kube.run("exec", name, "--", "ls", "/adapters").split() == ["kept"]
    thrown_away.await_ready()
