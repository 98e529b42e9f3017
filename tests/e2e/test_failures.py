"""What goes wrong reaches the person who can act, and the rest goes on."""

from __future__ import annotations

from tests.e2e.support import modelset as ms
from tests.e2e.support.kube import Kube
from tests.e2e.support.waiting import until


def test_a_model_that_no_registry_has_fails_and_the_others_serve(kube: Kube) -> None:
    kube.apply(ms.manifest("partial", [ms.EMBEDDING, ms.MISSING]))
    partial = ms.ModelSet(kube, "partial")

    failed = partial.await_phase("no-such-model:1b", "Failed")
    partial.await_phase("all-minilm", "Ready")

    assert "manifest" in failed["message"]
    until(
        lambda: partial.condition("ModelsReady"),
        lambda c: c.get("status") == "False" and "no-such-model:1b" in c["message"],
        seconds=30,
        what="the condition names the model",
    )
    until(
        lambda: [
            e for e in kube.events("partial") if e["type"] == "Warning" and "no-such-model:1b" in e["message"]
        ],
        lambda warnings: bool(warnings) and "manifest" in warnings[0]["message"],
        seconds=30,
        what="an event with Ollama's reason",
    )
    until(
        lambda: partial.condition("ProxyReady"),
        lambda c: c.get("status") == "True",
        seconds=ms.READY_SECONDS,
        what="the proxy serves",
    )
    with partial.client() as client:
        names = until(
            lambda: [model.id for model in client.models.list()],
            lambda listed: "all-minilm" in listed,
            seconds=30,
            what="the other model is listed",
        )
        assert names == ["all-minilm"]
        assert client.embeddings.create(model="all-minilm", input="hello").data[0].embedding
