"""A stand-in for a server of OpenAI's API that answers as vLLM does, and fails where a test wants it."""

import asyncio
import contextlib
import enum
import json
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web


class Failure(enum.Enum):
    """How an answer breaks off."""

    CUT = "the connection is cut"
    END = "the answer ends, without its end"


Step = str | dict[str, Any] | asyncio.Event | Failure
_ANSWERING = ("chat/completions", "completions", "embeddings")


class FakeCompatible:
    """Serves on loopback. ``script`` is what it says: words, deltas, events to wait for, and failures.

    ``requests`` are the bodies it was sent, by path; ``cancelled`` is set when a client leaves in mid-answer.
    """

    def __init__(self, *models: str) -> None:
        self.models = list(models or ("smollm2:135m", "all-minilm:latest"))
        self.script: list[Step] = ["Hello", " there"]
        self.reason = "stop"
        self.refusal: tuple[int, str] | None = None
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.asked = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.port = 0
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def sent(self, path: str) -> list[dict[str, Any]]:
        return [body for found, body in self.requests if found == path]

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        app = web.Application(client_max_size=2**26)
        app.router.add_get("/v1/models", self._list)
        for path in _ANSWERING:
            app.router.add_post(f"/v1/{path}", self._post)
        app.router.add_post("/v1/audio/transcriptions", self._transcribe)
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
        return web.json_response({"detail": "Not Found"}, status=404)

    async def _list(self, request: web.Request) -> web.Response:
        listed = [{"id": name, "object": "model", "created": 5, "owned_by": "vllm"} for name in self.models]
        # As Ollama says that there is nothing.
        return web.json_response({"object": "list", "data": listed or None})

    async def _transcribe(self, request: web.Request) -> web.Response:
        form = await request.post()
        self.requests.append((request.path, {name: value for name, value in form.items() if name != "file"}))
        if form.get("response_format") == "text":
            return web.Response(text="hello\n")
        return web.json_response({"text": "hello"}, dumps=_compact)

    async def _post(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        self.requests.append((request.path, body))
        self.asked.set()
        try:
            if self.refusal is not None:
                return _error(*self.refusal)
            if body["model"] not in self.models:
                return _error(404, f"The model `{body['model']}` does not exist.")
            if request.path == "/v1/embeddings":
                return _embedded(body)
            return await self._run(request, body)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def _run(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        is_chat = request.path == "/v1/chat/completions"
        answer = _Answer(body, is_chat=is_chat)
        events = web.StreamResponse(headers={"content-type": "text/event-stream; charset=utf-8"})
        before: list[Step] = [{"role": "assistant", "content": ""}] if is_chat else _echo(body)
        for step in [*before, *self.script]:
            if isinstance(step, asyncio.Event):
                await step.wait()
                continue
            if step is Failure.CUT:
                assert request.transport is not None
                request.transport.abort()
                return events
            if step is Failure.END:
                return events
            if isinstance(step, dict) and "error" in step and not body.get("stream"):
                return web.json_response(step, status=step["error"]["code"])
            chunk = answer.add(step)
            if body.get("stream"):
                await _event(request, events, chunk)
        if not body.get("stream"):
            return web.json_response(answer.whole(self.reason))
        await _event(request, events, answer.chunk({"content": ""}, self.reason))
        if body.get("stream_options", {}).get("include_usage"):
            await _event(request, events, {"object": "chunk", "choices": [], "usage": answer.usage()})
        await events.write(b"data: [DONE]\n\n")
        return events


class _Answer:
    """What was said so far, in the shapes of chats and completions."""

    def __init__(self, body: dict[str, Any], *, is_chat: bool) -> None:
        self._body = body
        self._is_chat = is_chat
        self._deltas: list[dict[str, Any]] = []

    def add(self, step: Any) -> dict[str, Any]:
        if isinstance(step, dict) and "error" in step:
            return step
        self._deltas.append({"content": step} if isinstance(step, str) else step)
        return self.chunk(self._deltas[-1], None)

    def chunk(self, delta: dict[str, Any], reason: str | None) -> dict[str, Any]:
        logprobs = self._logprobs([delta])
        choice: dict[str, Any] = {"index": 0, "logprobs": logprobs, "finish_reason": reason}
        choice |= {"delta": delta} if self._is_chat else {"text": delta["content"]}
        return {"id": "1", "object": "chunk", "model": self._body["model"], "choices": [choice]}

    def whole(self, reason: str) -> dict[str, Any]:
        text = "".join(delta.get("content") or "" for delta in self._deltas)
        choice: dict[str, Any] = {
            "index": 0,
            "logprobs": self._logprobs(self._deltas),
            "finish_reason": reason,
        }
        if self._is_chat:
            message: dict[str, Any] = {"role": "assistant", "content": text}
            for delta in self._deltas:
                if "reasoning_content" in delta:
                    message["reasoning_content"] = delta["reasoning_content"]
                for part in delta.get("tool_calls", ()):
                    _join(message.setdefault("tool_calls", []), part)
            choice |= {"message": message}
        else:
            choice |= {"text": text}
        return {"id": "1", "model": self._body["model"], "choices": [choice], "usage": self.usage()}

    def usage(self) -> dict[str, int]:
        words = sum(1 for delta in self._deltas if delta.get("content"))
        return {"prompt_tokens": 3, "completion_tokens": words, "total_tokens": 3 + words}

    def _logprobs(self, deltas: list[dict[str, Any]]) -> dict[str, Any] | None:
        words = [delta["content"] for delta in deltas if delta.get("content")]
        if not words or self._body.get("logprobs") in (None, False):
            return None
        if self._is_chat:
            top = {"token": "x", "logprob": -2.0, "bytes": [120]}
            return {
                "content": [
                    {"token": word, "logprob": -1.0, "bytes": list(word.encode()), "top_logprobs": [top]}
                    for word in words
                ]
            }
        # What a prompt begins with was predicted by nobody.
        first = self._body.get("echo") and deltas[0] is self._deltas[0]
        predicted = [not (first and number == 0) for number in range(len(words))]
        return {
            "tokens": words,
            "token_logprobs": [-1.0 if known else None for known in predicted],
            "top_logprobs": [
                {word: -1.0} if known else None for word, known in zip(words, predicted, strict=True)
            ],
            "text_offset": [0] * len(words),
        }


def _echo(body: dict[str, Any]) -> list[Step]:
    """The tokenizer of this model has a letter a token: an id is its code point."""
    prompt = body["prompt"]
    text = prompt if isinstance(prompt, str) else "".join(map(chr, prompt))
    return [text] if body.get("echo") else []


def _join(calls: list[dict[str, Any]], part: dict[str, Any]) -> None:
    known = next((call for call in calls if call["index"] == part["index"]), None)
    if known is None:
        calls.append({**part, "function": {**part["function"]}})
    else:
        known["function"]["arguments"] += part["function"]["arguments"]


def _embedded(body: dict[str, Any]) -> web.Response:
    given = body["input"]
    texts = [given] if isinstance(given, str) or isinstance(given[0], int) else given
    vectors = [[0.5, -0.25, float(len(text))][: body.get("dimensions", 3)] for text in texts]
    data = [
        {"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)
    ]
    # Nothing says that they come in order.
    return web.json_response(
        {"object": "list", "data": data[::-1], "usage": {"prompt_tokens": 7, "total_tokens": 7}}
    )


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _error(status: int, message: str) -> web.Response:
    error = {"message": message, "type": "BadRequestError", "param": None, "code": status}
    return web.json_response({"error": error}, status=status)


async def _event(request: web.Request, response: web.StreamResponse, data: dict[str, Any]) -> None:
    if not response.prepared:
        await response.prepare(request)
    await response.write(b"data: " + json.dumps(data).encode() + b"\n\n")


@contextlib.asynccontextmanager
async def running(*fakes: FakeCompatible) -> AsyncIterator[None]:
    """Run fakes on ports of their own."""
    for fake in fakes:
        await fake.start()
    try:
        yield
    finally:
        for fake in fakes:
            await fake.stop()
