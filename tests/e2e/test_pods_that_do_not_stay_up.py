"""Pods that end again and again: the set says why and what to do, and heals by itself when that is done."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.support import modelset as ms
from tests.e2e.support.kube import Kube, Manifest

pytestmark = pytest.mark.long

TOLD_SECONDS = 120
# Go's runtime ends a program at once that has such a limit.
BAD_LIMIT = {"name": "GOMEMLIMIT", "value": "plenty"}
# Enough for a container to begin with, and not for Ollama.
LITTLE = {"requests": {"cpu": "50m", "memory": "12Mi"}, "limits": {"memory": "12Mi"}}


def _manifest(**fields: Any) -> Manifest:
    manifest = ms.manifest("falling", [ms.SMALL_EMBEDDING])
    manifest["spec"]["ollama"] |= fields
    return manifest


def test_a_set_says_why_its_pods_end_and_heals(kube: Kube) -> None:
    falling = ms.ModelSet(kube, "falling")

    kube.apply(_manifest(env=[BAD_LIMIT]))
    told = falling.await_reason("OllamaReady", "CrashLooping", TOLD_SECONDS)
    assert "exit code 2" in told
    assert "kubectl logs --previous" in told
    assert "falling-ollama-0" in falling.await_reason("Ready", "CrashLooping", TOLD_SECONDS)

    kube.apply(_manifest(resources=LITTLE))
    told = falling.await_reason("OllamaReady", "OutOfMemory", TOLD_SECONDS)
    assert "its limit, 12Mi; raise spec.ollama.resources.limits.memory" in told

    # Nobody deletes a pod: the edit is all that is done.
    kube.apply(_manifest())
    falling.await_ready()
    assert falling.condition("OllamaReady")["reason"] == "AllPodsReady"
