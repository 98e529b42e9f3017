"""Ollama servers behind an httpx transport, answering as Ollama 0.17 does, errors included."""

import asyncio
import collections
import dataclasses
import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx

from modelset_operator.api import references


@dataclasses.dataclass
class Published:
    """A model in the registry: the sizes of its layers, what it can do, and when it was pushed last.

    One that `/api/create` has made has a `recipe`, on which its digest depends. `adapters` are files, as
    `weights` is.
    """

    layers: tuple[int, ...] = (1_000_000, 500_000)
    capabilities: tuple[str, ...] = ("completion",)
    pushed: int = 0
    info: dict[str, Any] = dataclasses.field(default_factory=dict)
    parameters: str = ""
    weights: str = "sha256-aa"
    adapters: tuple[str, ...] = ()
    license: str = ""
    recipe: str = ""


@dataclasses.dataclass
class Server:
    """One Ollama: what it holds and has loaded, by name as /api/tags spells it, and when it wrote it."""

    held: dict[str, Published] = dataclasses.field(default_factory=dict)
    loaded: set[str] = dataclasses.field(default_factory=set)
    contexts: dict[str, int | None] = dataclasses.field(default_factory=dict)
    requests: list[str] = dataclasses.field(default_factory=list)
    written: dict[str, str] = dataclasses.field(default_factory=dict)


class FakeOllamas(httpx.AsyncBaseTransport):
    """All Ollama servers of a test by address, and the registry that they pull from.

    `variants` are the names under which one was to be made anywhere.
    `proceed` holds every download back after its first half while it is cleared. `broken` makes pulls fail
    with that message after the manifest; `too_large` are the names of models that fail to load. `untyped`
    are adapters whose files do not say that they are (`general.type`).
    `now`, where it is said, is when manifests are written; else it is when their models were pushed.
    `hanging` servers accept and do not answer; `most_at_once` counts how many of their requests wait at a
    time, by the last part of the path.
    """

    def __init__(self) -> None:
        self.servers: dict[str, Server] = {}
        self.registry: dict[str, Published] = {}
        self.variants: set[str] = set()
        self.unreachable: set[str] = set()
        self.hanging: set[str] = set()
        self.most_at_once: collections.Counter[str] = collections.Counter()
        self._at_once: collections.Counter[str] = collections.Counter()
        self.now = ""
        self.broken: dict[str, str] = {}
        self.too_large: set[str] = set()
        self.untyped: set[str] = set()
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
            server.requests.append(f"{path} {body.get('model') or body.get('source', '')}")
        answers = {
            "/api/tags": self._tags,
            "/api/ps": self._ps,
            "/api/show": self._show,
            "/api/copy": self._copy,
            "/api/delete": self._delete,
            "/api/generate": self._unload,
            "/api/embed": self._load,
        }
        if path == "/api/pull":
            return httpx.Response(200, content=self._pull(server, body), request=request)
        if path == "/api/create":
            return self._create(request, server, body)
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
                "digest": digest(name, model),
                "modified_at": server.written.get(name, f"2024-05-04T14:{model.pushed:02}:49.277302595Z"),
            }
            for name, model in server.held.items()
        ]
        return 200, {"models": models}

    def _ps(self, server: Server, body: dict[str, Any]) -> tuple[int, Any]:
        sizes = {name: sum(server.held[name].layers) if name in server.held else 0 for name in server.loaded}
        return 200, {"models": [{"name": name, "model": name, "size": sizes[name]} for name in sorted(sizes)]}

    def _show(self, server: Server, body: dict[str, Any]) -> tuple[int, Any]:
        name = str(references.parse(body["model"]))
        if name not in server.held:
            return 404, {"error": f"model '{body['model']}' not found"}
        model = server.held[name]
        blobs = "/root/.ollama/models/blobs/"
        files = [f"FROM {blobs}{model.weights}", *(f"ADAPTER {blobs}{one}" for one in model.adapters)]
        shown = {
            "capabilities": list(model.capabilities),
            "model_info": model.info,
            "modelfile": f'# Modelfile generated by "ollama show"\n# FROM {body["model"]}\n\n'
            + "\n".join((*files, 'SYSTEM """You.', 'FROM x"""', "")),
        }
        told = {"parameters": model.parameters, "license": model.license}
        return 200, shown | {field: text for field, text in told.items() if text}

    def _load(self, server: Server, body: dict[str, Any]) -> tuple[int, Any]:
        name = str(references.parse(body["model"]))
        if name not in server.held:
            return 404, {"error": f"model '{body['model']}' not found"}
        if name in self.too_large:
            return 500, {"error": "model requires more system memory (5.1 GiB) than is available (4.0 GiB)"}
        server.loaded.add(name)
        server.contexts[name] = (body.get("options") or {}).get("num_ctx")
        return 200, {"model": body["model"], "embeddings": []}

    def _copy(self, server: Server, body: dict[str, Any]) -> tuple[int, Any]:
        source, destination = (str(references.parse(body[end])) for end in ("source", "destination"))
        if source not in server.held:
            return 404, {"error": f'model "{body["source"]}" not found'}
        server.held[destination] = server.held[source]
        if source in server.written:
            server.written[destination] = server.written[source]
        return 200, None

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
        if self.now:
            server.written[name] = self.now
        yield _line({"status": "success"})

    def _create(self, request: httpx.Request, server: Server, body: dict[str, Any]) -> httpx.Response:
        name, base = str(references.parse(body["model"])), str(references.parse(body["from"]))
        self.variants.add(name)
        # Ollama pulls a base that it does not hold: the operator is not to have it do so.
        assert base in server.held, f"{base} is not there"
        if body.get("template", "").count("{{") != body.get("template", "").count("}}"):
            bad = {"error": "template error: template: :1: unclosed action"}
            return httpx.Response(400, json=bad, request=request)
        return httpx.Response(200, content=self._making(server, name, base, body), request=request)

    async def _making(
        self, server: Server, name: str, base: str, body: dict[str, Any]
    ) -> AsyncIterator[bytes]:
        model = server.held[base]
        for digest_of_file in (body.get("adapters") or {}).values():
            file = str(digest_of_file).replace(":", "-")
            yield _line({"status": "parsing GGUF"})
            if not any(file in one.adapters for one in server.held.values()):
                blob = f"/root/.ollama/models/blobs/{file}"
                yield _line({"error": f"open {blob}: no such file or directory"})
                return
            # It goes by what the file says of itself; the last one that is no adapter are the weights.
            if file in self.untyped:
                model = dataclasses.replace(model, weights=file)
            else:
                model = dataclasses.replace(model, adapters=(*model.adapters, file))
        yield _line({"status": "using existing layer sha256:aa"})
        yield _line({"status": "creating new layer sha256:bb"})
        yield _line({"status": "writing manifest"})
        set_here = body.get("parameters") or {}
        server.held[name] = dataclasses.replace(
            model,
            layers=(*model.layers, len(json.dumps(body))),
            license="\n".join(filter(None, (model.license, body.get("license", "")))),
            parameters="\n".join(f"{key:30} {value}" for key, value in set_here.items()) or model.parameters,
            recipe=json.dumps([digest(base, model), body], sort_keys=True),
        )
        yield _line({"status": "success"})


def digest(name: str, model: Published) -> str:
    """Return the digest of a model as /api/tags tells it."""
    made = hashlib.sha256(model.recipe.encode()).hexdigest()[:8] if model.recipe else ""
    return f"digest-of-{name}{model.pushed or ''}{made}"


def _line(entry: dict[str, Any]) -> bytes:
    return json.dumps(entry).encode() + b"\n"
