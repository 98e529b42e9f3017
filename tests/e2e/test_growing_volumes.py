"""A set's volumes grow where their StorageClass allows that; elsewhere the set says so, and serves on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.support import modelset as ms
from tests.e2e.support.kube import Kube, Manifest
from tests.e2e.support.waiting import until

pytestmark = pytest.mark.long

CLASS = "growing"
SECONDS = 60


@pytest.fixture
def storage_class(kube: Kube) -> Iterator[str]:
    """A class of volumes that may not grow yet; kind's provisioner makes them, and never changes them."""
    name = f"{CLASS}-{kube.namespace}"
    kube.apply(_class(name, growing=False))
    yield name
    kube.run("delete", "storageclass", name)


def _class(name: str, *, growing: bool) -> Manifest:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": name},
        "provisioner": "rancher.io/local-path",
        "volumeBindingMode": "WaitForFirstConsumer",
        "allowVolumeExpansion": growing,
    }


def _asked(kube: Kube) -> str:
    claim = kube.get("persistentvolumeclaim", "models-growing-ollama-0")
    return str(claim["spec"]["resources"]["requests"]["storage"])


def test_claims_grow_with_their_set_and_no_pod_restarts(kube: Kube, storage_class: str) -> None:
    growing = ms.ModelSet(kube, "growing")
    manifest = ms.manifest("growing", [ms.EMBEDDING])

    def resize(size: str) -> None:
        manifest["spec"]["ollama"]["storage"] = {"size": size, "storageClassName": storage_class}
        kube.apply(manifest)

    resize("1Gi")
    growing.await_ready()
    before = growing.pod_identities()

    resize("2Gi")
    told = until(
        lambda: growing.condition("OllamaReady"),
        lambda found: found.get("reason") == "VolumesTooSmall",
        seconds=SECONDS,
        what="the volume is told to be too small",
    )
    assert told["status"] == "True"
    assert "must support resize" in told["message"]
    assert _asked(kube) == "1Gi"
    growing.await_ready()

    kube.apply(_class(storage_class, growing=True))
    resize("3Gi")
    until(lambda: _asked(kube), lambda size: size == "3Gi", seconds=SECONDS, what="the claim asks for more")
    growing.await_ready()
    assert growing.condition("OllamaReady")["reason"] == "AllPodsReady"
    (template,) = kube.get("statefulset", "growing-ollama")["spec"]["volumeClaimTemplates"]
    assert template["spec"]["resources"]["requests"]["storage"] == "3Gi"
    assert growing.pod_identities() == before
