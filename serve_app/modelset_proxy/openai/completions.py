"""What clients of the older completions endpoint get back: ``text_completion``, whole or as a stream."""

import secrets
import time
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from modelset_proxy.openai import errors, parts, pieces, requests, sse, usage

_encode = msgspec.json.encode


class Logprobs:
    """Makes the columns of log probabilities of this endpoint, for tokens after an ``echo``.

    Offsets are in characters of the text.
    """

    def __init__(self, echo: str) -> None:
        self._offset = len(echo)

    def columns(self, entries: Iterable[pieces.Logprob]) -> dict[str, Any]:
        """Return the columns for the next tokens."""
        columns: dict[str, list[Any]] = {
            "tokens": [],
            "token_logprobs": [],
            "top_logprobs": [],
            "text_offset": [],
        }
        for entry in entries:
            columns["tokens"].append(entry.token)
            columns["token_logprobs"].append(entry.logprob)
            top = {other.token: other.logprob for other in entry.top}
            # The first token of a prompt is nobody's prediction.
            columns["top_logprobs"].append(None if entry.logprob is None else top)
            columns["text_offset"].append(self._offset)
            self._offset += len(entry.token)
        return columns


class Stream:
    """Makes the events of one streamed completion."""

    def __init__(self, request: requests.CompletionRequest) -> None:
        self.tokens = usage.Tokens()
        self._request = request
        self._logprobs: dict[int, Logprobs] = {}
        self._head: dict[str, Any] = _head(request)

    def events(self, index: int, pieces: Iterable[pieces.Piece]) -> bytes:
        """Return the events for what arrived together of one choice."""
        out: list[bytes] = []
        if index not in self._logprobs:
            echo = self._request.echoed(index // self._request.choices)
            self._logprobs[index] = Logprobs(echo)
            if echo:
                out.append(self._chunk(index, echo))
        for piece in pieces:
            if piece.content or piece.logprobs:
                out.append(self._chunk(index, piece.content, piece.logprobs))
            if piece.end is not None:
                self.tokens.add(piece.end, counts_prompt=index % self._request.choices == 0)
                out.append(self._chunk(index, "", reason=piece.end.reason))
        return b"".join(out)

    def end(self) -> bytes:
        """Return the usage event, if it was asked for, and the end of the stream."""
        if not self._request.wants_usage:
            return sse.DONE
        return sse.frame(_encode({**self._head, "choices": [], "usage": self.tokens.usage()})) + sse.DONE

    def failure(self, error: errors.ApiError) -> bytes:
        """Return the end of a stream that has failed."""
        return sse.failure(error)

    def _chunk(
        self, index: int, text: str, logprobs: list[pieces.Logprob] | None = None, reason: str | None = None
    ) -> bytes:
        choice = {
            "text": text,
            "index": index,
            "logprobs": self._logprobs[index].columns(logprobs) if logprobs else None,
            "finish_reason": reason,
        }
        return sse.frame(_encode({**self._head, "choices": [choice]}))


class Choice:
    """Collects one completion that is not streamed."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._logprobs: list[pieces.Logprob] = []
        self.end: pieces.End | None = None

    def add(self, pieces: Iterable[pieces.Piece]) -> None:
        """Take in pieces in order."""
        for piece in pieces:
            self._text.append(piece.content)
            self._logprobs += piece.logprobs
            self.end = piece.end or self.end

    def body(self, index: int, *, echo: str, logprobs: bool) -> dict[str, Any]:
        """Return the entry of ``choices``."""
        return {
            "text": echo + "".join(self._text),
            "index": index,
            "logprobs": Logprobs(echo).columns(self._logprobs) if logprobs else None,
            "finish_reason": self.end.reason if self.end else None,
        }


def completion(
    request: requests.CompletionRequest, choices: list[Choice]
) -> tuple[Iterator[bytes], usage.Tokens]:
    """Return the body of a completion that is not streamed, part by part, and what it took, which is known
    when all parts are made; choices go by prompt.
    """
    tokens = usage.Tokens()
    logprobs = request.logprobs is not None

    def bodies() -> Iterator[bytes]:
        for index, choice in enumerate(choices):
            prompt, within = divmod(index, request.choices)
            if choice.end is not None:
                tokens.add(choice.end, counts_prompt=within == 0)
            yield _encode(choice.body(index, echo=request.echoed(prompt), logprobs=logprobs))

    head = _encode(_head(request))[:-1] + b',"choices":['
    return parts.around(bodies(), head, lambda: b'],"usage":' + _encode(tokens.usage()) + b"}"), tokens


def _head(request: requests.CompletionRequest) -> dict[str, Any]:
    return {
        "id": f"cmpl-{secrets.token_hex(12)}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": request.model,
    }
