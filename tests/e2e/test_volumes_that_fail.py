"""A volume that is full, and one that is gone: the set says what to do, and heals when that is done."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import pytest

from tests.e2e.support import modelset as ms
from tests.e2e.support import node
from tests.e2e.support.kube import Kube, Manifest

pytestmark = pytest.mark.long

TOLD_SECONDS = 120
# A failed download is tried again after five minutes at the latest.
RETRY_SECONDS = 300
# The model takes 24 MB.
TOO_SMALL, LARGE_ENOUGH = "16m", "256m"
CLASS = "no-provisioner"


@pytest.fixture
def disk(kube: Kube) -> Iterator[str]:
    """A file system of the node's with little room, which is a PersistentVolume; yields where it is."""
    path, name = f"/mnt/{kube.namespace}", f"small-{kube.namespace}"
    node.run("mkdir", "-p", path)
    node.run("mount", "-t", "tmpfs", "-o", f"size={TOO_SMALL},mode=0777", "small", path)
    kube.apply(_volume(name, path))
    yield path
    kube.run("delete", "ollamamodelset", "full", "--cascade=foreground", "--timeout=120s")
    kube.run("delete", "persistentvolumeclaim", "--all", "--timeout=120s")
    kube.run("delete", "persistentvolume", name)
    node.run("umount", path)


def _volume(name: str, path: str) -> Manifest:
    host = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node.NAME]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": "16Mi"},
            "local": {"path": path},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [host]}]}},
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": CLASS,
        },
    }


def test_a_download_that_finds_no_room_says_so_and_goes_on_when_there_is(kube: Kube, disk: str) -> None:
    manifest = ms.manifest("full", [ms.SMALL_EMBEDDING])
    manifest["spec"]["ollama"]["storage"] = {"size": "16Mi", "storageClassName": CLASS}
    kube.apply(manifest)
    full = ms.ModelSet(kube, "full")
    told = full.await_reason("ModelsReady", "DiskFull", ms.READY_SECONDS)
    assert "no space left on device" in told
    assert "its volume has 16Mi" in told

    node.run("mount", "-o", f"remount,size={LARGE_ENOUGH}", disk)
    # A disk that was full may have left files without content; then the message has what removes them.
    if command := re.search(r"kubectl (exec .*-delete)", full.condition("ModelsReady")["message"]):
        kube.run(*shlex.split(command[1]))
    full.await_ready(RETRY_SECONDS + ms.READY_SECONDS)
    assert full.condition("ModelsReady")["reason"] == "AllModelsReady"


def test_a_volume_that_is_gone_is_told_with_the_commands_that_bring_another(kube: Kube) -> None:
    kube.apply(ms.manifest("lost", [ms.SMALL_EMBEDDING]))
    lost = ms.ModelSet(kube, "lost")
    lost.await_ready()

    claim = kube.get("persistentvolumeclaim", "models-lost-ollama-0")
    volume = claim["spec"]["volumeName"]
    kube.run("delete", "persistentvolume", volume, "--wait=false")
    kube.run(
        "patch", "persistentvolume", volume, "--type=merge", "--patch", '{"metadata": {"finalizers": null}}'
    )
    kube.run("delete", "pod", "lost-ollama-0")
    told = lost.await_reason("OllamaReady", "VolumeLost", TOLD_SECONDS)
    assert claim["metadata"]["name"] in told

    for command in re.findall(r"kubectl (delete [^,;]+)", told):
        kube.run(*command.split())
    lost.await_ready()
    assert kube.get("persistentvolumeclaim", claim["metadata"]["name"])["spec"]["volumeName"] != volume
