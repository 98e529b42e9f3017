"""Models come and go on a running set: nothing restarts, and clients see it soon."""

from __future__ import annotations

import pytest

from tests.e2e.support import held
from tests.e2e.support import modelset as ms
from tests.e2e.support.kube import Kube
from tests.e2e.support.waiting import until

pytestmark = pytest.mark.compat

LISTED_SECONDS = 15


def _listed(client_models: object) -> list[str]:
    return sorted(model.id for model in client_models)  # type: ignore[attr-defined]


def test_a_model_is_added_and_removed_without_a_restart(kube: Kube) -> None:
    kube.apply(ms.manifest("changing", [ms.EMBEDDING], ms.SLOW_REGISTRY))
    changing = ms.ModelSet(kube, "changing")
    changing.await_ready()
    before = changing.pod_identities()
    assert len(before) == 2

    kube.apply(ms.manifest("changing", [ms.EMBEDDING, ms.CHAT], ms.SLOW_REGISTRY))
    percents = _watch_pull(changing, "smollm2:135m")
    assert any(0 < percent < 100 for percent in percents), percents
    assert percents == sorted(percents), "progress went back"
    with changing.client() as client:
        until(
            lambda: _listed(client.models.list()),
            lambda names: names == ["all-minilm", "smollm2"],
            seconds=LISTED_SECONDS,
            what="the added model is listed",
        )
        answer = client.chat.completions.create(
            model="smollm2", messages=[{"role": "user", "content": "hi"}], max_completion_tokens=4
        )
        assert answer.choices[0].message.content

        kube.apply(ms.manifest("changing", [ms.EMBEDDING], ms.SLOW_REGISTRY))
        until(
            lambda: _listed(client.models.list()),
            lambda names: names == ["all-minilm"],
            seconds=LISTED_SECONDS,
            what="the removed model is no longer listed",
        )
    _await_held(changing, 1)
    assert "model.modelset.dev/smollm2" not in changing.get()["metadata"]["labels"]
    assert changing.pod_identities() == before


def _watch_pull(modelset: ms.ModelSet, model: str) -> list[int]:
    """All percentages seen until the model is Ready."""
    percents: list[int] = []

    def look() -> dict[str, object]:
        status = modelset.model(model)
        if status.get("phase") == "Pulling" and status.get("progress"):
            percents.append(int(status["progress"].removesuffix("%")))
        return status

    until(
        look,
        lambda status: status.get("phase") == "Ready",
        seconds=ms.READY_SECONDS,
        what=f"{model} is Ready",
    )
    return percents


def _await_held(modelset: ms.ModelSet, count: int) -> None:
    """Ollama itself holds `count` models: what left the set left the disk."""
    until(
        lambda: held.models(modelset.kube, f"{modelset.name}-ollama-0"),
        lambda found: len(found) == count,
        seconds=60,
        what=f"{count} models on disk",
    )
