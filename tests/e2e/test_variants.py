"""Variants of a base on a running set: made without a download, edited without a restart, taken out again."""

from __future__ import annotations

import httpx
import pytest

from tests.e2e.support import held
from tests.e2e.support import modelset as ms
from tests.e2e.support.kube import Kube, Manifest
from tests.e2e.support.waiting import until

MADE_SECONDS = 60
GONE_SECONDS = 120
POD = "varied-ollama-0"
BASE = f"{ms.REGISTRY}/library/smollm2:135m"
PARAMETERS = {"temperature": 0, "seed": 7, "num_predict": 12}
MOST_BYTES = 1024 * 1024
SHORT = {**ms.CHAT, "contextLength": 1024}


def _variant(name: str, system: str) -> Manifest:
    return {"name": name, "from": "smollm2:135m", "system": system, "parameters": PARAMETERS}


POET, PIRATE = _variant("poet", "You answer in verse."), _variant("pirate", "You answer like a pirate.")
SAILOR = {**PIRATE, "system": "You are a sailor, and count."}


def _manifest(*models: Manifest) -> Manifest:
    manifest = ms.manifest("varied", list(models))
    manifest["spec"]["ollama"] |= {"parallel": 1, "maxLoadedModels": 1}
    return manifest


def _answer(varied: ms.ModelSet, model: str) -> str:
    with varied.client() as client:
        found = client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": "Who are you?"}]
        )
    return found.choices[0].message.content or ""


def _answer_of_ollamas_own(kube: Kube, recipe: Manifest, base: str = BASE) -> str:
    """Have Ollama make a model of the same recipe, and answer; what no spec names is soon deleted."""
    words = {key: recipe[key] for key in ("system", "parameters")}
    question = [{"role": "user", "content": "Who are you?"}]

    def ask() -> httpx.Response:
        made = {"model": "by-hand", "from": base, "stream": False, **words}
        httpx.post(f"{url}/api/create", json=made, timeout=60).raise_for_status()
        options = {"num_ctx": SHORT["contextLength"]}
        body = {"model": "by-hand", "messages": question, "stream": False, "options": options}
        return httpx.post(f"{url}/api/chat", json=body, timeout=60)

    with kube.forward(f"pod/{POD}", 11434) as port:
        url = f"http://127.0.0.1:{port}"
        found = until(
            ask, lambda reply: reply.is_success, seconds=MADE_SECONDS, what="the model by hand answers"
        )
    return str(found.json()["message"]["content"])


def _held(kube: Kube) -> list[str]:
    return sorted(name.rpartition("/")[2] for name in held.models(kube, POD))


def _await_held(kube: Kube, *models: str) -> None:
    until(
        lambda: _held(kube),
        lambda found: found == sorted(models),
        seconds=GONE_SECONDS,
        what=f"Ollama holds {models}",
    )


def _bytes_on_disk(kube: Kube) -> int:
    return int(kube.run("exec", POD, "--", "du", "-sk", "/var/lib/ollama/models").split()[0]) * 1024


def _loads(kube: Kube) -> int:
    """Return how often Ollama has begun to load a model."""
    lines = kube.run("logs", POD).splitlines()
    return sum("starting runner" in line and "--model" in line for line in lines)


def test_variants_are_made_edited_and_taken_out_while_the_set_runs(kube: Kube) -> None:
    kube.apply(_manifest(SHORT))
    varied = ms.ModelSet(kube, "varied")
    varied.await_ready()
    before, disk = varied.pod_identities(), _bytes_on_disk(kube)

    kube.apply(_manifest(SHORT, POET, PIRATE))
    varied.await_ready()
    assert _bytes_on_disk(kube) - disk < 2 * MOST_BYTES
    told = varied.model("poet")
    assert (told["from"], told["readyReplicas"], told["type"]) == ("smollm2:135m", "1/1", "Chat")
    with varied.client() as client:
        until(
            lambda: sorted(model.id for model in client.models.list()),
            lambda names: names == ["pirate", "poet", "smollm2"],
            seconds=MADE_SECONDS,
            what="the variants are listed",
        )
    answers = {name: _answer(varied, name) for name in ("poet", "smollm2", "pirate", "smollm2", "poet")}
    assert answers["poet"] != answers["pirate"]
    assert _loads(kube) == 1
    for recipe in (POET, PIRATE):
        assert _answer_of_ollamas_own(kube, recipe) == answers[recipe["name"]]

    # Edited: other answers, from the same pods.
    kube.apply(_manifest(SHORT, POET, SAILOR))
    varied.await_ready()
    assert _answer(varied, "pirate") == _answer_of_ollamas_own(kube, SAILOR) != answers["pirate"]
    assert _answer(varied, "poet") == answers["poet"]

    # Taken out: gone, and the base stays as long as one variant of it is wanted, though it is no entry.
    kube.apply(_manifest(SHORT, POET))
    _await_held(kube, "poet:latest", "smollm2:135m")
    kube.apply(_manifest(POET))
    varied.await_ready()
    with varied.client() as client:
        until(
            lambda: [model.id for model in client.models.list()],
            lambda names: names == ["poet"],
            seconds=MADE_SECONDS,
            what="the base is not listed",
        )
    assert _answer(varied, "poet") == answers["poet"]
    _await_held(kube, "poet:latest", "smollm2:135m")
    assert varied.pod_identities() == before


@pytest.mark.long
def test_a_variant_whose_base_is_no_entry_is_served_and_one_that_cannot_be_made_goes_on_as_it_was(
    kube: Kube,
) -> None:
    kube.apply(_manifest(POET, ms.EMBEDDING))
    varied = ms.ModelSet(kube, "varied")
    varied.await_ready()
    answer = _answer(varied, "poet")
    assert [event["reason"] for event in kube.events("varied")].count("Created") == 1

    kube.apply(_manifest({**POET, "template": "{{ .Prompt"}, ms.EMBEDDING))
    told = varied.await_phase("poet", "Failed")
    assert "template error" in told["message"]
    assert _answer(varied, "poet") == answer
    kube.apply(_manifest(POET, ms.EMBEDDING))
    varied.await_ready()


@pytest.mark.long
def test_a_variant_gets_an_adapter_that_a_model_of_the_registry_has(kube: Kube) -> None:
    plain = {**POET, "name": "plain"}
    kube.apply(_manifest(SHORT, plain))
    varied = ms.ModelSet(kube, "varied")
    varied.await_ready()
    before = varied.pod_identities()

    adapted = {**plain, "adapter": "smollm2:135m-lora"}
    kube.apply(_manifest(SHORT, POET, adapted))
    varied.await_ready()
    answers = {name: _answer(varied, name) for name in ("poet", "plain", "smollm2", "plain")}
    assert answers["plain"] == _answer_of_ollamas_own(kube, adapted, f"{BASE}-lora") != answers["poet"]
    with varied.client() as client:
        assert sorted(model.id for model in client.models.list()) == ["plain", "poet", "smollm2"]
    _await_held(kube, "plain:latest", "poet:latest", "smollm2:135m", "smollm2:135m-lora")

    # A model without one is refused by name, and what was there before answers.
    kube.apply(_manifest(SHORT, POET, {**plain, "adapter": "all-minilm"}))
    told = varied.await_phase("plain", "Failed")
    assert "its adapter, all-minilm, has no adapter layers: set adapter to" in told["message"]
    assert _answer(varied, "plain") == answers["plain"]

    # Taken out again it is a variant as any other, and the adapter goes.
    kube.apply(_manifest(SHORT, POET, plain))
    varied.await_ready()
    assert _answer(varied, "plain") == answers["poet"]
    _await_held(kube, "plain:latest", "poet:latest", "smollm2:135m")
    assert varied.pod_identities() == before
