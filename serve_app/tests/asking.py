"""Ways in which tests ask the proxy, and wait for what it does."""

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import aiohttp

from modelset_proxy.serving import proxy
from serve_app.tests import running

CHAT = {"model": "smollm2", "messages": [{"role": "user", "content": "Hi"}]}


class Clock:
    """The dispatcher's clock, which a test may put forward."""

    def __init__(self, built: proxy.Proxy) -> None:
        self._ahead = 0.0
        self._built = built
        built.dispatch.clock = lambda: time.monotonic() + self._ahead

    async def forward(self, seconds: float) -> None:
        """Let time pass, and let what was begun by then go on."""
        self._ahead += seconds
        self._built.dispatch.check()
        await self._built.fleet.refresh()


def limited(**limits: Any) -> dict[str, Any]:
    """Return a user_config with limits."""
    return {**running.USER_CONFIG, "limits": {**running.USER_CONFIG["limits"], **limits}}


async def ask(
    session: aiohttp.ClientSession, headers: dict[str, str] | None = None, **extra: Any
) -> tuple[int, str]:
    async with session.post("/v1/chat/completions", json={**CHAT, **extra}, headers=headers) as response:
        return response.status, await response.text()


async def until(condition: Callable[[], bool], built: proxy.Proxy) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await built.fleet.refresh()


async def until_queued(built: proxy.Proxy, count: int) -> None:
    await until(lambda: built.dispatch.counts()["smollm2"][1] == count, built)


async def post(
    client: aiohttp.ClientSession, path: str, body: Any
) -> tuple[int, Any, aiohttp.ClientResponse]:
    async with client.post(path, data=body if isinstance(body, bytes) else json.dumps(body)) as response:
        return response.status, json.loads(await response.read()), response


def events(text: str) -> list[Any]:
    assert text.endswith("\n\n")
    payloads = [event.removeprefix("data: ") for event in text[:-2].split("\n\n")]
    return [payload if payload == "[DONE]" else json.loads(payload) for payload in payloads]


async def stream(client: aiohttp.ClientSession, **extra: Any) -> list[Any]:
    async with client.post("/v1/chat/completions", json={**CHAT, "stream": True, **extra}) as response:
        assert (response.status, response.headers["content-type"]) == (200, "text/event-stream")
        return events(await response.text())
