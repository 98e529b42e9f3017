"""`make run`: the proxy on Ray Serve in front of an Ollama, no cluster; models are pulled when it starts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.e2e.support import local


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[str]:
    """The base URL of the proxy that `make run` started in front of an empty Ollama."""
    with local.ollama() as ollama:
        settings = {
            "OLLAMA_URL": ollama,
            "OLLAMA_CHAT_MODELS": local.CHAT_MODEL,
            "OLLAMA_EMBEDDING_MODELS": local.EMBEDDING_MODEL,
            "OLLAMA_PULL_INSECURE": "true",
        }
        with local.proxy(settings, tmp_path / "make-run.log") as base_url:
            yield base_url


def test_models_are_pulled_and_answer(proxy: str) -> None:
    names = local.listed(proxy)
    chat_model = next(name for name in names if re.search("smollm2", name))
    embedding_model = next(name for name in names if re.search("all-minilm", name))
    with openai.OpenAI(base_url=proxy, api_key="unused") as client:
        chat = client.chat.completions.create(
            model=chat_model, messages=[{"role": "user", "content": "hi"}], max_completion_tokens=8
        )
        embedding = client.embeddings.create(model=embedding_model, input="hello")
    assert chat.choices[0].message.content
    assert len(embedding.data[0].embedding) == 384
