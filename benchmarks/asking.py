"""A client that streams chats and notes when the first token comes. Times are in seconds."""

from __future__ import annotations

import dataclasses
import http.client
import itertools
import json
import time
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

Message = dict[str, str]

_TIMEOUT = 120.0


@dataclasses.dataclass(frozen=True)
class Answer:
    """One streamed answer: its text, when it was asked for, its first token came and it ended."""

    text: str
    asked: float
    first: float
    ended: float

    @property
    def wait(self) -> float:
        """Seconds until the first token."""
        return self.first - self.asked


class Front:
    """Where chats go: to one URL, or to several in turn, as a load balancer without knowledge would."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._places = [urlsplit(url) for url in urls]
        # next() of a count is atomic: threads may share it.
        self._turns = itertools.count()

    def chat(self, model: str, messages: Sequence[Message], tokens: int) -> Answer:
        """Stream one answer of at most so many tokens; raises OSError or http.client.HTTPException."""
        place = self._places[next(self._turns) % len(self._places)]
        body = {"model": model, "messages": messages, "max_tokens": tokens, "stream": True, "temperature": 0}
        connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=_TIMEOUT)
        asked = time.monotonic()
        try:
            headers = {"Content-Type": "application/json"}
            connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
            response = connection.getresponse()
            if response.status != http.HTTPStatus.OK:
                raise http.client.HTTPException(f"status {response.status}: {response.read(300)!r}")
            first = 0.0
            text = ""
            for piece in _pieces(response):
                first = first or time.monotonic()
                text += piece
        finally:
            connection.close()
        ended = time.monotonic()
        return Answer(text, asked, first or ended, ended)


def _pieces(response: http.client.HTTPResponse) -> Iterator[str]:
    """Yield the pieces of a stream's text; raises HTTPException when it does not end well."""
    for line in response:
        if not line.startswith(b"data:"):
            continue
        payload = line[5:].strip()
        if payload == b"[DONE]":
            return
        event = json.loads(payload)
        if "error" in event:
            raise http.client.HTTPException(f"in the stream: {event['error']}")
        for choice in event["choices"]:
            if content := choice["delta"].get("content"):
                yield content
    raise http.client.HTTPException("the stream ended without [DONE]")
