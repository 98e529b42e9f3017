"""What each route does: decode, look up the model, wait for a turn, ask the upstream, answer."""

import asyncio
import contextlib
import hashlib
import logging
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, Protocol, TypeVar

import msgspec

from . import (
    admission,
    catalog,
    errors,
    exchange,
    log,
    merge,
    metrics,
    openai_chat,
    openai_completions,
    openai_embeddings,
    openai_requests,
    passthrough,
    sse,
    upstream,
)

_logger = logging.getLogger(__name__)

Handler = Callable[[exchange.Exchange], Coroutine[Any, Any, None]]
Pieces = AsyncGenerator[list[upstream.Piece], None]
Item = TypeVar("Item")


class Frames(Protocol):
    """Makes the events of one kind of stream."""

    tokens: openai_chat.Tokens

    def events(self, index: int, pieces: list[upstream.Piece]) -> bytes:
        """Return the events for pieces of one choice."""

    def end(self) -> bytes:
        """Return what ends the stream."""


class Collector(Protocol):
    """Collects the pieces of one choice."""

    def add(self, pieces: list[upstream.Piece]) -> None:
        """Take in pieces in order."""


Collecting = TypeVar("Collecting", bound=Collector)


class Service:
    """The routes. ``catalog`` may be replaced at any time; a request sticks to the one it found."""

    def __init__(
        self, engine: upstream.Upstream, turns: admission.Admission, measures: metrics.Metrics
    ) -> None:
        self._engine = engine
        self._turns = turns
        self._metrics = measures
        self.catalog = catalog.Catalog()

    async def health(self, web: exchange.Exchange) -> None:
        """Tell that this process serves; whether models can answer is told by the counts."""
        state = {"status": "ok", "models": len(self.catalog.models), **self._engine.state()}
        await web.reply(200, msgspec.json.encode(state))

    async def list_models(self, web: exchange.Exchange) -> None:
        """``GET /v1/models``, from memory."""
        await web.reply(200, self.catalog.listing)

    async def get_model(self, web: exchange.Exchange, name: str) -> None:
        """``GET /v1/models/{id}``, from memory; ids may hold slashes and colons."""
        await web.reply(200, self.catalog.entry(name))

    async def chat(self, web: exchange.Exchange) -> None:
        """``POST /v1/chat/completions``."""
        request = openai_requests.chat(await self._json_body(web))
        model = self._find(web, request.model, catalog.CHAT, stream=bool(request.stream))
        call = self._call(web, model, _affinity(request))
        sources = [
            self._engine.chat(request, model, call, choice=choice) for choice in range(request.choices)
        ]
        if request.stream:
            await self._stream(web, call, sources, openai_chat.Stream(request))
            return
        choices = await self._collect(web, call, sources, openai_chat.Choice)
        await self._reply(web, call, *openai_chat.completion(request, choices))

    async def complete(self, web: exchange.Exchange) -> None:
        """``POST /v1/completions``."""
        request = openai_requests.completion(await self._json_body(web))
        model = self._find(web, request.model, catalog.CHAT, stream=bool(request.stream))
        call = self._call(web, model, None)
        sources = [
            self._engine.complete(request, prompt, model, call, choice=choice)
            for prompt in request.prompts
            for choice in range(request.choices)
        ]
        if request.stream:
            await self._stream(web, call, sources, openai_completions.Stream(request))
            return
        choices = await self._collect(web, call, sources, openai_completions.Choice)
        await self._reply(web, call, *openai_completions.completion(request, choices))

    async def embed(self, web: exchange.Exchange) -> None:
        """``POST /v1/embeddings``."""
        request = openai_requests.embedding(await self._json_body(web))
        model = self._find(web, request.model, catalog.EMBEDDING, stream=False)
        call = self._call(web, model, None)
        async with self._deadline(), self._turn(web, call):
            embeddings = await self._engine.embed(request, request.texts, model, call)
        tokens = openai_chat.Tokens()
        tokens.prompt = embeddings.prompt_tokens
        await self._reply(web, call, openai_embeddings.answer(request, embeddings), tokens)

    async def respond(self, web: exchange.Exchange) -> None:
        """``POST /v1/responses``, passed on."""
        await self._pass_on(web, "/v1/responses", passthrough.json_request(await self._json_body(web)))

    async def message(self, web: exchange.Exchange) -> None:
        """``POST /v1/messages``, Anthropic's API, passed on."""
        await self._pass_on(web, "/v1/messages", passthrough.json_request(await self._json_body(web)))

    async def transcribe(self, web: exchange.Exchange) -> None:
        """``POST /v1/audio/transcriptions``, passed on."""
        if not web.content_type.startswith(b"multipart/form-data"):
            raise _unsupported_media("Send the audio as multipart/form-data.")
        body = await web.body(self._turns.limits.max_body_bytes)
        request = passthrough.form_request(web.content_type, body)
        await self._pass_on(web, "/v1/audio/transcriptions", request)

    async def _pass_on(self, web: exchange.Exchange, path: str, request: passthrough.Passed) -> None:
        model = self._find(web, request.model, catalog.CHAT, stream=request.stream)
        call = self._call(web, model, None)
        renamer = passthrough.Renamer(model.name, request.model)
        content_type, body = request.rename(model.name)
        source = self._engine.relay(path, body, content_type, model, call, stream=request.stream)
        try:
            async with self._deadline(), contextlib.aclosing(self._admitted(web, call, source)) as answer:
                async for data in answer:
                    if not request.stream:
                        await web.reply(200, renamer.feed(data) + renamer.rest())
                    else:
                        await self._write(web, call, renamer.feed(data))
        except errors.ApiError as error:
            if not web.started:
                raise
            self._fail(web, error)
            await web.end(sse.named_failure(error))
        else:
            if request.stream:
                await web.end(renamer.rest())
        finally:
            self._note(web, call, openai_chat.Tokens())

    async def _stream(
        self, web: exchange.Exchange, call: upstream.Call, sources: list[Pieces], frames: Frames
    ) -> None:
        """Hand on what arrives.

        The status line waits for the first of it, so that a failure until then can be told by the status.
        """
        try:
            async with self._deadline():
                if sources[1:]:
                    admitted = merge.streams([self._admitted(web, call, source) for source in sources])
                    async with contextlib.aclosing(admitted) as merged:
                        async for index, pieces in merged:
                            await self._write(web, call, frames.events(index, pieces))
                else:
                    # Nearly all requests; every generator in between costs each token microseconds.
                    async with self._turn(web, call), contextlib.aclosing(sources[0]) as only:
                        async for pieces in only:
                            if not web.started:
                                await self._begin(web, call)
                            if events := frames.events(0, pieces):
                                await web.write(events)
        except errors.ApiError as error:
            if not web.started:
                raise
            self._fail(web, error)
            await web.end(sse.failure(error))
        else:
            self._time_tokens(web, call, frames.tokens)
            await web.end(frames.end())
        finally:
            self._note(web, call, frames.tokens)

    async def _write(self, web: exchange.Exchange, call: upstream.Call, data: bytes) -> None:
        if not web.started:
            await self._begin(web, call)
        if data:
            await web.write(data)

    async def _begin(self, web: exchange.Exchange, call: upstream.Call) -> None:
        web.first_byte = time.monotonic()
        seconds = web.first_byte - web.began
        web.facts["first_byte_seconds"] = round(seconds, 4)
        self._metrics.first_token(call.served, seconds)
        await web.start_events()

    def _time_tokens(self, web: exchange.Exchange, call: upstream.Call, tokens: openai_chat.Tokens) -> None:
        if tokens.completion > 1:
            spent = time.monotonic() - web.first_byte
            self._metrics.per_token(call.served, spent / (tokens.completion - 1))

    async def _collect(
        self,
        web: exchange.Exchange,
        call: upstream.Call,
        sources: list[Pieces],
        make: Callable[[], Collecting],
    ) -> list[Collecting]:
        if not sources[1:]:
            choice = make()
            async with self._deadline(), self._turn(web, call), contextlib.aclosing(sources[0]) as only:
                async for pieces in only:
                    choice.add(pieces)
            return [choice]

        async def one(source: Pieces) -> Collecting:
            choice = make()
            async with contextlib.aclosing(self._admitted(web, call, source)) as admitted:
                async for pieces in admitted:
                    choice.add(pieces)
            return choice

        async with self._deadline():
            return await merge.results([one(source) for source in sources])

    async def _admitted(
        self, web: exchange.Exchange, call: upstream.Call, source: AsyncGenerator[Item, None]
    ) -> AsyncGenerator[Item, None]:
        async with self._turn(web, call), contextlib.aclosing(source):
            async for item in source:
                yield item

    def _turn(self, web: exchange.Exchange, call: upstream.Call) -> admission.Slot:
        return self._turns.slot(call.served, web.client, web.facts)

    def _deadline(self) -> contextlib.AbstractAsyncContextManager[None]:
        seconds = self._turns.limits.request_timeout_seconds
        return contextlib.nullcontext() if seconds is None else _deadline(seconds)

    def _find(self, web: exchange.Exchange, name: str, kind: str, *, stream: bool) -> catalog.Model:
        model = self.catalog.find(name, kind, web.path)
        web.facts.update(model=model.served_names[0], stream=stream)
        return model

    def _call(self, web: exchange.Exchange, model: catalog.Model, affinity: int | None) -> upstream.Call:
        return upstream.Call(request_id=web.request_id, served=model.served_names[0], affinity=affinity)

    def _fail(self, web: exchange.Exchange, error: errors.ApiError) -> None:
        web.facts["error"] = error.code or error.kind
        _logger.warning("stream failed", extra=log.facts(request_id=web.request_id, reason=error.message))

    async def _reply(
        self, web: exchange.Exchange, call: upstream.Call, body: bytes, tokens: openai_chat.Tokens
    ) -> None:
        self._note(web, call, tokens)
        await web.reply(200, body)

    def _note(self, web: exchange.Exchange, call: upstream.Call, tokens: openai_chat.Tokens) -> None:
        web.facts.update(
            upstream=call.upstream,
            attempts=call.attempts,
            prompt_tokens=tokens.prompt,
            completion_tokens=tokens.completion,
        )
        self._metrics.tokens(call.served, web.client, tokens.prompt, tokens.completion)
        if call.load_seconds > 0.1:
            # Less is what Ollama takes to find a model that is loaded.
            web.facts["load_seconds"] = round(call.load_seconds, 3)
            self._metrics.load(call.served, call.load_seconds)

    async def _json_body(self, web: exchange.Exchange) -> bytes:
        """Read a body that ought to be JSON; what it is called matters only where it cannot be."""
        encoding = web.headers.get(b"content-encoding", b"identity")
        if web.content_type.startswith(b"multipart/") or encoding.lower() != b"identity":
            raise _unsupported_media("Send the request as application/json, not compressed.")
        return await web.body(self._turns.limits.max_body_bytes)


@contextlib.asynccontextmanager
async def _deadline(seconds: float) -> AsyncGenerator[None, None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise errors.ApiError(
            504, "The answer took longer than is allowed here.", kind="server_error", code="timeout"
        ) from None


def _unsupported_media(message: str) -> errors.ApiError:
    return errors.ApiError(415, message, code="unsupported_media_type")


def _affinity(request: openai_requests.ChatRequest) -> int:
    """Return one number for all turns of a conversation: of its beginning, which stays as it grows."""
    digest = hashlib.blake2b(request.model.encode(), digest_size=8)
    for message in request.messages:
        if isinstance(message, openai_requests.AssistantMessage):
            break
        digest.update(msgspec.json.encode(message.content))
    return int.from_bytes(digest.digest())
