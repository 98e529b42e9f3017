"""Ollama servers behind an httpx transport, answering as Ollama 0.17 does, errors included."""

import asyncio
import collections
import dataclasses
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx

from modelset_operator.api import references


@dataclasses.dataclass
class Published:
    """A model in the registry: the sizes of its layers, what it can do, and when it was pushed last."""

    layers: tuple[int, ...] = (1_000_000, 500_000)
    capabilities: tuple[str, ...] = ("completion",)
    pushed: int = 0


@dataclasses.dataclass
class Server:
    """One Ollama: what it holds and has loaded, by name as /api/tags spells it."""

    held: dict[str, Published] = dataclasses.field(default_factory=dict)
    loaded: set[str] = dataclasses.field(default_factory=set)
    requests: list[str] = dataclasses.field(default_factory=list)


class FakeOllamas(httpx.AsyncBaseTransport):
    """All Ollama servers of a test by address, and the registry that they pull from.

    `proceed` holds every download back after its first half while it is cleared. `broken` makes pulls fail
    with that message after the manifest. `hanging` servers accept and do not answer; `most_at_once` counts
    how many of their requests wait at a time, by the last part of the path.
    """

    def __init__(self) -> None:
        self.servers: dict[str, Server] = {}
        self.registry: dict[str, Published] = {}
        self.unreachable: set[str] = set()
        self.hanging: set[str] = set()
        self.most_at_once: collections.Counter[str] = collections.Counter()
        self._at_once: collections.Counter[str] = collections.Counter()
        self.broken: dict[str, str] = {}
        self.proceed = asyncio.Event()
        self.proceed.set()
        self._asked: dict[str, int] = {}
        self._asking = asyncio.Event()

    def asked(self, ip: str) -> int:
        """Return how many looks at a server have begun."""
        return self._asked.get(ip, 0)

    async def looked_at(self, ip: str) -> None:
        """Wait until a whole look at a server that begins from now on has ended."""
        # The one under way may be half over; three that begin mean that one of them is whole.
        until = self._asked.get(ip, 0) + 3
        while self._asked.get(ip, 0) < until:
            self._asking.clear()
            await self._asking.wait()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Route a request to the server at its address."""
        if request.url.path == "/api/tags":
            self._asked[request.url.host] = self._asked.get(request.url.host, 0) + 1
            self._asking.set()
        server = self.servers.get(request.url.host)
        if server is None or request.url.host in self.unreachable:
            raise httpx.ConnectError("All connection attempts failed", request=request)
        if request.url.host in self.hanging:
            await self._hang(request.url.path.rpartition("/")[2])
        body = json.loads(request.content or b"{}")
        path = request.url.path
        if path not in ("/api/tags", "/api/ps"):
            server.requests.append(f"{path} {body.get('model', '')}")
        answers = {
            "/api/tags": self._tags,
            "/api/ps": self._ps,
            "/api/show": self._show,
            "/api/delete": self._delete,
            "/api/generate": self._unload,
        }
        if path == "/api/pull":
            return httpx.Response(200, content=self._pull(server, body), request=request)
        status, answer = answers[path](server, body)
        content = b"" if answer is None else json.dumps(answer).encode()
        return httpx.Response(status, content=content, request=request)

    async def _hang(self, what: str) -> None:
        self._at_once[what] += 1
        self.most_at_once[what] = max(self.most_at_once[what], self._at_once[what])
        try:
            await asyncio.Event().wait()
        finally:
            self._at_once[what] -= 1

    def _tags(self, server: Server, body: dict[str, Any]) -> tuple[int, Any]:
        models = [
            {
                "name": name,
                "model": name,
                "size": sum(model.layers),
                "digest": f"digest-of-{name}{model.pushed or ''}",
                "modified_at": f"2024-05-04T14:{model.pushed:02}:49.277302595Z",
            }
            for name, model in server.held.items()
        ]
        return 200, {"models": models}

    def _ps(self, server: Server, body: dict[str, Any]) -> tuple[int, Any]:
        return 200, {"models": [{"name": name, "model": name} for name in sorted(server.loaded)]}

    def _show(self, server: Server, body: dict[str, Any]) -> tuple[int, Any]:
        name = str(references.parse(body["model"]))
        if name not in server.held:
            return 404, {"error": f"model '{body['model']}' not found"}
        return 200, {"capabilities": list(server.held[name].capabilities)}

    def _delete(self, server: Server, body: dict[str, Any]) -> tuple[int, Any]:
        name = str(references.parse(body["model"]))
        if server.held.pop(name, None) is None:
            return 404, {"error": f"model '{body['model']}' not found"}
        return 200, None

    def _unload(self, server: Server, body: dict[str, Any]) -> tuple[int, Any]:
        server.loaded.discard(str(references.parse(body["model"])))
        return 200, {"model": body["model"], "response": "", "done": True, "done_reason": "unload"}

    async def _pull(self, server: Server, body: dict[str, Any]) -> AsyncIterator[bytes]:
        name = str(references.parse(body["model"]))
        yield _line({"status": "pulling manifest"})
        if name in self.broken:
            yield _line({"error": self.broken[name]})
            return
        if name not in self.registry:
            yield _line({"error": "pull model manifest: file does not exist"})
            return
        model = self.registry[name]
        for index, size in enumerate(model.layers):
            layer = {"status": f"pulling {index:012x}", "digest": f"sha256:{name}-{index}", "total": size}
            yield _line(layer)
            yield _line({**layer, "completed": size // 2})
            await self.proceed.wait()
            yield _line({**layer, "completed": size})
        for status in ("verifying sha256 digest", "writing manifest"):
            yield _line({"status": status})
        server.held[name] = model
        yield _line({"status": "success"})


def _line(entry: dict[str, Any]) -> bytes:
    return json.dumps(entry).encode() + b"\n"
