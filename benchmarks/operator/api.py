"""The API server as an administrator asks it, for all that the operator does not do itself."""

from __future__ import annotations

import asyncio
import contextlib
import http
import json
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any

import aiohttp

from benchmarks.operator import control_plane

Object = Mapping[str, Any]

_MERGE = "application/merge-patch+json"
_AT_ONCE = 32


class RefusedError(Exception):
    """The API server refused a request; the message is its own."""


class Api:
    """Requests to one API server."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def create(self, path: str, body: Object) -> dict[str, Any]:
        """Create an object in a collection; one that is there already stays as it is."""
        return await self._ask("POST", path, body, "application/json", but=http.HTTPStatus.CONFLICT)

    async def merge(self, path: str, body: Object) -> dict[str, Any]:
        """Change the fields of an object that a body names."""
        return await self._ask("PATCH", path, body, _MERGE)

    async def list(self, path: str) -> tuple[list[dict[str, Any]], str]:
        """Return all objects of a collection, and the version from which on to watch it."""
        found = await self._ask("GET", path, None, "application/json")
        return found["items"], found["metadata"]["resourceVersion"]

    async def follow(self, path: str) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the objects of a collection, and each again whenever it changes, for ever."""
        items, version = await self.list(path)
        for item in items:
            yield item
        while True:
            query = {"watch": "1", "resourceVersion": version, "allowWatchBookmarks": "true"}
            async with self._session.get(path, params=query) as response:
                while line := await response.content.readline():
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        raise RefusedError(f"watching {path}: {event['object'].get('message')}")
                    version = event["object"]["metadata"]["resourceVersion"]
                    if event["type"] in ("ADDED", "MODIFIED"):
                        yield event["object"]

    async def _ask(
        self, method: str, path: str, body: Object | None, content_type: str, but: int = 0
    ) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": content_type}
        while True:
            async with self._session.request(method, path, data=data, headers=headers) as response:
                answer: dict[str, Any] = await response.json(content_type=None)
            if response.status == http.HTTPStatus.TOO_MANY_REQUESTS:
                # Also what it says of a kind that it is just getting to know.
                await asyncio.sleep(int(response.headers.get("Retry-After", "1")))
            elif response.status >= http.HTTPStatus.BAD_REQUEST and response.status != but:
                raise RefusedError(f"{method} {path}: {answer.get('message', response.status)}")
            else:
                return answer


@contextlib.asynccontextmanager
async def connected(plane: control_plane.ControlPlane) -> AsyncIterator[Api]:
    """Open connections to an API server."""
    context = ssl.create_default_context(cafile=plane.authority)
    async with aiohttp.ClientSession(
        plane.url,
        connector=aiohttp.TCPConnector(ssl=context, limit=_AT_ONCE),
        headers={"Authorization": f"Bearer {plane.token}"},
        timeout=aiohttp.ClientTimeout(total=None),
        read_bufsize=2**22,
    ) as session:
        yield Api(session)
