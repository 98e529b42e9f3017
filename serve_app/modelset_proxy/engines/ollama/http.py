"""HTTP with one Ollama server: what is asked, and what its statuses and broken connections mean."""

import logging
import socket
from collections.abc import AsyncGenerator
from typing import NoReturn

import aiohttp
import msgspec

from modelset_proxy.engines import port
from modelset_proxy.engines.ollama import answers, decoders
from modelset_proxy.openai import errors
from modelset_proxy.telemetry import log

_logger = logging.getLogger(__name__)
# No limit on the whole: loading a model takes minutes and an answer as long as it is.
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=3)
_SHOW_TIMEOUT = aiohttp.ClientTimeout(total=10, sock_connect=3)
_LOOK_TIMEOUT = aiohttp.ClientTimeout(total=5, sock_connect=2)
_CLIENT_CLOSED_REQUEST = 499
_NO_ROUTE = "404 page not found"
_ERROR_BYTES = 64 * 1024
_JSON = {"content-type": "application/json"}


class PullFailedError(Exception):
    """A model could not be pulled; the message says why, in Ollama's words where it has any."""


class Question(msgspec.Struct, frozen=True):
    """What is asked: ``param`` and ``schema`` are the fields of OpenAI's request that hold the prompt and
    what the answer is to follow, for errors; an answer that is not ``streams`` is read whole before any of
    it is handed on.
    """

    path: str
    body: bytes
    param: str
    streams: bool
    content_type: str = "application/json"
    schema: str = "response_format"


class Http:
    """Connections to servers. Nothing may be asked before ``start``."""

    _session: aiohttp.ClientSession

    async def start(self) -> None:
        """Open the session; connections belong to the event loop this runs in."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30, socket_factory=_socket),
            timeout=_TIMEOUT,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("accept", "accept-encoding", "user-agent"),
            auto_decompress=False,
            read_bufsize=256 * 1024,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def ask(
        self,
        url: str,
        question: Question,
        decoder: decoders.Decoder[decoders.Decoded_co],
        attempt: port.Attempt,
    ) -> AsyncGenerator[decoders.Decoded_co, None]:
        """Yield what the decoder makes of the answer, see ``port.Job``.

        One generator from the connection to the dispatcher: each more costs every token.
        """
        headers = {"content-type": question.content_type}
        try:
            # A server that sends elsewhere is no Ollama, and must not be followed with what clients wrote.
            response = await self._session.post(
                f"{url}{question.path}", data=question.body, headers=headers, allow_redirects=False
            )
            async with _Whole(response):
                if response.status != 200:
                    text = answers.error_text(await response.content.read(_ERROR_BYTES))
                    _refuse(url, response.status, text, question)
                # Both return nothing at the end.
                read = response.content.readany if question.streams else response.content.read
                while data := await read():
                    for decoded in decoder.feed(data):
                        yield decoded
        except (aiohttp.ClientError, TimeoutError) as problem:
            raise _lost(problem, url, attempt) from None
        for decoded in decoder.end():
            yield decoded

    async def lists(self, url: str) -> tuple[answers.Tags, answers.Processes]:
        """Ask what is on disk and what is in memory; raises UnreachableError."""
        try:
            async with (
                self._session.get(f"{url}/api/tags", timeout=_LOOK_TIMEOUT) as tags,
                self._session.get(f"{url}/api/ps", timeout=_LOOK_TIMEOUT) as processes,
            ):
                tags.raise_for_status()
                processes.raise_for_status()
                return (
                    msgspec.json.decode(await tags.read(), type=answers.Tags),
                    msgspec.json.decode(await processes.read(), type=answers.Processes),
                )
        except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError, UnicodeDecodeError) as problem:
            raise port.UnreachableError(_why(problem)) from None

    async def touch(self, url: str, path: str, body: bytes) -> bool:
        """Ask for something that has no answer worth reading; tell whether it was done."""
        try:
            async with self._session.post(
                f"{url}{path}", data=body, headers=_JSON, allow_redirects=False
            ) as response:
                text = answers.error_text(await response.content.read(_ERROR_BYTES))
        except (aiohttp.ClientError, TimeoutError) as problem:
            text = _why(problem)
        else:
            if response.status == 200:
                return True
        _logger.warning(
            "ollama did not do as asked", extra=log.facts(server=url, path=path, reason=text[:300])
        )
        return False

    async def capabilities(self, url: str, name: str) -> frozenset[str] | None:
        """Ask what a model can do; None when the server does not tell."""
        try:
            async with self._session.post(
                f"{url}/api/show", data=msgspec.json.encode({"model": name}), timeout=_SHOW_TIMEOUT
            ) as response:
                if response.status != 200:
                    return None
                shown = msgspec.json.decode(await response.read(), type=answers.Show)
        except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError, UnicodeDecodeError):
            return None
        return frozenset(shown.capabilities)

    async def pull(self, url: str, name: str, *, insecure: bool) -> AsyncGenerator[answers.Progress, None]:
        """Pull a model, ``insecure``ly over plain HTTP; yield its progress. Raises PullFailedError."""
        lines = answers.Lines()
        try:
            body = msgspec.json.encode({"model": name, "insecure": insecure})
            async with self._session.post(f"{url}/api/pull", data=body) as response:
                if response.status != 200:
                    raise PullFailedError(answers.error_text(await response.content.read(_ERROR_BYTES)))
                while data := await response.content.readany():
                    for line in lines.feed(data):
                        yield msgspec.json.decode(line, type=answers.Progress)
        except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError, UnicodeDecodeError) as problem:
            raise PullFailedError(_why(problem)) from None


class _Whole:
    """Closes the connection of an answer that was not read to its end: Ollama stops working when it goes."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, *_: object) -> None:
        if not self._response.content.at_eof():
            self._response.close()


def _refuse(url: str, status: int, text: str, question: Question) -> NoReturn:
    """Raise what a status but 200 means: the client's mistake, or a reason to ask another server."""
    if status == 404 and text.startswith(_NO_ROUTE):
        raise errors.ApiError(404, "The model server has no such endpoint.", code="unknown_url")
    error = answers.error(status, text, param=question.param, schema=question.schema)
    absent = status == 404
    if absent:
        error = errors.model_not_ready()
    elif not error.may_retry or (error.status < 500 and status != _CLIENT_CLOSED_REQUEST):
        raise error
    _logger.warning("ollama refused a request", extra=log.facts(server=url, status=status, reason=text[:300]))
    raise port.ServerFailure(error, text, absent=absent)


def _lost(problem: Exception, url: str, attempt: port.Attempt) -> port.ServerFailure:
    why = _why(problem)
    _logger.warning(
        "connection to ollama failed", extra=log.facts(request_id=attempt.request_id, server=url, reason=why)
    )
    if isinstance(problem, aiohttp.ClientConnectorError | TimeoutError):
        error = errors.unavailable("The model server cannot be reached.", code="upstream_unavailable")
    else:
        error = errors.unavailable("The model server went away.", code="upstream_disconnected")
    return port.ServerFailure(error, why, lost=True)


def _why(problem: Exception) -> str:
    return str(problem) or type(problem).__name__


def _socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """Open a socket that notices within half a minute when a node is gone without a word."""
    family, kind, protocol, _, _ = address
    opened = socket.socket(family, kind, protocol)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, option):
            opened.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    return opened
