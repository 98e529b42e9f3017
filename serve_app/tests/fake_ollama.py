"""A stand-in for Ollama that behaves as the real one was seen to, and fails where a test wants it."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from aiohttp import web

Step = dict[str, Any] | asyncio.Event | str
CUT = "cut"
# What a chat is as a text, with the template of a model around it.
RENDERED = "<user>Hi</user><assistant>"
_ANSWERING = {"/api/chat", "/api/generate", "/api/embed"}


def answer(*words: str, reason: str = "stop", **last: Any) -> list[Step]:
    """Return the lines of a chat answer that consists of the words."""
    lines: list[Step] = [
        {"model": "m", "message": {"role": "assistant", "content": word}, "done": False} for word in words
    ]
    end = {"done": True, "done_reason": reason, "prompt_eval_count": 3, "eval_count": len(words) or 1}
    return [*lines, {"model": "m", "message": {"role": "assistant", "content": ""}, **end, **last}]


class FakeOllama:
    """Serves on loopback. ``chat`` is a script of lines, of events to wait for, and of ``CUT``.

    ``requests`` are the bodies it was sent, by path; ``cancelled`` is set when a client leaves in mid-answer.
    """

    def __init__(self, models: dict[str, list[str]] | None = None) -> None:
        self.models = {"smollm2:135m": ["completion"], "all-minilm:latest": ["embedding"]}
        if models is not None:
            self.models = models
        self.loaded: set[str] = set()
        self.context_length = 4096
        self.loads = 0
        # What variants are made from, by name; others are made from nothing but themselves.
        self.bases: dict[str, str] = {}
        self.parameters: dict[str, str] = {}
        self.digests: dict[str, str] = {}
        self.longest_context = 0
        self.size = 0
        self.chat: list[Step] = answer("Hello", " there")
        self.refusal: tuple[int, str] | None = None
        self.renders = True
        self.thawed = asyncio.Event()
        self.thawed.set()
        self.pullable: dict[str, list[str]] = {}
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.asked = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.running = 0
        self.port = 0
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def answered(self) -> list[tuple[str, dict[str, Any]]]:
        return [(path, body) for path, body in self.requests if path in _ANSWERING]

    def sent(self, path: str) -> list[dict[str, Any]]:
        return [body for found, body in self.requests if found == path]

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        app = web.Application(client_max_size=2**26)
        app.router.add_get("/api/tags", self._tags)
        app.router.add_get("/api/ps", self._ps)
        for path in ("chat", "generate", "embed", "show", "pull"):
            app.router.add_post(f"/api/{path}", self._post)
        app.router.add_route("*", "/{rest:.*}", self._nothing)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _nothing(self, request: web.Request) -> web.Response:
        return web.Response(status=404, text="404 page not found")

    async def _tags(self, request: web.Request) -> web.Response:
        return web.json_response(
            {
                "models": [
                    {
                        "name": name,
                        "digest": self.digests.get(name, f"sha256:{name}"),
                        "size": self.size,
                        "modified_at": "2024-05-04T14:56:49.277302595Z",
                    }
                    for name in self.models
                ]
            }
        )

    async def _ps(self, request: web.Request) -> web.Response:
        entries = [{"name": name, "context_length": self.context_length} for name in self.loaded]
        return web.json_response({"models": entries})

    async def _post(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        self.requests.append((request.path, body))
        self.running += 1
        if request.path in _ANSWERING:
            self.asked.set()
        try:
            if request.path in _ANSWERING:
                # What a runner that was stopped does: everything that needs it waits, the lists do not.
                await self.thawed.wait()
            return await getattr(self, request.path.replace("/api/", "_"))(request, body)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        finally:
            self.running -= 1

    async def _show(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if body["model"] not in self.models:
            return _error(404, f"model '{body['model']}' not found")
        weights = "sha256-" + self.bases.get(body["model"], body["model"]).encode().hex()
        return web.json_response(
            {
                "modelfile": f'# Modelfile generated by "ollama show"\n# FROM {body["model"]}\n\n'
                f'FROM /root/.ollama/models/blobs/{weights}\nSYSTEM """You.\nFROM x"""\n',
                "parameters": self.parameters.get(body["model"], ""),
                "capabilities": self.models[body["model"]],
                "model_info": {"general.architecture": "llama", **self._longest()},
            }
        )

    def _longest(self) -> dict[str, int]:
        return {"llama.context_length": self.longest_context} if self.longest_context else {}

    async def _pull(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "application/x-ndjson"})
        await response.prepare(request)
        await _line(response, {"status": "pulling manifest"})
        if body["model"] not in self.pullable:
            await _line(response, {"error": "pull model manifest: file does not exist"})
            return response
        digest = {"status": "pulling abc", "digest": "sha256:abc", "total": 10}
        await _line(response, {**digest, "completed": 4})
        await _line(response, {**digest, "completed": 10})
        self.models[body["model"]] = self.pullable[body["model"]]
        await _line(response, {"status": "success"})
        return response

    async def _embed(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if refused := self._refused(body):
            return refused
        self._load(body["model"])
        vectors = [[0.5, -0.25, float(len(text))][: body.get("dimensions", 3)] for text in body["input"]]
        return web.json_response({"model": body["model"], "embeddings": vectors, "prompt_eval_count": 7})

    async def _generate(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if not body.get("prompt"):
            if self.refusal is not None:
                return _error(*self.refusal)
            keeps = body.get("keep_alive") != 0
            (self._load if keeps else self._unload)(body["model"])
            reason = "load" if keeps else "unload"
            return web.json_response({"response": "", "done": True, "done_reason": reason})
        told = body["prompt"].removeprefix(RENDERED) if body.get("raw") else ""
        return await self._run(
            request, body, lambda line: {**line, "response": line["message"]["content"]}, told
        )

    async def _chat(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if body.get("_debug_render_only"):
            rendered = {"_debug_info": {"rendered_template": RENDERED}} if self.renders else {}
            return self._refused(body) or web.json_response(rendered)
        return await self._run(request, body, lambda line: line)

    async def _run(
        self,
        request: web.Request,
        body: dict[str, Any],
        shape: Callable[[dict[str, Any]], dict[str, Any]],
        told: str = "",
    ) -> web.StreamResponse:
        if refused := self._refused(body):
            return refused
        self._load(body["model"])
        response = web.StreamResponse(headers={"content-type": "application/x-ndjson"})
        whole: dict[str, Any] = {"message": {"role": "assistant", "content": ""}}
        for step in _after(self.chat, told):
            await self.thawed.wait()
            if isinstance(step, asyncio.Event):
                await step.wait()
            elif step == CUT:
                assert request.transport is not None
                request.transport.abort()
                return response
            elif isinstance(step, dict) and body["stream"]:
                if not response.prepared:
                    await response.prepare(request)
                await _line(response, step if "error" in step else shape(step))
            elif isinstance(step, dict):
                if "error" in step:
                    return _error(500, step["error"])
                whole = _merged(whole, step)
        return response if body["stream"] else web.json_response(shape(whole))

    def _load(self, model: str) -> None:
        """A runner is kept by its weights, and listed under the name that loaded it."""
        if not self._sharing(model):
            self.loads += 1
            self.loaded.add(model)

    def _unload(self, model: str) -> None:
        self.loaded -= self._sharing(model)

    def _sharing(self, model: str) -> set[str]:
        base = self.bases.get(model, model)
        return {other for other in self.loaded if self.bases.get(other, other) == base}

    def _refused(self, body: dict[str, Any]) -> web.Response | None:
        if self.refusal is not None:
            return _error(*self.refusal)
        if body["model"] not in self.models:
            return _error(404, f"model '{body['model']}' not found")
        return None


def _after(script: list[Step], told: str) -> list[Step]:
    """A model that always says the same goes on where a text of its own ends."""
    said = ""
    for number, step in enumerate(script):
        if said == told:
            return script[number:]
        if isinstance(step, dict) and "message" in step:
            said += step["message"]["content"]
    return list(script)


def _merged(whole: dict[str, Any], line: dict[str, Any]) -> dict[str, Any]:
    message = {**whole["message"]}
    for key, value in line["message"].items():
        message[key] = value if key == "role" or key not in message else message[key] + value
    merged = {**whole, **line, "message": message}
    if "logprobs" in whole or "logprobs" in line:
        merged["logprobs"] = whole.get("logprobs", []) + line.get("logprobs", [])
    return merged


def _error(status: int, text: str) -> web.Response:
    return web.json_response({"error": text}, status=status)


async def _line(response: web.StreamResponse, line: dict[str, Any]) -> None:
    await response.write(json.dumps(line).encode() + b"\n")


@contextlib.asynccontextmanager
async def running(
    *fakes: FakeOllama,
) -> AsyncIterator[None]:
    """Run fakes on ports of their own."""
    for fake in fakes:
        await fake.start()
    try:
        yield
    finally:
        for fake in fakes:
            await fake.stop()
