"""The whole proxy over HTTP, in this process, in front of servers that run already."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import uvicorn

from benchmarks import loopback
from modelset_proxy.serving import config, proxy


class _Server(uvicorn.Server):
    """``up`` is set when it has tried to start."""

    def __init__(self, settings: uvicorn.Config) -> None:
        super().__init__(settings)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        try:
            await super().startup(sockets)
        finally:
            self.up.set()


@contextlib.asynccontextmanager
async def serving(urls: Sequence[str], user_config: Mapping[str, Any]) -> AsyncIterator[str]:
    """Run the proxy in front of servers, configured as the operator does; yields its URL."""
    app = proxy.Proxy(config.Environment(ollama_urls=tuple(urls)), behind_serve=True)
    port = loopback.free_port()
    server = _Server(uvicorn.Config(app, port=port, log_level="warning", access_log=False))
    running = asyncio.create_task(server.serve())
    try:
        await server.up.wait()
        await app.configure(user_config)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await running
