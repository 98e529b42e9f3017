"""Registries that fail and lie: told, never served, and made good once they are better."""

from __future__ import annotations

import pytest

from tests.e2e.support import modelset as ms
from tests.e2e.support import registry
from tests.e2e.support.kube import Kube
from tests.e2e.support.waiting import until

FAILED_SECONDS = 180


@pytest.mark.long
def test_a_lying_and_a_failing_registry_are_told_and_never_served(kube: Kube) -> None:
    registry.install(kube)
    lie = registry.LIES + registry.weights(kube)
    registry.put(kube, lie)
    manifest = ms.manifest("mistrusting", [ms.CHAT], registry.host(kube, registry.OPEN_PORT))
    manifest["spec"]["registry"] |= {"cache": {"size": "1Gi"}}
    kube.apply(manifest)
    mistrusting = ms.ModelSet(kube, "mistrusting")
    told = mistrusting.await_phase("smollm2:135m", "Failed", FAILED_SECONDS)
    assert "digest mismatch" in told["message"]
    assert mistrusting.status()["modelNames"] == ""

    registry.put(kube, registry.FAILS)
    registry.end(kube, lie)
    kube.run("delete", "pod", "mistrusting-ollama-0")
    until(
        lambda: str(mistrusting.model("smollm2:135m").get("message")),
        lambda message: "answers 503" in message,
        seconds=FAILED_SECONDS,
        what="the failing registry is told",
    )

    # Nobody does anything but the registry.
    registry.end(kube, registry.FAILS)
    mistrusting.await_ready()
    assert mistrusting.model("smollm2:135m")["readyReplicas"] == "1/1"
