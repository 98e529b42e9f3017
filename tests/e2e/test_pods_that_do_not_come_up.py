"""Pods that do not come up: the set says why and what to do, and heals by itself when that is done."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.support import modelset as ms
from tests.e2e.support.kube import Kube, Manifest
from tests.e2e.support.waiting import until

pytestmark = pytest.mark.long

# At every node's own port 1 nobody listens, so that a pull is refused at once.
NO_IMAGE = "127.0.0.1:1/no-such-image:none"
NO_NODE = {"modelset.dev/no-such-node": "true"}
TOLD_SECONDS = 120
PARTS = {"OllamaReady": "ollama", "ProxyReady": "proxy"}


def _manifest(**fields: Any) -> Manifest:
    manifest = ms.manifest("stuck", [ms.SMALL_EMBEDDING])
    for part in PARTS.values():
        manifest["spec"][part] |= fields
    return manifest


def _await_reason(stuck: ms.ModelSet, kind: str, reason: str, *words: str) -> None:
    message = stuck.await_reason(kind, reason, TOLD_SECONDS)
    for told in words:
        assert told in message


def test_a_set_says_why_its_pods_do_not_come_up_and_heals(kube: Kube) -> None:
    stuck = ms.ModelSet(kube, "stuck")

    kube.apply(_manifest(image=NO_IMAGE))
    for kind, part in PARTS.items():
        _await_reason(stuck, kind, "ImagePullFailed", NO_IMAGE, f"spec.{part}.image")
    _await_reason(stuck, "Ready", "ImagePullFailed", "stuck-ollama-0")
    until(
        lambda: [e["message"] for e in kube.events("stuck") if e["type"] == "Warning"],
        lambda messages: any(NO_IMAGE in message for message in messages),
        seconds=30,
        what="an event names the image",
    )

    # The image is mended; now there is no node.
    kube.apply(_manifest(nodeSelector=NO_NODE))
    for kind, part in PARTS.items():
        _await_reason(stuck, kind, "Unschedulable", f"spec.{part}.nodeSelector")
    _await_reason(stuck, "Ready", "Unschedulable", "stuck-ollama-0")

    # Nobody deletes a pod: the edit is all that is done.
    kube.apply(_manifest())
    stuck.await_ready()
    assert stuck.condition("OllamaReady")["reason"] == "AllPodsReady"
    assert stuck.condition("ProxyReady")["reason"] == "Running"
    with stuck.client() as client:
        assert client.embeddings.create(model="all-minilm-small", input="hello").data[0].embedding
