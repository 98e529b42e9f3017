"""What each route does: decode, look up the model, ask the upstream, answer."""

import contextlib
import hashlib
import logging
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, Protocol, TypeVar

import msgspec

from . import (
    catalog,
    errors,
    exchange,
    log,
    merge,
    openai_chat,
    openai_completions,
    openai_embeddings,
    openai_requests,
    sse,
    upstream,
)

_logger = logging.getLogger(__name__)
_MAX_BODY_BYTES = 64 * 1024 * 1024

Handler = Callable[[exchange.Exchange], Coroutine[Any, Any, None]]
Pieces = AsyncGenerator[list[upstream.Piece], None]


class Frames(Protocol):
    """Makes the events of one kind of stream."""

    tokens: openai_chat.Tokens

    def events(self, index: int, pieces: list[upstream.Piece]) -> bytes:
        """Return the events for pieces of one choice."""

    def end(self) -> bytes:
        """Return what ends the stream."""


class Service:
    """The routes. ``catalog`` may be replaced at any time; a request sticks to the one it found."""

    def __init__(self, engine: upstream.Upstream, models: catalog.Catalog | None = None) -> None:
        self._engine = engine
        self.catalog = models or catalog.Catalog()

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
        request = openai_requests.chat(await web.body(_MAX_BODY_BYTES))
        model = self._find(web, request.model, catalog.CHAT, stream=bool(request.stream))
        call = self._call(web, _affinity(request))
        sources = [
            self._engine.chat(request, model, call, choice=choice) for choice in range(request.choices)
        ]
        if request.stream:
            await self._stream(web, call, sources, openai_chat.Stream(request))
            return
        choices = await merge.results([_collect(source, openai_chat.Choice()) for source in sources])
        body, tokens = openai_chat.completion(request, choices)
        await _reply(web, call, body, tokens)

    async def complete(self, web: exchange.Exchange) -> None:
        """``POST /v1/completions``."""
        request = openai_requests.completion(await web.body(_MAX_BODY_BYTES))
        model = self._find(web, request.model, catalog.CHAT, stream=bool(request.stream))
        call = self._call(web, None)
        sources = [
            self._engine.complete(request, prompt, model, call, choice=choice)
            for prompt in request.prompts
            for choice in range(request.choices)
        ]
        if request.stream:
            await self._stream(web, call, sources, openai_completions.Stream(request))
            return
        choices = await merge.results([_collect(source, openai_completions.Choice()) for source in sources])
        body, tokens = openai_completions.completion(request, choices)
        await _reply(web, call, body, tokens)

    async def embed(self, web: exchange.Exchange) -> None:
        """``POST /v1/embeddings``."""
        request = openai_requests.embedding(await web.body(_MAX_BODY_BYTES))
        model = self._find(web, request.model, catalog.EMBEDDING, stream=False)
        call = self._call(web, None)
        embeddings = await self._engine.embed(request, request.texts, model, call)
        tokens = openai_chat.Tokens()
        tokens.prompt = embeddings.prompt_tokens
        await _reply(web, call, openai_embeddings.answer(request, embeddings), tokens)

    def _find(self, web: exchange.Exchange, name: str, kind: str, *, stream: bool) -> catalog.Model:
        model = self.catalog.find(name, kind, web.path)
        web.facts.update(model=model.served_names[0], stream=stream)
        return model

    def _call(self, web: exchange.Exchange, affinity: int | None) -> upstream.Call:
        return upstream.Call(request_id=web.request_id, affinity=affinity)

    async def _stream(
        self, web: exchange.Exchange, call: upstream.Call, sources: list[Pieces], frames: Frames
    ) -> None:
        """Hand on what arrives. The status line waits for the first of it, so that a failure until then is a
        status.
        """
        began = time.monotonic()
        try:
            async with contextlib.aclosing(merge.streams(sources)) as merged:
                async for index, pieces in merged:
                    events = frames.events(index, pieces)
                    if not web.started:
                        web.facts["first_byte_seconds"] = round(time.monotonic() - began, 4)
                        await web.start_events()
                    await web.write(events)
        except errors.ApiError as error:
            if not web.started:
                raise
            web.facts["error"] = error.code or error.kind
            _logger.warning("stream failed", extra=log.facts(request_id=web.request_id, reason=error.message))
            await web.write(sse.failure(error), more=False)
        else:
            await web.write(frames.end(), more=False)
        finally:
            _note(web, call, frames.tokens)


class Collector(Protocol):
    """Collects the pieces of one choice."""

    def add(self, pieces: list[upstream.Piece]) -> None:
        """Take in pieces in order."""


Collecting = TypeVar("Collecting", bound=Collector)


async def _collect(source: Pieces, choice: Collecting) -> Collecting:
    async with contextlib.aclosing(source):
        async for pieces in source:
            choice.add(pieces)
    return choice


async def _reply(
    web: exchange.Exchange, call: upstream.Call, body: bytes, tokens: openai_chat.Tokens
) -> None:
    _note(web, call, tokens)
    await web.reply(200, body)


def _note(web: exchange.Exchange, call: upstream.Call, tokens: openai_chat.Tokens) -> None:
    web.facts.update(
        upstream=call.upstream,
        attempts=call.attempts,
        prompt_tokens=tokens.prompt,
        completion_tokens=tokens.completion,
    )
    if call.load_seconds > 0.1:
        web.facts["load_seconds"] = round(call.load_seconds, 3)


def _affinity(request: openai_requests.ChatRequest) -> int:
    """Return one number for all turns of a conversation: of its beginning, which stays as it grows."""
    digest = hashlib.blake2b(request.model.encode(), digest_size=8)
    for message in request.messages:
        if isinstance(message, openai_requests.AssistantMessage):
            break
        digest.update(msgspec.json.encode(message.content))
    return int.from_bytes(digest.digest())
