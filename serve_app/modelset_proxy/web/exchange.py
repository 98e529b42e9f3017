"""One HTTP request and its reply, over plain ASGI."""

import asyncio
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from modelset_proxy.openai import errors
from modelset_proxy.web import bodies

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Header = tuple[bytes, bytes]

JSON = b"application/json"
EVENTS = b"text/event-stream"
# An answer that is out by then needs no watcher, and to make one is a twentieth of its work.
_WATCH_AFTER_SECONDS = 0.02
_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,200}")


class ClientGoneError(Exception):
    """The client closed the connection before its request was complete."""


class Exchange:
    """Reads a request and writes its reply. ``facts`` end up in the access log: no contents, no keys.

    ``client`` is whose API key came with it, ``route`` the path without variable parts; ``began`` and
    ``first_byte`` are monotonic times in seconds.
    """

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, budget: bodies.Budget, *, watches: bool = True
    ) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"].removeprefix(scope.get("root_path", "")) or "/"
        self.query: str = scope.get("query_string", b"").decode("latin-1")
        self.headers: dict[bytes, bytes] = {name.lower(): value for name, value in scope["headers"]}
        given = self.headers.get(b"x-request-id", b"")
        self.request_id = given.decode() if _REQUEST_ID.fullmatch(given) else f"req_{secrets.token_hex(12)}"
        self.reply_headers: list[Header] = []
        self.facts: dict[str, object] = {}
        self.client = ""
        self.route = ""
        self.status = 0
        self.began = time.monotonic()
        self.first_byte = self.began
        self.client_gone = False
        self._watches = watches
        self._watch_soon: asyncio.TimerHandle | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._task: asyncio.Task[Any] | None = None
        self._receive = receive
        self._send = send
        self._body = bodies.Body(budget)

    @property
    def started(self) -> bool:
        """Whether the status line is out, after which only the body can tell of a failure."""
        return self.status != 0

    @property
    def content_type(self) -> bytes:
        """What the client says its body is."""
        return self.headers.get(b"content-type", b"")

    @property
    def from_page(self) -> bool:
        """Whether a browser sent it on behalf of a web page."""
        return b"origin" in self.headers or b"sec-fetch-site" in self.headers

    async def body(self, limit: int, *, is_text: bool = False) -> bytes:
        """Read the whole body, see ``bodies.Body``; it counts as held until ``let_go``.

        From then on the task that called is cancelled when the client closes the connection.
        """
        declared = self.headers.get(b"content-length", b"")
        length = int(declared) if declared.isdigit() else 0
        body = await self._body.read(self._next_part, limit=limit, declared=length, is_text=is_text)
        self._task = asyncio.current_task()
        if self._watches:
            loop = asyncio.get_running_loop()
            self._watch_soon = loop.call_later(_WATCH_AFTER_SECONDS, self._start_watching)
        return body

    async def _next_part(self) -> tuple[bytes, bool]:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        return message.get("body", b""), message.get("more_body", False)

    def drop(self) -> None:
        """Treat the client as gone: nobody takes what is written."""
        if self._task is not None and not self.client_gone:
            self.client_gone = True
            self._task.cancel()

    def _start_watching(self) -> None:
        self._watcher = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.drop()

    def let_go(self) -> None:
        """Watch no more, and give the room of the body to others: all is done."""
        self.stop_watching()
        self._body.let_go()

    def stop_watching(self) -> None:
        """Leave the task alone from now on; the reply is out."""
        if self._watch_soon is not None:
            self._watch_soon.cancel()
        if self._watcher is not None:
            self._watcher.cancel()

    async def reply(
        self, status: int, body: bytes, *, content_type: bytes = JSON, headers: Iterable[Header] = ()
    ) -> None:
        """Send a whole reply."""
        length = (b"content-length", b"%d" % len(body))
        await self._start(status, [(b"content-type", content_type), length, *headers])
        await self.end(b"" if self.method == "HEAD" else body)

    async def refuse(self, error: errors.ApiError) -> None:
        """Send an error reply."""
        headers: list[Header] = []
        if error.retry_after is not None:
            headers.append((b"retry-after", b"%d" % error.retry_after))
        if error.status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        if error.status == 408:
            # Else the rest of the body would be waited for.
            headers.append((b"connection", b"close"))
        if not error.may_retry:
            # openai-python and its like try 5xx again unless they are told not to.
            headers.append((b"x-should-retry", b"false"))
        self.facts["error"] = error.code or error.kind
        body = error.body(anthropic=self.path.endswith("/messages"))
        await self.reply(error.status, body, headers=headers)

    async def start_events(self) -> None:
        """Start a stream of events. The headers keep caches and buffering proxies from holding it up."""
        await self._start(
            200,
            [(b"content-type", EVENTS), (b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")],
        )

    async def start(self, status: int, headers: list[Header]) -> None:
        """Start a reply whose body follows by ``write``."""
        await self._start(status, headers)

    def write(self, data: bytes) -> Awaitable[None]:
        """Send a part of the body."""
        return self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self, data: bytes) -> None:
        """Send the last part of the body."""
        self.stop_watching()
        await self._send({"type": "http.response.body", "body": data, "more_body": False})

    async def _start(self, status: int, headers: list[Header]) -> None:
        self.status = status
        await self._send(
            {"type": "http.response.start", "status": status, "headers": headers + self.reply_headers}
        )
