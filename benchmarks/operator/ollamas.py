"""Stands in for the Ollama of each pod: many loopback addresses, each with models of its own."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import socket
from collections.abc import AsyncIterator

from aiohttp import web

PORT = 11434
# A small model from a registry nearby.
PULL_SECONDS = 1.0
_STEPS = 5
_LAYER_BYTES = 100_000_000


class Ollamas:
    """What each address holds. A model whose name begins with `embed` makes embeddings, others chat."""

    def __init__(self) -> None:
        self._held: dict[str, dict[str, None]] = {}
        self._changed: dict[str, asyncio.Event] = {}

    async def until_holds(self, address: str, count: int) -> None:
        """Wait until an address holds so many models."""
        while len(self._held[address]) < count:
            self._changed[address].clear()
            await self._changed[address].wait()

    @contextlib.asynccontextmanager
    async def serving(self, addresses: list[str]) -> AsyncIterator[None]:
        """Answer on these addresses while the body runs."""
        self._held = {address: {} for address in addresses}
        self._changed = {address: asyncio.Event() for address in addresses}
        runner = web.AppRunner(self._application(), access_log=None)
        await runner.setup()
        try:
            for address in addresses:
                listening = socket.create_server((address, PORT), backlog=16)
                await web.SockSite(runner, listening).start()
            yield
        finally:
            await runner.cleanup()

    def _application(self) -> web.Application:
        application = web.Application()
        application.add_routes(
            [
                web.get("/api/tags", self._tags),
                web.get("/api/ps", self._loaded),
                web.post("/api/show", self._show),
                web.post("/api/pull", self._pull),
                web.delete("/api/delete", self._delete),
            ]
        )
        return application

    async def _tags(self, request: web.Request) -> web.Response:
        models = [
            {"name": name, "model": name, "size": _LAYER_BYTES, "digest": _digest(name)}
            for name in self._of(request)
        ]
        return web.json_response({"models": models})

    async def _loaded(self, _: web.Request) -> web.Response:
        return web.json_response({"models": []})

    async def _show(self, request: web.Request) -> web.Response:
        name = (await request.json())["model"]
        if name not in self._of(request):
            return web.json_response({"error": f"model '{name}' not found"}, status=404)
        embeds = name.startswith("embed")
        return web.json_response({"capabilities": ["embedding"] if embeds else ["completion", "tools"]})

    async def _pull(self, request: web.Request) -> web.StreamResponse:
        name = (await request.json())["model"]
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        await response.write(_line({"status": "pulling manifest"}))
        layer = {"status": "pulling", "digest": f"sha256:{_digest(name)}", "total": _LAYER_BYTES}
        for step in range(1, _STEPS + 1):
            await asyncio.sleep(PULL_SECONDS / _STEPS)
            await response.write(_line({**layer, "completed": _LAYER_BYTES * step // _STEPS}))
        address = _address(request)
        self._held[address][name] = None
        self._changed[address].set()
        await response.write(_line({"status": "success"}))
        return response

    async def _delete(self, request: web.Request) -> web.Response:
        self._of(request).pop((await request.json())["model"], None)
        return web.Response()

    def _of(self, request: web.Request) -> dict[str, None]:
        return self._held[_address(request)]


def _address(request: web.Request) -> str:
    assert request.transport is not None  # noqa: S101 - it is being answered
    return str(request.transport.get_extra_info("sockname")[0])


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def _line(entry: dict[str, object]) -> bytes:
    return json.dumps(entry).encode() + b"\n"
