"""A set that was applied and became Ready: what its users and its clients see."""

from __future__ import annotations

import httpx
import openai
import pytest

from tests.e2e.support import modelset as ms

pytestmark = pytest.mark.compat

MODEL_LABEL = "model.modelset.dev/smollm2"


def test_answers_a_chat(assistants: ms.ModelSet) -> None:
    with assistants.client() as client:
        chat = client.chat.completions.create(
            model="smollm2", messages=[{"role": "user", "content": "Say hello."}], max_completion_tokens=16
        )
    assert chat.choices[0].message.content
    assert chat.choices[0].finish_reason in {"stop", "length"}
    assert chat.usage is not None
    assert 0 < chat.usage.completion_tokens <= 16
    assert chat.usage.total_tokens == chat.usage.prompt_tokens + chat.usage.completion_tokens


def test_streams_a_chat(assistants: ms.ModelSet) -> None:
    with assistants.client() as client:
        chunks = list(
            client.chat.completions.create(
                model="smollm2",
                messages=[{"role": "user", "content": "Count to five."}],
                max_completion_tokens=16,
                stream=True,
                stream_options={"include_usage": True},
            )
        )
    contents = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    assert "".join(content for content in contents if content)
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] in {"stop", "length"}
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 0


def test_embeds_texts_in_their_order(assistants: ms.ModelSet) -> None:
    texts = ["a cat sat on the mat", "a kitten lay on the rug", "quarterly tax returns"]
    with assistants.client() as client:
        as_base64 = client.embeddings.create(model="all-minilm", input=texts)
        as_floats = client.embeddings.create(model="all-minilm", input=texts[0], encoding_format="float")
    cat, kitten, taxes = (item.embedding for item in as_base64.data)
    assert len(cat) == 384
    assert cat == pytest.approx(as_floats.data[0].embedding, abs=1e-5)
    assert _dot(cat, kitten) > _dot(cat, taxes)


def _dot(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def test_lists_its_models_with_and_without_v1(assistants: ms.ModelSet) -> None:
    with assistants.client() as client:
        assert sorted(model.id for model in client.models.list()) == ms.SHARED_NAMES
        assert client.models.retrieve("smollm2").object == "model"
        without_v1 = httpx.get(str(client.base_url).removesuffix("v1/") + "models")
    assert sorted(model["id"] for model in without_v1.json()["data"]) == ms.SHARED_NAMES


def test_tells_clients_what_is_wrong_as_openai_does(assistants: ms.ModelSet) -> None:
    with assistants.client() as client:
        with pytest.raises(openai.NotFoundError) as unknown:
            client.chat.completions.create(model="gpt-4", messages=[{"role": "user", "content": "hi"}])
        with pytest.raises(openai.BadRequestError) as wrong_kind:
            client.chat.completions.create(model="all-minilm", messages=[{"role": "user", "content": "hi"}])
        malformed = httpx.post(f"{client.base_url}chat/completions", content=b"{")
    assert unknown.value.code == "model_not_found"
    assert wrong_kind.value.param == "model"
    assert malformed.status_code == 400
    assert malformed.json()["error"]["type"] == "invalid_request_error"


def test_is_found_by_label_and_annotation(assistants: ms.ModelSet) -> None:
    expected = {
        "services": "assistants-serve-svc",
        "rayservices": "assistants",
        "ollamamodelsets": "assistants",
    }
    for selector in ("openai-compatible=true", f"{MODEL_LABEL}=true"):
        for kind, name in expected.items():
            assert [found["metadata"]["name"] for found in assistants.kube.find(kind, selector)] == [name]
    annotations = assistants.get()["metadata"]["annotations"]
    assert annotations["modelset.dev/openai-model-names"] == ";".join(ms.SHARED_NAMES)
    assert assistants.status()["modelNames"] == ";".join(ms.SHARED_NAMES)


def test_prints_its_state_in_columns(assistants: ms.ModelSet) -> None:
    header, row = assistants.kube.run("get", "ollamamodelsets").splitlines()
    assert header.split() == ["NAME", "READY", "MODELS", "OLLAMA", "ENDPOINT", "AGE"]
    assert row.split()[:5] == [
        "assistants",
        "True",
        "3/3",
        "1/1",
        f"http://assistants-serve-svc.{assistants.kube.namespace}.svc:8000/v1",
    ]


def test_reports_each_model(assistants: ms.ModelSet) -> None:
    chat, embedding = assistants.model("smollm2:135m"), assistants.model("all-minilm")
    assert (chat["type"], embedding["type"]) == ("Chat", "Embedding")
    for model in (chat, embedding):
        assert model["phase"] == "Ready"
        assert model["readyReplicas"] == "1/1"
        assert len(model["digest"].removeprefix("sha256:")) == 64
        assert model["size"]
    assert "embedding" in embedding["capabilities"]


def test_endpoint_of_the_status_answers_inside_the_cluster(assistants: ms.ModelSet) -> None:
    head = assistants.kube.find("pods", f"modelset.dev/set={assistants.name},ray.io/node-type=head")[0]
    answer = assistants.kube.run(
        "exec", head["metadata"]["name"], "--container=ray-head", "--",
        "wget", "-qO-", f"{assistants.status()['endpoint']}/models",
    )  # fmt: skip
    assert '"smollm2"' in answer
