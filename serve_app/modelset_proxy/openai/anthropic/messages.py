"""What clients of Anthropic's API get back: a message, whole. What streams need too is here as well."""

import secrets
from collections.abc import Iterable
from typing import Any

import msgspec

from modelset_proxy.openai import pieces, usage

# Nobody checks it here. Some clients hand thoughts back only when they carry a signature.
SIGNATURE = "unsigned"


def head(model: str) -> dict[str, Any]:
    """Return what a message begins with."""
    return {
        "id": f"msg_{secrets.token_hex(12)}",
        "type": "message",
        "role": "assistant",
        "model": model,
    }


def stopped(end: pieces.End | None, *, calls: bool) -> dict[str, str | None]:
    """Return why an answer ended. A stop sequence cannot be told from the model's own end."""
    reason = end.reason if end else "stop"
    if reason == "length":
        told = "max_tokens"
    elif calls:
        told = "tool_use"
    else:
        told = "refusal" if reason == "content_filter" else "end_turn"
    return {"stop_reason": told, "stop_sequence": None}


def counts(tokens: usage.Tokens) -> dict[str, int]:
    """Return Anthropic's usage object."""
    return {"input_tokens": tokens.prompt, "output_tokens": tokens.completion}


class Message:
    """Collects an answer that is not streamed."""

    def __init__(self) -> None:
        self._blocks: list[dict[str, Any]] = []
        self._calls = False
        self._end: pieces.End | None = None

    def add(self, pieces: Iterable[pieces.Piece]) -> None:
        """Take in pieces in order."""
        for piece in pieces:
            if piece.reasoning:
                self._say("thinking", piece.reasoning, signature=SIGNATURE)
            if piece.content:
                self._say("text", piece.content)
            for call in piece.tool_calls:
                self._calls = True
                self._blocks.append(
                    {"type": "tool_use", "id": call.id, "name": call.name, "input": _input(call.arguments)}
                )
            self._end = piece.end

    def body(self, model: str) -> tuple[bytes, usage.Tokens]:
        """Return the body of the reply, and what it took."""
        tokens = usage.Tokens()
        if self._end is not None:
            tokens.add(self._end, counts_prompt=True)
        message = {
            **head(model),
            "content": self._blocks,
            **stopped(self._end, calls=self._calls),
            "usage": counts(tokens),
        }
        return msgspec.json.encode(message), tokens

    def _say(self, kind: str, text: str, **more: str) -> None:
        if self._blocks and self._blocks[-1]["type"] == kind:
            self._blocks[-1][kind] += text
        else:
            self._blocks.append({"type": kind, kind: text, **more})


def _input(arguments: str) -> dict[str, Any]:
    """Return the input of a call: an object always, also where the model's is cut off or none."""
    try:
        return msgspec.json.decode(arguments, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        return {}
