"""The events of a streamed message. Those of one block differ in the text alone, so all else is made once."""

from collections.abc import Iterable

import msgspec

from modelset_proxy.openai import errors, pieces, sse, usage
from modelset_proxy.openai.anthropic import envelope, messages

_encode = msgspec.json.encode
_DELTA = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":'
_STOP = sse.named("message_stop", b'{"type":"message_stop"}')


class _Kind(msgspec.Struct, frozen=True):
    """A kind of block: what it is as it starts, what comes before each text of it, and what is said last."""

    block: bytes
    delta: bytes
    last: bytes = b""


_TEXT = _Kind(b'{"type":"text","text":""}', b'{"type":"text_delta","text":')
_THINKING = _Kind(
    b'{"type":"thinking","thinking":"","signature":""}',
    b'{"type":"thinking_delta","thinking":',
    b'{"type":"signature_delta","signature":' + _encode(messages.SIGNATURE) + b"}",
)


class Stream:
    """Makes the events of one streamed message."""

    def __init__(self, model: str) -> None:
        self.tokens = usage.Tokens()
        self._model = model
        self._started = False
        self._index = 0
        self._open: _Kind | None = None
        self._head = self._delta = b""
        self._calls = False

    def events(self, _index: int, pieces: Iterable[pieces.Piece]) -> bytes:
        """Return the events for what arrived together."""
        out: list[bytes] = []
        if not self._started:
            self._started = True
            out.append(self._start())
        for piece in pieces:
            if piece.reasoning:
                self._say(_THINKING, piece.reasoning, out)
            if piece.content:
                self._say(_TEXT, piece.content, out)
            for call in piece.tool_calls:
                self._call(call, out)
            if piece.end is not None:
                self._close(out)
                out.append(self._ended(piece.end))
        return b"".join(out)

    def end(self) -> bytes:
        """Return the end of the stream."""
        return _STOP

    def failure(self, error: errors.ApiError) -> bytes:
        """Return the end of a stream that has failed."""
        return envelope.event(error)

    def _start(self) -> bytes:
        """How many tokens the prompt has is known at the end only."""
        message = {
            **messages.head(self._model),
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": messages.counts(self.tokens),
        }
        return sse.named("message_start", _encode({"type": "message_start", "message": message}))

    def _ended(self, end: pieces.End) -> bytes:
        self.tokens.add(end, counts_prompt=True)
        delta = messages.stopped(end, calls=self._calls)
        told = {"type": "message_delta", "delta": delta, "usage": messages.counts(self.tokens)}
        return sse.named("message_delta", _encode(told))

    def _say(self, kind: _Kind, text: str, out: list[bytes]) -> None:
        if self._open is not kind:
            self._close(out)
            self._begin(kind.block, out)
            self._open = kind
            self._delta = self._head + kind.delta
        out.append(self._delta + _encode(text) + b"}}\n\n")

    def _call(self, call: pieces.ToolCall, out: list[bytes]) -> None:
        self._close(out)
        self._calls = True
        self._begin(_encode({"type": "tool_use", "id": call.id, "name": call.name, "input": {}}), out)
        told = _encode({"type": "input_json_delta", "partial_json": call.arguments})
        out.append(self._head + told + b"}\n\n")
        self._finish(out)

    def _close(self, out: list[bytes]) -> None:
        if self._open is None:
            return
        if self._open.last:
            out.append(self._head + self._open.last + b"}\n\n")
        self._open = None
        self._finish(out)

    def _begin(self, block: bytes, out: list[bytes]) -> None:
        told = b'{"type":"content_block_start","index":%d,"content_block":%b}' % (self._index, block)
        out.append(sse.named("content_block_start", told))
        self._head = _DELTA % self._index

    def _finish(self, out: list[bytes]) -> None:
        out.append(sse.named("content_block_stop", b'{"type":"content_block_stop","index":%d}' % self._index))
        self._index += 1
