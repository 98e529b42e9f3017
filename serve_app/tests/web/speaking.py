"""A client and a server on both sides of an ASGI application, without a network."""

import asyncio
from typing import Any

from modelset_proxy.web import bodies, exchange


class Spoken:
    """One request, of which the parts of the body are given, and what was replied."""

    def __init__(self, *parts: bytes, **scope: Any) -> None:
        self._parts = list(parts) or [b""]
        self._gone = asyncio.Event()
        self.sent: list[exchange.Message] = []
        self.scope: exchange.Scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/chat/completions",
            "headers": [],
            **scope,
        }

    def hang_up(self) -> None:
        """Close the connection once all was sent."""
        self._gone.set()

    async def receive(self) -> exchange.Message:
        if self._parts and not self._gone.is_set():
            part = self._parts.pop(0)
            return {"type": "http.request", "body": part, "more_body": bool(self._parts)}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: exchange.Message) -> None:
        self.sent.append(message)

    def web(self, *, watches: bool = True) -> exchange.Exchange:
        return exchange.Exchange(self.scope, self.receive, self.send, bodies.Budget(), watches=watches)

    @property
    def status(self) -> int:
        status: int = self.sent[0]["status"]
        return status

    @property
    def headers(self) -> list[exchange.Header]:
        headers: list[exchange.Header] = self.sent[0]["headers"]
        return headers

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.sent[1:])
