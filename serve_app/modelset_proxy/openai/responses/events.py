"""The stream of a response: named events, numbered from nought."""

from collections.abc import Iterable
from typing import Any

import msgspec

from modelset_proxy.openai import chat, errors, pieces, usage
from modelset_proxy.openai.responses import items
from modelset_proxy.openai.responses.answers import Response
from modelset_proxy.openai.responses.requests import Request

_encode = msgspec.json.encode


class Stream:
    """Makes the events of one streamed response.

    All tokens of an item differ in little, so everything but the text and the number is made once an item.
    """

    def __init__(self, request: Request) -> None:
        self.tokens = usage.Tokens()
        self._names = request.names
        self._response = Response(request)
        self._output = items.Output()
        self._open: items.Item | None = None
        self._head = self._tail = b""
        self._number = 0

    def events(self, index: int, pieces: Iterable[pieces.Piece]) -> bytes:  # noqa: ARG002
        """Return the events for what arrived together; there is one choice."""
        out = self._beginning()
        for piece in pieces:
            for item, text, logprobs in self._output.grow(piece):
                if item is not self._open:
                    out += [*self._closing(items.COMPLETED), *self._opening(item)]
                if text or logprobs:
                    out.append(self._delta(text, logprobs))
            if piece.end is not None:
                self.tokens.add(piece.end, counts_prompt=True)
        return b"".join(out)

    def end(self) -> bytes:
        """Return the end of the last item, and that of the response with all that has come."""
        status = items.COMPLETED if self._output.cut_by is None else items.INCOMPLETE
        out = self._closing(status)
        out.append(self._event(f"response.{status}", response=self._response.ended(self._output)))
        return b"".join(out)

    def failure(self, error: errors.ApiError) -> bytes:
        """Return the events for a failure in mid-stream; clients raise on the ``error`` of the second."""
        self._names.rename(error)
        beginning = b"".join(self._beginning())
        failed = self._event("response.failed", response=self._response.failed(self._output, error))
        told = {"code": error.code, "message": error.message, "param": error.param}
        return beginning + failed + self._event("error", **told, error={**told, "type": error.kind})

    def _beginning(self) -> list[bytes]:
        """Return the events that come first, once."""
        if self._number:
            return []
        response = self._response.begun()
        return [
            self._event("response.created", response=response),
            self._event("response.in_progress", response=response),
        ]

    def _opening(self, item: items.Item) -> list[bytes]:
        """Return the events that begin an item, and make what is the same for all that it grows by."""
        self._open = item
        name = f"{item.growth}.delta"
        fixed = _encode({"type": name, **item.place})[:-1]
        self._head = b"event: " + name.encode() + b"\ndata: " + fixed + b',"delta":'
        self._tail = b',"logprobs":[]' if isinstance(item, items.Words) else b""
        index = item.place["output_index"]
        opening = [
            self._event("response.output_item.added", output_index=index, item=item.body(items.IN_PROGRESS))
        ]
        if item.beginning is not None:
            opening.append(self._event("response.content_part.added", **item.place, part=item.beginning))
        return opening

    def _delta(self, text: str, logprobs: list[pieces.Logprob]) -> bytes:
        tail = self._tail
        if logprobs:
            tail = b',"logprobs":' + _encode([chat.logprob(entry) for entry in logprobs])
        return self._head + _encode(text) + tail + b',"sequence_number":%d}\n\n' % self._next()

    def _closing(self, status: str) -> list[bytes]:
        """Return the events that end the item that grew last."""
        item = self._open
        if item is None:
            return []
        closing = [self._event(f"{item.growth}.done", **item.place, **item.ending())]
        if item.beginning is not None:
            closing.append(self._event("response.content_part.done", **item.place, part=item.part()))
        index = item.place["output_index"]
        return [
            *closing,
            self._event("response.output_item.done", output_index=index, item=item.body(status)),
        ]

    def _event(self, name: str, **fields: Any) -> bytes:
        data = _encode({"type": name, **fields, "sequence_number": self._next()})
        return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"

    def _next(self) -> int:
        number = self._number
        self._number += 1
        return number
