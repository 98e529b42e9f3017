"""Models that think before they answer."""

from __future__ import annotations

from typing import Any, cast

import openai
from openai.types.chat import ChatCompletionMessageParam

from tests.e2e.features.asking import STEADY, THINKING, user

ANIMALS = user("Which is bigger, a cat or an elephant?")
REQUEST: dict[str, Any] = {"model": THINKING, "messages": ANIMALS, **STEADY}
THOUGHT = "A dog has four legs, and three times four is twelve."


def test_reasoning_comes_apart_from_the_answer(client: openai.OpenAI) -> None:
    """Real Ollama, smollm2:135m-thinking."""
    message = client.chat.completions.create(reasoning_effort="low", **REQUEST).choices[0].message
    assert _reasoning(message)
    assert message.content
    assert "think>" not in _reasoning(message) + message.content


def test_reasoning_is_streamed_and_then_the_answer(client: openai.OpenAI) -> None:
    """Real Ollama, smollm2:135m-thinking, which thinks unless it is told not to."""
    deltas = [chunk.choices[0].delta for chunk in client.chat.completions.create(stream=True, **REQUEST)]
    pieces = [(_reasoning(delta), delta.content) for delta in deltas if delta.content or _reasoning(delta)]
    thoughts = [thought for thought, _ in pieces if thought]
    words = [word for _, word in pieces if word]
    assert min(len(thoughts), len(words)) > 1
    assert pieces == [*((thought, None) for thought in thoughts), *(("", word) for word in words)]
    assert "think>" not in "".join(thoughts + words)


def test_no_effort_means_no_reasoning(client: openai.OpenAI) -> None:
    """Real Ollama, smollm2:135m-thinking, streamed and not."""
    request: dict[str, Any] = {**REQUEST, "reasoning_effort": "none", "max_completion_tokens": 16}
    message = client.chat.completions.create(**request).choices[0].message
    deltas = [chunk.choices[0].delta for chunk in client.chat.completions.create(stream=True, **request)]
    assert message.content
    assert not _reasoning(message)
    assert "".join(delta.content or "" for delta in deltas)
    assert not any(_reasoning(delta) for delta in deltas)


def test_reasoning_of_an_earlier_turn_reaches_the_model(client: openai.OpenAI) -> None:
    """Real Ollama, smollm2:135m-thinking: the prompt has more tokens with it."""
    without, with_it = (
        _prompt_tokens(client, {"role": "assistant", "content": "Twelve.", **thought})
        for thought in ({}, {"reasoning_content": THOUGHT})
    )
    assert with_it > without + len(THOUGHT.split())


def _prompt_tokens(client: openai.OpenAI, earlier: dict[str, str]) -> int:
    chat = client.chat.completions.create(
        model=THINKING,
        messages=[
            *user("How many legs do three dogs have?"),
            cast("ChatCompletionMessageParam", earlier),
            *ANIMALS,
        ],
        max_completion_tokens=1,
    )
    assert chat.usage
    return chat.usage.prompt_tokens


def _reasoning(message: Any) -> str:
    """What servers other than OpenAI's add, under two names; the client hands it on as it is."""
    extra = message.model_extra or {}
    assert extra.get("reasoning_content") == extra.get("reasoning")
    return str(extra.get("reasoning_content") or "")
