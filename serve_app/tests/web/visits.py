"""Requests to the application without a network: what it receives is fed, what it sends is kept."""

import asyncio
import json
from typing import Any

from modelset_proxy.web import asgi, exchange
from serve_app.tests import asking

CHAT = json.dumps(asking.CHAT).encode()


class Visit:
    """One request by a client that hands in its body part by part, and may take nothing of the answer."""

    def __init__(
        self, path: str = "/v1/chat/completions", *, method: str = "POST", **headers: str | bytes
    ) -> None:
        named = {name.replace("_", "-").encode(): value for name, value in headers.items()}
        self.scope: exchange.Scope = {
            "type": "http",
            "method": method,
            "path": path,
            "headers": [
                (name, value if isinstance(value, bytes) else value.encode()) for name, value in named.items()
            ],
        }
        self.reading = asyncio.Event()
        self.reading.set()
        self.sent: list[exchange.Message] = []
        self._parts: asyncio.Queue[exchange.Message] = asyncio.Queue()

    def feed(self, part: bytes, *, more: bool = True) -> None:
        self._parts.put_nowait({"type": "http.request", "body": part, "more_body": more})

    def leave(self) -> None:
        self._parts.put_nowait({"type": "http.disconnect"})

    async def taken(self) -> None:
        """Wait until the application has taken all that was fed."""
        await self._parts.join()
        await asyncio.sleep(0)

    async def to(self, app: asgi.App) -> None:
        await app.http(self.scope, self._receive, self._take, alone=True)

    async def _receive(self) -> exchange.Message:
        part = await self._parts.get()
        self._parts.task_done()
        return part

    async def _take(self, message: exchange.Message) -> None:
        self.sent.append(message)
        await self.reading.wait()

    @property
    def status(self) -> int:
        status: int = self.sent[0]["status"]
        return status

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.sent[1:])

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = json.loads(self.body)["error"]
        return error
