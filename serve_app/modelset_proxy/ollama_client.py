"""The upstream that is Ollama: sends native requests to the fleet and fails over before the first byte.

Until something has been handed on, a request may start again on another server: generating has no side
effects. Afterwards a failure is an error, never a second answer.
"""

import itertools
import logging
import socket
import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from typing import Protocol, TypeVar

import aiohttp
import msgspec

from . import (
    catalog,
    errors,
    log,
    metrics,
    ollama_answers,
    ollama_fleet,
    ollama_names,
    ollama_requests,
    openai_requests,
    router,
    upstream,
)

Decoded = TypeVar("Decoded", covariant=True)

_logger = logging.getLogger(__name__)
_ATTEMPTS = 4
_HEADERS = {"content-type": "application/json"}
# No limit on the whole: loading a model takes minutes and an answer as long as it is.
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=3)
_SHOW_TIMEOUT = aiohttp.ClientTimeout(total=10, sock_connect=3)
_CLIENT_CLOSED_REQUEST = 499
_NO_ROUTE = "404 page not found"
_ERROR_BYTES = 64 * 1024


class PullFailedError(Exception):
    """A model could not be pulled; the message says why, in Ollama's words where it has any."""


class _AttemptError(Exception):
    """An attempt that another server may do better; ``error`` is what the client gets if none does."""

    def __init__(self, error: errors.ApiError, why: str, *, lost: bool) -> None:
        super().__init__(why)
        self.error = error
        self.lost = lost


class _Decoder(Protocol[Decoded]):
    """Makes something of the bytes of one answer. What it raises, ApiErrors, ends the answer."""

    def feed(self, data: bytes) -> Iterator[Decoded]:
        """Yield what the next bytes hold; a failure in them comes after what came before it."""

    def end(self) -> Iterator[Decoded]:
        """Yield what is left now that the answer has ended."""


class _Raw:
    """Hands on the bytes."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        yield data

    def end(self) -> Iterator[bytes]:
        return iter(())


class _Pieces:
    """Decodes the lines of ``/api/chat`` and ``/api/generate``; a list is what came together."""

    def __init__(self, reader: ollama_answers.Reader, call: upstream.Call) -> None:
        self._lines = ollama_answers.Lines()
        self._reader = reader
        self._call = call

    def feed(self, data: bytes) -> Iterator[list[upstream.Piece]]:
        return self._read(self._lines.feed(data))

    def end(self) -> Iterator[list[upstream.Piece]]:
        rest = self._lines.rest()
        yield from self._read([rest] if rest else [])
        self._call.load_seconds = self._reader.load_seconds
        if not self._reader.done:
            raise _broken("the answer ended before it was done", self._call)

    def _read(self, lines: list[bytes]) -> Iterator[list[upstream.Piece]]:
        pieces: list[upstream.Piece] = []
        failure: errors.ApiError | None = None
        try:
            for line in lines:
                pieces.append(self._reader.read(line))  # noqa: PERF401 - a comprehension would lose them all
        except errors.ApiError as problem:
            failure = problem
        except ollama_answers.BrokenAnswerError as problem:
            failure = _broken(str(problem), self._call)
        if pieces:
            yield pieces
        if failure is not None:
            raise failure


class _Whole:
    """Closes the connection of an answer that was not read to its end: Ollama stops working when it goes."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, *_: object) -> None:
        if not self._response.content.at_eof():
            self._response.close()


class Ollama:
    """Implements ``upstream.Upstream``. Nothing else may be called before ``start``.

    ``parallel`` is how many requests of one model a server runs at once (its OLLAMA_NUM_PARALLEL), None where
    nobody says; it may be replaced.
    """

    fleet: ollama_fleet.Fleet
    _session: aiohttp.ClientSession

    def __init__(
        self, urls: Sequence[str], *, interval: float = 3.0, measures: metrics.Metrics | None = None
    ) -> None:
        self._urls = urls
        self._interval = interval
        self._metrics = measures or metrics.Nothing()
        self._turn = 0
        self.parallel: int | None = None

    async def start(self) -> None:
        """Find the servers; connections belong to the event loop this runs in."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30, socket_factory=_socket),
            timeout=_TIMEOUT,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("accept", "accept-encoding", "user-agent"),
            auto_decompress=False,
            read_bufsize=256 * 1024,
        )
        self.fleet = ollama_fleet.Fleet(self._urls, self._session, interval=self._interval)
        await self.fleet.start()

    async def close(self) -> None:
        """Stop looking for servers and close all connections."""
        await self.fleet.stop()
        await self._session.close()

    def state(self) -> Mapping[str, int]:
        """Count the servers known and those that answer."""
        servers = self.fleet.servers.values()
        return {"servers": len(servers), "reachable": sum(server.reachable for server in servers)}

    def servers(self, model: catalog.Model) -> int:
        """Count the servers that hold a model and answer."""
        name = ollama_names.canonical(model.name)
        return sum(name in server.held for server in self.fleet.servers.values() if server.reachable)

    def chat(
        self,
        request: openai_requests.ChatRequest,
        model: catalog.Model,
        call: upstream.Call,
        *,
        choice: int = 0,
    ) -> AsyncGenerator[list[upstream.Piece], None]:
        """Answer a chat, see ``upstream.Upstream``."""
        job = ollama_requests.chat(request, model, choice=choice)
        reader = ollama_answers.Reader(job.forced, single_call=job.single_call)
        decoder = _Pieces(reader, call)
        return self._ask(
            "/api/chat", job.body, model, call, param="messages", whole=not request.stream, decoder=decoder
        )

    def complete(
        self,
        request: openai_requests.CompletionRequest,
        prompt: str,
        model: catalog.Model,
        call: upstream.Call,
        *,
        choice: int = 0,
    ) -> AsyncGenerator[list[upstream.Piece], None]:
        """Continue a text, see ``upstream.Upstream``."""
        body = ollama_requests.completion(request, prompt, model, choice=choice)
        decoder = _Pieces(ollama_answers.Reader(), call)
        return self._ask(
            "/api/generate", body, model, call, param="prompt", whole=not request.stream, decoder=decoder
        )

    async def embed(
        self,
        request: openai_requests.EmbeddingRequest,
        texts: list[str],
        model: catalog.Model,
        call: upstream.Call,
    ) -> upstream.Embeddings:
        """Embed texts, see ``upstream.Upstream``."""
        body = ollama_requests.embedding(request, texts, model)
        answer = b""
        source = self._ask("/api/embed", body, model, call, param="input", whole=True, decoder=_Raw())
        async for data in source:
            answer += data
        try:
            return ollama_answers.embeddings(answer)
        except ollama_answers.BrokenAnswerError as problem:
            raise _broken(str(problem), call) from None

    def relay(
        self,
        path: str,
        body: bytes,
        content_type: bytes,
        model: catalog.Model,
        call: upstream.Call,
        *,
        stream: bool,
    ) -> AsyncGenerator[bytes, None]:
        """Pass a request on, see ``upstream.Upstream``."""
        headers = {"content-type": content_type.decode("latin-1")}
        return self._ask(
            path, body, model, call, param="input", whole=not stream, decoder=_Raw(), headers=headers
        )

    async def capabilities(self, name: str) -> frozenset[str] | None:
        """Ask any server that holds a model what it can do; None when none tells."""
        server = router.choose(
            self.fleet.servers.values(), ollama_names.canonical(name), now=time.monotonic()
        )
        if server is None:
            return None
        try:
            async with self._session.post(
                f"{server.url}/api/show", data=msgspec.json.encode({"model": name}), timeout=_SHOW_TIMEOUT
            ) as response:
                if response.status != 200:
                    return None
                shown = msgspec.json.decode(await response.read(), type=ollama_answers.Show)
        except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError):
            return None
        return frozenset(shown.capabilities)

    async def pull(
        self, url: str, name: str, *, insecure: bool = False
    ) -> AsyncGenerator[ollama_answers.Progress, None]:
        """Pull a model to one server, ``insecure``ly over plain HTTP; yield its progress.

        Raises PullFailedError.
        """
        lines = ollama_answers.Lines()
        try:
            body = msgspec.json.encode({"model": name, "insecure": insecure})
            async with self._session.post(f"{url}/api/pull", data=body) as response:
                if response.status != 200:
                    raise PullFailedError(
                        ollama_answers.error_text(await response.content.read(_ERROR_BYTES))
                    )
                while data := await response.content.readany():
                    for line in lines.feed(data):
                        yield msgspec.json.decode(line, type=ollama_answers.Progress)
        except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError) as problem:
            raise PullFailedError(str(problem) or type(problem).__name__) from None

    async def _ask(
        self,
        path: str,
        body: bytes,
        model: catalog.Model,
        call: upstream.Call,
        *,
        param: str,
        whole: bool,
        decoder: _Decoder[Decoded],
        headers: Mapping[str, str] = _HEADERS,
    ) -> AsyncGenerator[Decoded, None]:
        """Yield what the decoder makes of the answer as it arrives, or all at once when ``whole``.

        One generator from the connection to the OpenAI side: each more costs every token.
        """
        name = ollama_names.canonical(model.name)
        tried: set[str] = set()
        failure: _AttemptError | None = None
        for attempts in itertools.count(1):
            server = await self._pick(name, call, tried, failure)
            call.upstream, call.attempts = server.url, max(call.attempts, attempts)
            if failure is not None:
                self._metrics.upstream_retry(call.served)
            started = False
            server.begin(name)
            try:
                response = await self._post(server, name, path, body, headers, param)
                async with _Whole(response):
                    # Both return nothing at the end.
                    read = response.content.read if whole else response.content.readany
                    while data := await read():
                        started = True
                        for decoded in decoder.feed(data):
                            yield decoded
                server.succeeded()
                for decoded in decoder.end():
                    yield decoded
            except _AttemptError as problem:
                failure = problem
            except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError) as problem:
                server.failed(time.monotonic())
                failure = _lost(problem, server, call)
            else:
                return
            finally:
                server.end(name)
            self._metrics.upstream_failure(call.served, failure.error.code or "")
            if started or attempts == _ATTEMPTS:
                raise failure.error from None
            tried.add(server.url)

    async def _pick(
        self, name: str, call: upstream.Call, tried: set[str], failure: _AttemptError | None
    ) -> router.Server:
        self._turn += 1
        server = self._choose(name, call, tried)
        if server is None:
            # Pods may have moved, or hold more than they did.
            await self.fleet.refresh()
            # After a lost connection the same server counts again: it may have been restarted.
            server = self._choose(name, call, () if failure is not None and failure.lost else tried)
        if server is not None:
            return server
        if failure is not None:
            raise failure.error from None
        if not any(server.reachable for server in self.fleet.servers.values()):
            raise errors.unavailable("No model server can be reached.", code="upstream_unavailable")
        raise errors.unavailable(
            "No model server holds this model at the moment.", code="model_not_ready", retry_after=10
        )

    def _choose(self, name: str, call: upstream.Call, tried: set[str] | tuple[()]) -> router.Server | None:
        return router.choose(
            self.fleet.servers.values(),
            name,
            now=time.monotonic(),
            tried=tried,
            affinity=call.affinity,
            turn=self._turn,
            parallel=self.parallel,
        )

    async def _post(
        self,
        server: router.Server,
        name: str,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
        param: str,
    ) -> aiohttp.ClientResponse:
        response = await self._session.post(f"{server.url}{path}", data=body, headers=headers)
        if response.status != 200:
            async with _Whole(response):
                text = ollama_answers.error_text(await response.content.read(_ERROR_BYTES))
                self._refused(server, name, response.status, text, param)
        return response

    def _refused(self, server: router.Server, name: str, status: int, text: str, param: str) -> None:
        """Raise what a status but 200 means: the client's mistake, or a reason to ask another server."""
        error = ollama_answers.error(status, text, param=param)
        facts = log.facts(server=server.url, status=status, reason=text[:300])
        if status == 404 and text.startswith(_NO_ROUTE):
            raise errors.ApiError(404, "The model server has no such endpoint.", code="unknown_url")
        if status == 404:
            # Believed of this model alone: what is sent names no other.
            server.held -= {name}
            error = errors.unavailable(
                "No model server holds this model at the moment.", code="model_not_ready", retry_after=10
            )
        elif error.status < 500 and status != _CLIENT_CLOSED_REQUEST:
            raise error
        _logger.warning("ollama refused a request", extra=facts)
        raise _AttemptError(error, text, lost=False)


def _lost(problem: Exception, server: router.Server, call: upstream.Call) -> _AttemptError:
    why = str(problem) or type(problem).__name__
    _logger.warning(
        "connection to ollama failed",
        extra=log.facts(request_id=call.request_id, server=server.url, reason=why),
    )
    if isinstance(problem, aiohttp.ClientConnectorError | TimeoutError):
        error = errors.unavailable("The model server cannot be reached.", code="upstream_unavailable")
    else:
        error = errors.unavailable("The model server went away.", code="upstream_disconnected")
    return _AttemptError(error, why, lost=True)


def _broken(problem: str, call: upstream.Call) -> errors.ApiError:
    _logger.warning(
        "answer of ollama is broken",
        extra=log.facts(request_id=call.request_id, server=call.upstream, reason=problem),
    )
    return errors.upstream_failed(
        "The model server ended its answer before it was complete. Ollama does so when a model repeats "
        "itself without end.",
        code="incomplete_answer",
    )


def _socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """Open a socket that notices within half a minute when a node is gone without a word."""
    family, kind, protocol, _, _ = address
    opened = socket.socket(family, kind, protocol)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, option):
            opened.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    return opened
