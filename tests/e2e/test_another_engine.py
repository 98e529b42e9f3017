"""The proxy with its second engine: in front of Ollama's own OpenAI-compatible API, as of any such server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.e2e.support import local

CHAT_MODEL = local.CHAT_MODEL
EMBEDDING_MODEL = f"{local.EMBEDDING_MODEL}:latest"
TOKENS = 8


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of the proxy in front of an Ollama that it takes for a server of OpenAI's API."""
    log: Path = tmp_path_factory.mktemp("another-engine") / "make-run.log"
    with local.ollama() as ollama:
        for model in (CHAT_MODEL, EMBEDDING_MODEL):
            local.pull(ollama, model)
        with local.proxy({"PROXY_ENGINE": "openai", "OLLAMA_URL": f"{ollama}/v1"}, log) as base_url:
            yield base_url


@pytest.fixture
def client(proxy: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=proxy, api_key="unused", max_retries=0) as made:
        yield made


def test_what_the_server_lists_is_served(client: openai.OpenAI) -> None:
    assert {model.id for model in client.models.list()} == {CHAT_MODEL, EMBEDDING_MODEL}


def test_a_chat_is_answered(client: openai.OpenAI) -> None:
    chat = client.chat.completions.create(
        model=CHAT_MODEL,
        messages=[{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "hi"}],
        max_completion_tokens=TOKENS,
        n=2,
        seed=1,
    )
    assert [bool(choice.message.content) for choice in chat.choices] == [True, True]
    assert {choice.finish_reason for choice in chat.choices} <= {"stop", "length"}
    assert chat.usage
    assert 0 < chat.usage.completion_tokens <= 2 * TOKENS
    assert chat.usage.prompt_tokens > 0


def test_a_chat_is_streamed(client: openai.OpenAI) -> None:
    *chunks, last = client.chat.completions.create(
        model=CHAT_MODEL,
        messages=[{"role": "user", "content": "Count to ten."}],
        max_completion_tokens=TOKENS,
        stream=True,
        stream_options={"include_usage": True},
    )
    words = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices[0].delta.content]
    assert len(words) > 1
    assert chunks[-1].choices[0].finish_reason in {"stop", "length"}
    assert last.usage
    assert 0 < last.usage.completion_tokens <= TOKENS


@pytest.mark.parametrize("stream", [False, True])
def test_a_completion_is_answered(client: openai.OpenAI, stream: bool) -> None:
    prompt = "Once upon a time"
    if stream:
        chunks = client.completions.create(
            model=CHAT_MODEL, prompt=prompt, max_tokens=TOKENS, echo=True, stream=True
        )
        text = "".join(chunk.choices[0].text for chunk in chunks)
    else:
        whole = client.completions.create(model=CHAT_MODEL, prompt=prompt, max_tokens=TOKENS, echo=True)
        text = whole.choices[0].text
    assert text.startswith(prompt)
    assert len(text) > len(prompt)


def test_texts_are_embedded(client: openai.OpenAI) -> None:
    # The client asks for base64 and decodes it.
    vectors = client.embeddings.create(model=EMBEDDING_MODEL, input=["hello", "good morning"])
    assert [len(vector.embedding) for vector in vectors.data] == [384, 384]
    assert vectors.usage.prompt_tokens > 0


def test_what_the_server_refuses_is_refused(client: openai.OpenAI) -> None:
    # Ollama cannot embed token ids, and here nobody but the server says so.
    with pytest.raises(openai.BadRequestError):
        client.embeddings.create(model=EMBEDDING_MODEL, input=[1, 2, 3])
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="nobody", input="hello")
