"""What chat clients get back: OpenAI's ``chat.completion`` and its stream of chunks.

The chunks of a stream differ in little, so everything but the delta is made once a stream.
"""

import secrets
import time
from collections.abc import Iterable
from typing import Any

import msgspec

from modelset_proxy.openai import errors, pieces, requests, sse, usage

_encode = msgspec.json.encode
_ROLE = b'{"role":"assistant","content":""}'


def _new_id() -> str:
    return f"chatcmpl-{secrets.token_hex(12)}"


class Stream:
    """Makes the events of one streamed chat completion."""

    def __init__(self, request: requests.ChatRequest) -> None:
        self.tokens = usage.Tokens()
        self._wants_usage = request.wants_usage
        self._logprobs = bool(request.logprobs)
        self._started: set[int] = set()
        self._calls: dict[int, int] = {}
        fixed = _encode(
            {
                "id": _new_id(),
                "object": "chat.completion.chunk",
                "created": int(time.time()),
                "model": request.model,
            }
        )[:-1]
        self._heads = [
            b"data: " + fixed + b',"choices":[{"index":%d,"delta":' % index
            for index in range(request.choices)
        ]
        self._fixed = fixed
        tail = b',"logprobs":null' + (b"}]" if not self._wants_usage else b'}],"usage":null')
        self._tail = b',"finish_reason":null' + tail + b"}\n\n"

    def events(self, index: int, pieces: Iterable[pieces.Piece]) -> bytes:
        """Return the events for what arrived together of one choice."""
        head = self._heads[index]
        out: list[bytes] = []
        if index not in self._started:
            self._started.add(index)
            out.append(head + _ROLE + self._tail)
        for piece in pieces:
            if piece.reasoning:
                text = _encode(piece.reasoning)
                out.append(
                    head + b'{"reasoning_content":' + text + b',"reasoning":' + text + b"}" + self._tail
                )
            if piece.content or piece.logprobs:
                delta = b'{"content":' + _encode(piece.content) + b"}"
                out.append(head + delta + (self._with_logprobs(piece) if piece.logprobs else self._tail))
            if piece.tool_calls:
                first = self._calls.get(index, 0)
                self._calls[index] = first + len(piece.tool_calls)
                calls = [
                    {"index": first + number, **_tool_call(call)}
                    for number, call in enumerate(piece.tool_calls)
                ]
                out.append(head + _encode({"tool_calls": calls}) + self._tail)
            if piece.end is not None:
                self.tokens.add(piece.end, counts_prompt=index == 0)
                reason = b',"finish_reason":' + _encode(piece.end.reason)
                out.append(head + b"{}" + self._tail.replace(b',"finish_reason":null', reason, 1))
        return b"".join(out)

    def end(self) -> bytes:
        """Return the usage event, if it was asked for, and the end of the stream."""
        if not self._wants_usage:
            return sse.DONE
        counts = _encode(self.tokens.usage())
        return sse.frame(self._fixed + b',"choices":[],"usage":' + counts + b"}") + sse.DONE

    def failure(self, error: errors.ApiError) -> bytes:
        """Return the end of a stream that has failed."""
        return sse.failure(error)

    def _with_logprobs(self, piece: pieces.Piece) -> bytes:
        probabilities = _encode({"content": [_logprob(entry) for entry in piece.logprobs], "refusal": None})
        return self._tail.replace(b'"logprobs":null', b'"logprobs":' + probabilities, 1)


class Choice:
    """Collects one answer that is not streamed."""

    def __init__(self) -> None:
        self._content: list[str] = []
        self._reasoning: list[str] = []
        self._calls: list[pieces.ToolCall] = []
        self._logprobs: list[pieces.Logprob] = []
        self.end: pieces.End | None = None

    def add(self, pieces: Iterable[pieces.Piece]) -> None:
        """Take in pieces in order."""
        for piece in pieces:
            self._content.append(piece.content)
            self._reasoning.append(piece.reasoning)
            self._calls += piece.tool_calls
            self._logprobs += piece.logprobs
            self.end = piece.end or self.end

    def body(self, index: int, *, logprobs: bool) -> dict[str, Any]:
        """Return the entry of ``choices``."""
        content = "".join(self._content)
        message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
        if self._calls:
            message["tool_calls"] = [_tool_call(call) for call in self._calls]
            message["content"] = content or None
        if reasoning := "".join(self._reasoning):
            message["reasoning_content"] = message["reasoning"] = reasoning
        probabilities = {"content": [_logprob(entry) for entry in self._logprobs], "refusal": None}
        return {
            "index": index,
            "message": message,
            "logprobs": probabilities if logprobs else None,
            "finish_reason": self.end.reason if self.end else None,
        }


def completion(request: requests.ChatRequest, choices: list[Choice]) -> tuple[bytes, usage.Tokens]:
    """Return the body of a chat completion that is not streamed, and what it took."""
    tokens = usage.Tokens()
    for index, choice in enumerate(choices):
        if choice.end is not None:
            tokens.add(choice.end, counts_prompt=index == 0)
    body = _encode(
        {
            "id": _new_id(),
            "object": "chat.completion",
            "created": int(time.time()),
            "model": request.model,
            "choices": [
                choice.body(index, logprobs=bool(request.logprobs)) for index, choice in enumerate(choices)
            ],
            "usage": tokens.usage(),
        }
    )
    return body, tokens


def _tool_call(call: pieces.ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _token(entry: pieces.TokenLogprob) -> dict[str, Any]:
    raw = list(entry.token.encode()) if entry.raw is None else entry.raw
    return {"token": entry.token, "logprob": entry.logprob, "bytes": raw}


def _logprob(entry: pieces.Logprob) -> dict[str, Any]:
    return {**_token(entry), "top_logprobs": [_token(other) for other in entry.top]}
