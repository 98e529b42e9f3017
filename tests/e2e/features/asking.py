"""Whom these tests ask, and how: so that the same question gets the same answer."""

from __future__ import annotations

from typing import Any

from openai.types.chat import ChatCompletionMessageParam

PLAIN, TOOLS, THINKING, COLOURS = "smollm2", "smollm2-tools", "smollm2-thinking", "smollm2-colours"
STEADY: dict[str, Any] = {"temperature": 0, "seed": 1, "max_completion_tokens": 80}


def user(content: str) -> list[ChatCompletionMessageParam]:
    """A conversation that consists of one question."""
    return [{"role": "user", "content": content}]
