"""What each route does: decode, look up the model, wait for a turn, ask the upstream, answer."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from typing import Any, Protocol, TypeVar

import msgspec

from modelset_proxy.dispatch import dispatcher, prompts, work
from modelset_proxy.engines import pauses, port
from modelset_proxy.openai import (
    anthropic,
    catalog,
    chat,
    completions,
    embeddings,
    errors,
    passthrough,
    pieces,
    requests,
    responses,
    usage,
)
from modelset_proxy.telemetry import log, metrics
from modelset_proxy.web import exchange, holding, merge

_logger = logging.getLogger(__name__)
_LONG_WAIT_SECONDS = 0.01

Handler = Callable[[exchange.Exchange], Coroutine[Any, Any, None]]
Answers = work.Work[list[pieces.Piece]]


class Frames(Protocol):
    """Makes the events of one kind of stream."""

    tokens: usage.Tokens

    def events(self, index: int, pieces: list[pieces.Piece]) -> bytes:
        """Return the events for pieces of one choice."""

    def end(self) -> bytes:
        """Return what ends the stream."""

    def failure(self, error: errors.ApiError) -> bytes:
        """Return what ends a stream that has failed."""


class Collector(Protocol):
    """Collects the pieces of one choice."""

    def add(self, pieces: list[pieces.Piece]) -> None:
        """Take in pieces in order."""


Collecting = TypeVar("Collecting", bound=Collector)


class Service:
    """The routes. ``catalog`` may be replaced at any time; a request sticks to the one it found."""

    def __init__(
        self, engine: port.Engine, dispatch: dispatcher.Dispatcher, measures: metrics.Metrics
    ) -> None:
        self._engine = engine
        self._dispatch = dispatch
        self._metrics = measures
        self.catalog = catalog.Catalog(known=False)

    async def health(self, web: exchange.Exchange) -> None:
        """Tell that this process serves; whether models can answer is told by the counts."""
        state = {"status": "ok", "models": len(self.catalog.models), **self._dispatch.state()}
        await web.reply(200, msgspec.json.encode(state))

    async def list_models(self, web: exchange.Exchange) -> None:
        """``GET /v1/models``, from memory."""
        await web.reply(200, self.catalog.listing)

    async def get_model(self, web: exchange.Exchange, name: str) -> None:
        """``GET /v1/models/{id}``, from memory; ids may hold slashes and colons."""
        await web.reply(200, self.catalog.entry(name))

    async def chat(self, web: exchange.Exchange) -> None:
        """``POST /v1/chat/completions``."""
        request = await pauses.between(requests.chat.in_steps(await self._json_body(web)))
        model = self._find(web, request.model, catalog.CHAT, stream=bool(request.stream))
        call = self._call(web, model)
        answers = await self._open_chat(request, model, call)
        if request.stream:
            await self._stream(web, call, answers, chat.Stream(request))
            return
        choices = await self._collect(answers, chat.Choice)
        await self._reply(web, call, *chat.completion(request, choices))

    async def complete(self, web: exchange.Exchange) -> None:
        """``POST /v1/completions``."""
        request = await pauses.between(requests.completion.in_steps(await self._json_body(web)))
        model = self._find(web, request.model, catalog.CHAT, stream=bool(request.stream))
        call = self._call(web, model)
        answers = self._dispatch.open(
            await self._engine.complete(request, model),
            model,
            call,
            units=len(request.prompts) * request.choices,
            prompt=prompts.prompt(request.model, requests.beginning(request)),
        )
        if request.stream:
            await self._stream(web, call, answers, completions.Stream(request))
            return
        choices = await self._collect(answers, completions.Choice)
        await self._reply_in_parts(web, call, *completions.completion(request, choices))

    async def embed(self, web: exchange.Exchange) -> None:
        """``POST /v1/embeddings``."""
        request = await pauses.between(requests.embedding.in_steps(await self._json_body(web)))
        model = self._find(web, request.model, catalog.EMBEDDING, stream=False)
        call = self._call(web, model)
        answers = self._dispatch.open(await self._engine.embed(request, model), model, call)
        async with self._deadline(), answers, contextlib.aclosing(answers.answer(0)) as answer:
            [found] = [found async for found in answer]
        tokens = usage.Tokens()
        tokens.prompt = found.prompt_tokens
        await self._reply_in_parts(web, call, embeddings.answer(request, found), tokens)

    async def respond(self, web: exchange.Exchange) -> None:
        """``POST /v1/responses``, a chat in other words."""
        request = await pauses.between(responses.read(await self._json_body(web)))
        model = self._find(web, request.chat.model, catalog.CHAT, stream=bool(request.chat.stream))
        call = self._call(web, model)
        with request.names.used():
            answers = await self._open_chat(request.chat, model, call)
            if request.chat.stream:
                await self._stream(web, call, answers, responses.Stream(request))
                return
            [output] = await self._collect(answers, responses.Output)
        await self._reply(web, call, *responses.whole(request, output))

    async def message(self, web: exchange.Exchange) -> None:
        """``POST /v1/messages``, Anthropic's API."""
        request = await pauses.between(anthropic.read.in_steps(await self._json_body(web)))
        model = self._find(web, request.model, catalog.CHAT, stream=bool(request.stream))
        call = self._call(web, model)
        translated = await pauses.between(anthropic.chat(request, can_think=model.can("thinking")))
        with translated.own_names():
            answers = await self._open_chat(translated.request, model, call)
            if request.stream:
                await self._stream(web, call, answers, anthropic.Stream(request.model))
                return
            [message] = await self._collect(answers, anthropic.Message)
        await self._reply(web, call, *message.body(request.model))

    async def count_tokens(self, web: exchange.Exchange) -> None:  # noqa: ARG002
        """``POST /v1/messages/count_tokens``: Ollama does not tell before it answers."""
        raise errors.ApiError(
            404,
            "Tokens cannot be counted here: a model server tells how many a prompt has with its answer only.",
            code="unknown_url",
        )

    async def transcribe(self, web: exchange.Exchange) -> None:
        """``POST /v1/audio/transcriptions``, passed on."""
        if not web.content_type.startswith(b"multipart/form-data"):
            raise _unsupported_media("Send the audio as multipart/form-data.")
        body = await web.body(self._dispatch.limits.max_body_bytes)
        request = passthrough.form_request(web.content_type, body)
        await self._pass_on(web, "/v1/audio/transcriptions", request)

    async def _open_chat(
        self, request: requests.ChatRequest, model: catalog.Model, call: port.Call
    ) -> Answers:
        return self._dispatch.open(
            await self._engine.chat(request, model),
            model,
            call,
            units=request.choices,
            prompt=prompts.prompt(request.model, requests.texts(request)),
        )

    async def _pass_on(self, web: exchange.Exchange, path: str, request: passthrough.Passed) -> None:
        model = self._find(web, request.model, catalog.CHAT, stream=False)
        call = self._call(web, model)
        answers = self._dispatch.open(self._engine.relay(path, request, model), model, call)
        try:
            async with self._deadline(), answers, contextlib.aclosing(answers.answer(0)) as answer:
                whole = b"".join([data async for data in answer])
        finally:
            self._note(web, call, usage.Tokens())
        await web.reply(200, whole, content_type=request.answer)

    async def _stream(
        self, web: exchange.Exchange, call: port.Call, answers: Answers, frames: Frames
    ) -> None:
        """Hand on what arrives.

        The status line waits for the first of it, so that a failure until then can be told by the status;
        for so long as ``holding`` lets it wait.
        """
        hold = holding.Holding(web, stranded=lambda: answers.stranded, asked=lambda: bool(call.server))

        async def hand_on(index: int, made: list[pieces.Piece]) -> None:
            if not hold.ended:
                await self._begin(web, call, hold)
            if events := frames.events(index, made):
                await web.write(events)

        try:
            async with hold, self._deadline(), answers:
                if answers.units > 1:
                    merging = merge.streams(answers.units, answers.answer)
                    async with contextlib.aclosing(merging) as merged:
                        async for index, made in merged:
                            await hand_on(index, made)
                else:
                    # Nearly all requests; every generator in between costs each token microseconds.
                    async with contextlib.aclosing(answers.answer(0)) as only:
                        async for made in only:
                            await hand_on(0, made)
        except errors.ApiError as error:
            if not web.started:
                raise
            self._fail(web, error)
            await web.end(frames.failure(error))
        else:
            self._time_tokens(web, call, frames.tokens)
            await web.end(frames.end())
        finally:
            self._note(web, call, frames.tokens)

    async def _begin(self, web: exchange.Exchange, call: port.Call, hold: holding.Holding) -> None:
        """Take in that an answer begins."""
        await hold.end()
        web.first_byte = time.monotonic()
        seconds = web.first_byte - web.began
        web.facts["first_byte_seconds"] = round(seconds, 4)
        self._metrics.first_token(call.served, seconds)
        if not web.started:
            await web.start_events()

    def _time_tokens(self, web: exchange.Exchange, call: port.Call, tokens: usage.Tokens) -> None:
        if tokens.completion > 1:
            spent = time.monotonic() - web.first_byte
            self._metrics.per_token(call.served, spent / (tokens.completion - 1))

    async def _collect(self, answers: Answers, make: Callable[[], Collecting]) -> list[Collecting]:
        async def one(unit: int) -> Collecting:
            choice = make()
            async with contextlib.aclosing(answers.answer(unit)) as answer:
                async for pieces in answer:
                    choice.add(pieces)
            return choice

        async with self._deadline(), answers:
            return await merge.results(answers.units, one)

    def _deadline(self) -> contextlib.AbstractAsyncContextManager[None]:
        seconds = self._dispatch.limits.request_timeout_seconds
        return contextlib.nullcontext() if seconds is None else _deadline(seconds)

    def _find(self, web: exchange.Exchange, name: str, kind: str, *, stream: bool) -> catalog.Model:
        model = self.catalog.find(name, kind, web.path)
        web.facts.update(model=model.served_names[0], stream=stream)
        return model

    def _call(self, web: exchange.Exchange, model: catalog.Model) -> port.Call:
        return port.Call(web.request_id, model.served_names[0], web.client, drop=web.drop)

    def _fail(self, web: exchange.Exchange, error: errors.ApiError) -> None:
        web.facts["error"] = error.code or error.kind
        _logger.warning("stream failed", extra=log.facts(request_id=web.request_id, reason=error.message))

    async def _reply(
        self, web: exchange.Exchange, call: port.Call, body: bytes, tokens: usage.Tokens
    ) -> None:
        self._note(web, call, tokens)
        await web.reply(200, body)

    async def _reply_in_parts(
        self, web: exchange.Exchange, call: port.Call, parts: Iterator[bytes], tokens: usage.Tokens
    ) -> None:
        made = await pauses.all_of(parts)
        if len(made) == 1:
            await self._reply(web, call, made[0], tokens)
            return
        self._note(web, call, tokens)
        length = b"%d" % sum(map(len, made))
        await web.start(200, [(b"content-type", exchange.JSON), (b"content-length", length)])
        for part in made:
            await web.write(part)
        await web.end(b"")

    def _note(self, web: exchange.Exchange, call: port.Call, tokens: usage.Tokens) -> None:
        web.facts.update(
            upstream=call.server,
            attempts=call.attempts,
            prompt_tokens=tokens.prompt,
            completion_tokens=tokens.completion,
        )
        self._metrics.tokens(call.served, web.client, tokens.prompt, tokens.completion)
        if call.queued_seconds > _LONG_WAIT_SECONDS:
            web.facts["queued_seconds"] = round(call.queued_seconds, 4)
        if call.load_seconds > 0.1:
            # Less is what Ollama takes to find a model that is loaded.
            web.facts["load_seconds"] = round(call.load_seconds, 3)
            self._metrics.load(call.served, call.load_seconds)

    async def _json_body(self, web: exchange.Exchange) -> bytes:
        """Read a body that ought to be JSON; what it is called matters only where it cannot be."""
        encoding = web.headers.get(b"content-encoding", b"identity")
        if web.content_type.startswith(b"multipart/") or encoding.lower() != b"identity":
            raise _unsupported_media("Send the request as application/json, not compressed.")
        if web.from_page and not _says_json(web.content_type):
            # Any page may send a form or plain text; for JSON the browser asks first whether it may.
            raise _unsupported_media("A web page has to send the request as application/json.")
        return await web.body(self._dispatch.limits.max_body_bytes, is_text=True)


@contextlib.asynccontextmanager
async def _deadline(seconds: float) -> AsyncGenerator[None, None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise errors.ApiError(
            504,
            "The answer took longer than is allowed here.",
            kind="server_error",
            code="timeout",
            may_retry=False,
        ) from None


def _says_json(content_type: bytes) -> bool:
    kind = content_type.partition(b";")[0].strip().lower()
    return kind in (b"", exchange.JSON) or kind.endswith(b"+json")


def _unsupported_media(message: str) -> errors.ApiError:
    return errors.ApiError(415, message, code="unsupported_media_type")
