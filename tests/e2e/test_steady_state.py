"""A set that is as it should be costs the API server no write."""

from __future__ import annotations

import time

import pytest

from tests.e2e.support import modelset as ms
from tests.e2e.support.kube import Manifest
from tests.e2e.support.waiting import until

STEADY_SECONDS = 300
MANAGER = "modelset-operator"
KINDS = ("ollamamodelsets", "statefulsets", "services", "rayservices", "pods", "events")
WRITTEN = {"ollamamodelsets/assistants", "statefulsets/assistants-ollama", "rayservices/assistants"}


@pytest.mark.timeout(STEADY_SECONDS + 300)
def test_the_operator_writes_nothing_for_five_minutes(assistants: ms.ModelSet) -> None:
    before = _writes(assistants)
    assert before.keys() >= WRITTEN
    deadline = time.monotonic() + STEADY_SECONDS
    until(
        lambda: _writes(assistants),
        lambda now: now != before or time.monotonic() > deadline,
        seconds=STEADY_SECONDS + 60,
        what="five minutes pass",
    )
    assert _writes(assistants) == before


def _writes(modelset: ms.ModelSet) -> dict[str, tuple[str, ...]]:
    """When the operator last wrote, object by object; where only it writes, the resourceVersion."""
    return {
        f"{kind}/{item['metadata']['name']}": _trace(kind, item)
        for kind in KINDS
        for item in modelset.kube.find(kind)
        if any(field["manager"] == MANAGER for field in item["metadata"].get("managedFields", []))
    }


def _trace(kind: str, item: Manifest) -> tuple[str, ...]:
    if kind == "ollamamodelsets":
        return (item["metadata"]["resourceVersion"],)
    return tuple(f["time"] for f in item["metadata"]["managedFields"] if f["manager"] == MANAGER)
