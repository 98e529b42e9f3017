"""Log probabilities of the tokens of an answer."""

from __future__ import annotations

from typing import Any

import openai
from openai.types.chat import ChatCompletionTokenLogprob

from tests.e2e.features.asking import PLAIN, STEADY, THINKING, user

TOKENS, LIKELIEST = 8, 3
REQUEST: dict[str, Any] = {
    **STEADY,
    "model": PLAIN,
    "messages": user("Which is bigger, a cat or an elephant?"),
    "logprobs": True,
    "top_logprobs": LIKELIEST,
    "max_completion_tokens": TOKENS,
}


def test_each_token_has_its_log_probability_and_the_likeliest_ones(plain: openai.OpenAI) -> None:
    """Real Ollama, smollm2:135m."""
    choice = plain.chat.completions.create(**REQUEST).choices[0]
    assert choice.logprobs
    tokens = choice.logprobs.content or []
    assert len(tokens) == TOKENS
    assert _text(tokens) == choice.message.content
    for token in tokens:
        likeliest = [other.logprob for other in token.top_logprobs]
        assert len(likeliest) == LIKELIEST
        assert likeliest == sorted(likeliest, reverse=True)
        # At temperature 0 the likeliest is taken.
        assert (token.token, token.logprob) == (token.top_logprobs[0].token, likeliest[0])
        assert token.logprob <= 0


def test_log_probabilities_are_streamed_with_their_tokens(plain: openai.OpenAI) -> None:
    """Real Ollama, smollm2:135m."""
    chunks = [chunk.choices[0] for chunk in plain.chat.completions.create(stream=True, **REQUEST)]
    with_tokens = [chunk for chunk in chunks if chunk.logprobs]
    assert sum(len(chunk.logprobs.content or []) for chunk in with_tokens if chunk.logprobs) == TOKENS
    for chunk in with_tokens:
        assert chunk.logprobs
        assert _text(chunk.logprobs.content or []) == chunk.delta.content


def test_thoughts_have_no_log_probabilities(client: openai.OpenAI) -> None:
    """Real Ollama, smollm2:135m-thinking, streamed and not."""
    request: dict[str, Any] = {**REQUEST, **STEADY, "model": THINKING}
    choice = client.chat.completions.create(**request).choices[0]
    assert choice.message.content
    assert choice.logprobs
    assert _text(choice.logprobs.content or []) == choice.message.content
    chunks = [chunk.choices[0] for chunk in client.chat.completions.create(stream=True, **request)]
    said = [chunk for chunk in chunks if chunk.logprobs]
    assert "".join(chunk.delta.content or "" for chunk in said) == choice.message.content
    for chunk in said:
        assert chunk.logprobs
        assert _text(chunk.logprobs.content or []) == chunk.delta.content


def _text(tokens: list[ChatCompletionTokenLogprob]) -> str:
    return b"".join(bytes(token.bytes or []) for token in tokens).decode()
