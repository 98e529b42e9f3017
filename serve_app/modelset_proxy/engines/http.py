"""HTTP with one model server: what is asked, and what broken connections mean."""

import logging
import socket
from collections.abc import AsyncGenerator, Callable
from typing import TypeVar

import aiohttp
import msgspec

from modelset_proxy.engines import asking, decoders, port, refusals
from modelset_proxy.openai import errors
from modelset_proxy.telemetry import log

_logger = logging.getLogger(__name__)
# No limit on the whole: loading a model takes minutes and an answer as long as it is.
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=3)
_LOOK_TIMEOUT = aiohttp.ClientTimeout(total=5, sock_connect=2)
_ERROR_BYTES = 64 * 1024
_JSON = {"content-type": "application/json"}

Answer = TypeVar("Answer")


class Connections:
    """Connections to the servers of an engine. Nothing may be asked before ``start``.

    ``judge`` tells what a status but 200 means, from the status, the beginning of its body, and the question.
    """

    def __init__(self, judge: Callable[[int, bytes, asking.Question], refusals.Refusal]) -> None:
        self._judge = judge
        self.session: aiohttp.ClientSession

    async def start(self) -> None:
        """Open the session; connections belong to the event loop this runs in."""
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30, socket_factory=_socket),
            timeout=_TIMEOUT,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("accept", "accept-encoding", "user-agent"),
            auto_decompress=False,
            read_bufsize=256 * 1024,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self.session.close()

    async def ask(
        self,
        url: str,
        question: asking.Question,
        decoder: decoders.Decoder[decoders.Decoded_co],
        attempt: port.Attempt,
    ) -> AsyncGenerator[decoders.Decoded_co, None]:
        """Yield what the decoder makes of the answer, see ``port.Job``.

        One generator from the connection to the dispatcher: each more costs every token.
        """
        headers = {"content-type": question.content_type}
        try:
            # A server that sends elsewhere is no model server, and must not be followed with what clients
            # wrote.
            response = await self.session.post(
                f"{url}{question.path}", data=question.body, headers=headers, allow_redirects=False
            )
            async with _Whole(response):
                if response.status != 200:
                    body = await response.content.read(_ERROR_BYTES)
                    raise _refused(url, response.status, self._judge(response.status, body, question))
                # Both return nothing at the end.
                read = response.content.readany if question.streams else response.content.read
                while data := await read():
                    for decoded in decoder.feed(data):
                        yield decoded
        except (aiohttp.ClientError, TimeoutError) as problem:
            raise _lost(problem, url, attempt) from None
        for decoded in decoder.end():
            yield decoded

    async def look(self, url: str, path: str, answer: type[Answer]) -> Answer:
        """Ask for a list; raises UnreachableError."""
        try:
            async with self.session.get(f"{url}{path}", timeout=_LOOK_TIMEOUT) as response:
                response.raise_for_status()
                return msgspec.json.decode(await response.read(), type=answer)
        except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError, UnicodeDecodeError) as problem:
            raise port.UnreachableError(why(problem)) from None

    async def touch(self, url: str, path: str, body: bytes) -> bool:
        """Ask for something that has no answer worth reading; tell whether it was done."""
        try:
            async with self.session.post(
                f"{url}{path}", data=body, headers=_JSON, allow_redirects=False
            ) as response:
                said = await response.content.read(_ERROR_BYTES)
                if response.status == 200:
                    return True
                reason = said.decode("utf-8", "replace")
        except (aiohttp.ClientError, TimeoutError) as problem:
            reason = why(problem)
        _logger.warning(
            "model server did not do as asked", extra=log.facts(server=url, path=path, reason=reason[:300])
        )
        return False


class _Whole:
    """Closes the connection of an answer that was not read to its end: servers stop working when it goes."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, *_: object) -> None:
        if not self._response.content.at_eof():
            self._response.close()


def why(problem: Exception) -> str:
    """Return what there is to say of a failed connection."""
    return str(problem) or type(problem).__name__


def _refused(url: str, status: int, refusal: refusals.Refusal) -> Exception:
    """Return what a status but 200 means: the client's mistake, or a reason to ask another server."""
    if refusal.final:
        return refusal.error
    _logger.warning(
        "model server refused a request",
        extra=log.facts(server=url, status=status, reason=refusal.why[:300]),
    )
    return port.ServerFailure(refusal.error, refusal.why, absent=refusal.absent)


def _lost(problem: Exception, url: str, attempt: port.Attempt) -> port.ServerFailure:
    reason = why(problem)
    _logger.warning(
        "connection to a model server failed",
        extra=log.facts(request_id=attempt.request_id, server=url, reason=reason),
    )
    if isinstance(problem, aiohttp.ClientConnectorError | TimeoutError):
        error = errors.unavailable("The model server cannot be reached.", code="upstream_unavailable")
    else:
        error = errors.unavailable("The model server went away.", code="upstream_disconnected")
    return port.ServerFailure(error, reason, lost=True)


def _socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """Open a socket that notices within half a minute when a node is gone without a word."""
    family, kind, protocol, _, _ = address
    opened = socket.socket(family, kind, protocol)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, option):
            opened.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    return opened
