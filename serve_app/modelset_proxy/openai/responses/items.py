"""The items of an answer: what the model thinks, says and calls, in the order in which it does."""

import secrets
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, TypeVar

from modelset_proxy.openai import chat, pieces

COMPLETED = "completed"
INCOMPLETE = "incomplete"
IN_PROGRESS = "in_progress"
_CUT_BY = {"length": "max_output_tokens", "content_filter": "content_filter"}


class Item:
    """An item that grows.

    ``growth`` is what the names of the events that tell of it begin with, ``place`` says in them where it is,
    and ``beginning`` is the part of its contents that grows, before it has; None where it has no parts.
    """

    growth: str
    prefix: str
    beginning: ClassVar[dict[str, Any] | None] = None

    def __init__(self, index: int) -> None:
        self.id = f"{self.prefix}_{secrets.token_hex(24)}"
        self.place: dict[str, Any] = {"item_id": self.id, "output_index": index}
        if self.beginning is not None:
            self.place["content_index"] = 0
        self.texts: list[str] = []

    def ending(self) -> dict[str, Any]:
        """Return all that its growth came to."""
        return {"text": "".join(self.texts)}

    def part(self) -> dict[str, Any]:
        """Return the part of its contents as it is now."""
        return {**(self.beginning or {}), **self.ending()}

    def body(self, status: str) -> dict[str, Any]:
        """Return the item; one that is in progress has no contents yet."""
        raise NotImplementedError

    def _contents(self, status: str) -> list[dict[str, Any]]:
        return [] if status == IN_PROGRESS else [self.part()]


class Thoughts(Item):
    """What the model thinks."""

    growth = "response.reasoning_text"
    prefix = "rs"
    beginning: ClassVar[dict[str, Any] | None] = {"type": "reasoning_text", "text": ""}

    def body(self, status: str) -> dict[str, Any]:
        """See ``Item``."""
        return {
            "id": self.id,
            "type": "reasoning",
            "summary": [],
            "content": self._contents(status),
            "status": status,
        }


class Words(Item):
    """What the model says."""

    growth = "response.output_text"
    prefix = "msg"
    beginning: ClassVar[dict[str, Any] | None] = {
        "type": "output_text",
        "text": "",
        "annotations": [],
        "logprobs": [],
    }

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.logprobs: list[pieces.Logprob] = []

    def ending(self) -> dict[str, Any]:
        """See ``Item``."""
        return {**super().ending(), "logprobs": [chat.logprob(entry) for entry in self.logprobs]}

    def body(self, status: str) -> dict[str, Any]:
        """See ``Item``."""
        return {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "content": self._contents(status),
            "status": status,
        }


class Call(Item):
    """A function that the model calls."""

    growth = "response.function_call_arguments"
    prefix = "fc"

    def __init__(self, index: int, call: pieces.ToolCall) -> None:
        super().__init__(index)
        self._call = call

    def ending(self) -> dict[str, Any]:
        """See ``Item``."""
        return {"arguments": self._call.arguments}

    def body(self, status: str) -> dict[str, Any]:
        """See ``Item``."""
        return {
            "id": self.id,
            "type": "function_call",
            "call_id": self._call.id,
            "name": self._call.name,
            "arguments": "" if status == IN_PROGRESS else self._call.arguments,
            "status": status,
        }


Kind = TypeVar("Kind", Thoughts, Words)
# An item, the text that it grew by, and what is known of the tokens of that.
Growth = tuple[Item, str, list[pieces.Logprob]]


class Output:
    """All items of an answer; collects one that is not streamed."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.end: pieces.End | None = None

    @property
    def cut_by(self) -> str | None:
        """What kept the model from saying all it had to say, in OpenAI's words for it here."""
        return None if self.end is None else _CUT_BY.get(self.end.reason)

    def add(self, pieces: Iterable[pieces.Piece]) -> None:
        """Take in pieces in order."""
        for piece in pieces:
            for _ in self.grow(piece):
                pass

    def grow(self, piece: pieces.Piece) -> Iterator[Growth]:
        """Take in one piece; yield what grows by it."""
        if piece.reasoning:
            thoughts = self._last(Thoughts)
            thoughts.texts.append(piece.reasoning)
            yield thoughts, piece.reasoning, []
        if piece.content or piece.logprobs:
            words = self._last(Words)
            words.texts.append(piece.content)
            words.logprobs += piece.logprobs
            yield words, piece.content, piece.logprobs
        for call in piece.tool_calls:
            self.items.append(Call(len(self.items), call))
            yield self.items[-1], call.arguments, []
        if piece.end is not None:
            self.end = piece.end
            if self.cut_by is None and not any(isinstance(item, Words | Call) for item in self.items):
                # Clients look for a message, also where nothing was said.
                yield self._last(Words), "", []

    def bodies(self) -> list[dict[str, Any]]:
        """Return the items as they are in the end. What cuts an answer, or fails it, cuts its last item."""
        is_whole = self.end is not None and self.cut_by is None
        last = len(self.items) - 1
        return [
            item.body(COMPLETED if is_whole or number < last else INCOMPLETE)
            for number, item in enumerate(self.items)
        ]

    def _last(self, kind: type[Kind]) -> Kind:
        """Return the item that goes on, which is a new one where the last is of another kind."""
        last = self.items[-1] if self.items else None
        if isinstance(last, kind):
            return last
        item = kind(len(self.items))
        self.items.append(item)
        return item
