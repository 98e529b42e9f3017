"""After an edit that replaces pods, `kubectl wait --for=condition=Ready` returns when the new ones serve."""

from __future__ import annotations

import pytest

from tests.e2e.support import modelset as ms
from tests.e2e.support.kube import Kube, Manifest

pytestmark = pytest.mark.compat


def test_waiting_for_ready_is_waiting_for_the_new_pods(kube: Kube) -> None:
    manifest = ms.manifest("edited", [ms.CHAT])
    kube.apply(manifest)
    edited = ms.ModelSet(kube, "edited")
    edited.await_ready()

    before = _servers(edited)
    manifest["spec"]["ollama"]["parallel"] = 3
    _apply_and_wait(edited, manifest)
    ollama_rolled = _servers(edited)
    assert not ollama_rolled["ollama"] & before["ollama"], "Ready while the old Ollama pod serves"
    assert ollama_rolled["proxy"] == before["proxy"], "the proxy was replaced for a change of Ollama"

    manifest["spec"]["proxy"]["resources"]["requests"]["cpu"] = "110m"
    _apply_and_wait(edited, manifest)
    proxy_rolled = _servers(edited)
    assert not proxy_rolled["proxy"] & before["proxy"], "Ready while the old proxy serves"
    assert proxy_rolled["ollama"] == ollama_rolled["ollama"], "Ollama was replaced for a change of the proxy"


def _apply_and_wait(edited: ms.ModelSet, manifest: Manifest) -> None:
    """What a deployment pipeline does; then a chat, at once and only once."""
    generation = edited.get()["metadata"]["generation"]
    edited.kube.apply(manifest)
    edited.kube.run(
        "wait", "ollamamodelset", "edited", "--for=condition=Ready", f"--timeout={ms.READY_SECONDS}s"
    )
    assert edited.get()["metadata"]["generation"] == generation + 1
    assert edited.condition("Ready")["observedGeneration"] == generation + 1
    stateful_set = edited.kube.get("statefulset", "edited-ollama")["status"]
    assert stateful_set["currentRevision"] == stateful_set["updateRevision"]
    assert stateful_set["updatedReplicas"] == stateful_set["readyReplicas"] == 1
    with edited.client() as client:
        answer = client.chat.completions.create(
            model="smollm2", messages=[{"role": "user", "content": "hi"}], max_completion_tokens=4
        )
    assert answer.choices[0].message.content


def _servers(modelset: ms.ModelSet) -> dict[str, set[str]]:
    """The uids of the pods that requests reach: the proxy's by its Service, Ollama's by the headless one."""
    services = {"proxy": f"{modelset.name}-serve-svc", "ollama": f"{modelset.name}-ollama"}
    return {
        part: {
            endpoint["targetRef"]["uid"]
            for endpoints in modelset.kube.find("endpointslices", f"kubernetes.io/service-name={service}")
            for endpoint in endpoints["endpoints"] or ()
            if endpoint["conditions"]["ready"]
        }
        for part, service in services.items()
    }
