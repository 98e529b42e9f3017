"""A manifest with a mistake is refused by `kubectl apply`, with a message that names the field."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.support import modelset as ms
from tests.e2e.support.kube import Kube, Manifest, Refused


def _with(path: str, value: Any) -> Manifest:
    manifest = ms.manifest("wrong", [ms.CHAT, ms.EMBEDDING])
    *parents, last = path.split(".")
    target: Any = manifest
    for parent in parents:
        target = target[int(parent)] if isinstance(target, list) else target.setdefault(parent, {})
    target[last] = value
    return manifest


@pytest.mark.parametrize(
    ("manifest", "named"),
    [
        pytest.param(_with("spec.models", []), "spec.models", id="no-models"),
        pytest.param(_with("spec.models.1.servedNames", ["smollm2"]), "servedNames", id="served-name-twice"),
        pytest.param(
            _with(
                "spec.models",
                [{"name": "smollm2:latest"}, {"name": "smollm2:135m", "servedNames": ["smollm2"]}],
            ),
            "servedNames",
            id="served-name-equals-a-default",
        ),
        pytest.param(_with("metadata.name", "a" * 41), "metadata.name", id="name-too-long"),
        pytest.param(_with("metadata.name", "1st"), "metadata.name", id="name-begins-with-a-digit"),
        pytest.param(
            _with("spec.ollama.replicas", -1), "spec.ollama.replicas", id="negative-ollama-replicas"
        ),
        pytest.param(_with("spec.proxy.replicas", -1), "spec.proxy.replicas", id="negative-proxy-replicas"),
        pytest.param(_with("spec.ollama.replica", 1), "spec.ollama.replica", id="unknown-field"),
        pytest.param(
            _with("spec.proxy.cors", {"allowOrigins": ["chat.example"]}), "allowOrigins", id="no-origin"
        ),
        pytest.param(_with("spec.models.0.type", "Vision"), "spec.models[0].type", id="unknown-type"),
        pytest.param(_with("spec.models.0.keepAlive", "soon"), "spec.models[0].keepAlive", id="bad-duration"),
        pytest.param(
            _with("spec.models.0.keepAlive", "9999999h"),
            "longer than Ollama can count",
            id="endless-duration",
        ),
        pytest.param(
            _with("spec.models.0.name", "reg.local:5000/model"), "a host needs a namespace", id="no-namespace"
        ),
        pytest.param(_with("spec.registry", {"insecure": True}), "host must be set", id="insecure-nowhere"),
        pytest.param(_with("spec.ollama.storage.size", 0), "must be more than 0", id="no-storage"),
        pytest.param(_with("spec.ollama.storage.size", "0.0Gi"), "must be more than 0", id="nor-so-much"),
        pytest.param(
            _with("spec.ollama.storage.size", "much"), "spec.ollama.storage.size", id="bad-quantity"
        ),
    ],
)
def test_is_refused(shared_kube: Kube, manifest: Manifest, named: str) -> None:
    with pytest.raises(Refused) as refused:
        shared_kube.apply(manifest)
    assert named in str(refused.value)
