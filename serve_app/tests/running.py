"""Runs the proxy's ASGI application on a loopback port, as a server would, inside the test's event loop."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any, Literal

import aiohttp
import uvicorn

from modelset_proxy.dispatch import sharing
from modelset_proxy.serving import config, proxy
from modelset_proxy.telemetry import metrics

USER_CONFIG: dict[str, Any] = {
    "models": [
        {"model": "all-minilm:latest", "servedNames": ["all-minilm"], "type": "Embedding", "created": 1},
        {
            "model": "smollm2:135m",
            "servedNames": ["smollm2", "team/smollm2:135m"],
            "type": "Chat",
            "capabilities": ["completion"],
            "keepAlive": "-1",
            "created": 2,
        },
    ],
    "cors": {"allowOrigins": ["https://chat.example", "https://*.apps.example"]},
    # Nobody starts servers here, but where a test says so.
    "limits": {"wakeTimeoutSeconds": 0},
}


@contextlib.asynccontextmanager
async def proxied(
    *urls: str,
    user_config: Mapping[str, Any] | None = USER_CONFIG,
    settings: config.Environment | None = None,
    engine: str = config.OLLAMA,
    measures: metrics.Metrics | None = None,
    reach: sharing.Reach | None = None,
) -> AsyncIterator[tuple[aiohttp.ClientSession, proxy.Proxy]]:
    """Yield a session with the proxy's base URL, and the proxy; None leaves the models to ``settings``."""
    built = proxy.Proxy(
        settings or config.Environment(engine=engine, ollama_urls=urls, refresh_seconds=0.05),
        measures=measures,
        reach=reach,
    )
    async with listening(built) as port:
        if user_config is not None:
            await built.configure(user_config)
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            yield session, built


async def discovered(session: aiohttp.ClientSession, built: proxy.Proxy) -> None:
    """Wait until models are listed where nobody but servers tells which there are."""
    while True:
        async with session.get("/v1/models") as response:
            if (await response.json())["data"]:
                return
        await built.fleet.next_round()


@contextlib.asynccontextmanager
async def listening(app: Any, *, lifespan: Literal["on", "off"] = "on") -> AsyncIterator[int]:
    """Have uvicorn serve an ASGI application; yield its port."""
    settled = uvicorn.Config(
        app, host="127.0.0.1", port=0, log_level="error", log_config=None, lifespan=lifespan
    )
    settled.load()
    server = uvicorn.Server(settled)
    server.lifespan = settled.lifespan_class(settled)
    await server.startup()
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        await _stop(server)


async def _stop(server: uvicorn.Server) -> None:
    """As its ``shutdown``, which takes a tenth of a second even when there is nothing to wait for."""
    for listening in server.servers:
        listening.close()
    for connection in list(server.server_state.connections):
        connection.shutdown()
    if server.server_state.tasks:
        _, left = await asyncio.wait(server.server_state.tasks, timeout=1)
        for task in left:
            task.cancel()
    await server.lifespan.shutdown()
