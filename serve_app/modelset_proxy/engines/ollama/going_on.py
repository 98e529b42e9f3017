"""How an answer goes on at another server, after the text that clients have already: as raw text, which every
model continues, whatever its template does with an assistant's last message. Pure.
"""

from typing import Any

import msgspec

from modelset_proxy.engines import decoders, encoding, port
from modelset_proxy.openai import pieces

_KEPT = ("model", "options", "keep_alive", "logprobs", "top_logprobs", "stream", "truncate", "shift")


class DebugInfo(msgspec.Struct):
    """What a conversation is as a text, with all that the model's template puts around it."""

    rendered_template: str


class Rendered(msgspec.Struct):
    """The answer to a request that was to be rendered only (Ollama: api/types.go)."""

    info: DebugInfo = msgspec.field(name="_debug_info")


def render(fields: dict[str, Any]) -> bytes | encoding.Parts:
    """Return the body for ``/api/chat`` that asks for the text which the model would be given."""
    return encoding.body({**fields, "stream": False, "_debug_render_only": True}, "messages")


def rendered(answer: bytes) -> str:
    """Return the text from the answer to ``render``; raises BrokenAnswerError."""
    try:
        return msgspec.json.decode(answer, type=Rendered).info.rendered_template
    except msgspec.DecodeError as problem:
        raise decoders.BrokenAnswerError(f"not a rendered chat: {problem}") from None


def after(fields: dict[str, Any], prompt: str, told: port.Told) -> bytes | encoding.Parts:
    """Return the body for ``/api/generate`` that continues a prompt after what was told of the answer.

    ``fields`` are those of the first asking.
    """
    kept = {name: fields[name] for name in _KEPT if name in fields}
    if limit := _limit(fields):
        kept["options"] = {**kept["options"], "num_predict": max(1, limit - told.tokens)}
    return encoding.body({**kept, "prompt": prompt + told.text, "raw": True, "think": False}, "prompt")


class Seam:
    """Makes the pieces of the second part those of the whole."""

    def __init__(self, fields: dict[str, Any], told: port.Told) -> None:
        limit = _limit(fields)
        self._before = told.tokens
        # Only the end was lost: what comes now is too much.
        self._complete = bool(limit and told.tokens >= limit)

    def mend(self, read: list[pieces.Piece]) -> list[pieces.Piece]:
        """Return pieces as the client is to get them."""
        for piece in read:
            if self._complete:
                piece.content, piece.logprobs = "", []
            if piece.end is not None:
                end = piece.end
                end.prompt_tokens -= self._before
                end.completion_tokens = self._before + (0 if self._complete else end.completion_tokens)
                if self._complete:
                    end.reason = "length"
        return read


def _limit(fields: dict[str, Any]) -> int:
    limit: int = fields.get("options", {}).get("num_predict", 0)
    return limit
