"""The registries outside, asked as whoever the credentials say the set is."""

import asyncio
import contextlib
import dataclasses
import json
import logging
import pathlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping

import aiohttp

from modelset_cache import challenges, credentials, ranges

log = logging.getLogger(__name__)

CONNECT_SECONDS = 10.0
# A registry that says nothing for so long is asked again.
SILENT_SECONDS = 30.0
# A manifest, or a token, in all.
SMALL_SECONDS = 30.0
MOST_SMALL_BYTES = 4 * 1024 * 1024
PIECE_BYTES = 256 * 1024
MOST_REDIRECTS = 5
# Tokens that do not say for how long they are good: so long (distribution's token specification).
TOKEN_SECONDS = 60.0
# Before a token ends, another one is asked for.
_TOKEN_SPARE_SECONDS = 10.0
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _PARTIAL = 401, 403, 404, 206
# What is not said of a model, but of the way to it, and so may pass.
BAD_GATEWAY = 502


def client() -> aiohttp.ClientSession:
    """Return what registries are asked with. The way out is the environment's to say (HTTPS_PROXY)."""
    # What registries send on to is signed as it is written.
    return aiohttp.ClientSession(trust_env=True, requote_redirect_url=False)


class UpstreamError(Exception):
    """A registry did not give what was asked for; the message names it, and has no credentials in it.

    `status` is what to tell who asked for it.
    """

    def __init__(self, message: str, status: int = BAD_GATEWAY) -> None:
        super().__init__(message)
        self.status = status


@dataclasses.dataclass(frozen=True)
class Place:
    """A repository in a registry, `host[:port]`; `agent` is who asks, as Ollama says it."""

    host: str
    repository: str
    agent: str = "modelset-cache"


@dataclasses.dataclass(frozen=True)
class Manifest:
    """A manifest, as the registry has it."""

    body: bytes
    content_type: str
    digest: str


@dataclasses.dataclass
class _Token:
    """The header Authorization for one repository, and until when it is good."""

    header: str
    until: float


class Upstream:
    """Asks registries. Those in `insecure` are asked over plain HTTP, all others over HTTPS.

    `config` is a `.dockerconfigjson` with what registries know us by, None for nobody.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        insecure: Collection[str] = (),
        config: pathlib.Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._session = session
        self._insecure = frozenset(host.lower() for host in insecure)
        self._config = config
        self._clock = clock
        self._tokens: dict[tuple[str, str], _Token] = {}

    async def manifest(self, place: Place, reference: str, accept: str) -> Manifest:
        """Return what a tag or a digest stands for now. Raises UpstreamError."""
        path = f"manifests/{reference}"
        async with self._whole(place), self._asked("GET", place, path, {"Accept": accept}) as answer:
            body = await _small(answer, place)
            return Manifest(
                body,
                answer.headers.get("Content-Type", "application/json"),
                answer.headers.get("Docker-Content-Digest", ""),
            )

    async def size(self, place: Place, digest: str) -> int:
        """Return how many bytes a blob has. Raises UpstreamError."""
        async with self._whole(place), self._asked("HEAD", place, f"blobs/{digest}", {}) as answer:
            if answer.content_length is None:
                raise UpstreamError(f"{place.host} does not say how large {digest} is")
            return answer.content_length

    async def bytes(self, place: Place, digest: str, start: int, end: int) -> AsyncGenerator[bytes, None]:
        """Yield a blob from a byte to before another one, in pieces. Raises UpstreamError, also amid them."""
        asked = {"Range": f"bytes={start}-{end - 1}"}
        left = end - start
        async with self._asked("GET", place, f"blobs/{digest}", asked) as answer:
            skip = _skipped(answer, place, start)
            try:
                async for piece in answer.content.iter_chunked(PIECE_BYTES):
                    skipped, skip = min(skip, len(piece)), max(0, skip - len(piece))
                    wanted = piece[skipped : skipped + left]
                    left -= len(wanted)
                    if wanted:
                        yield wanted
                    if not left:
                        return
            except (aiohttp.ClientError, TimeoutError) as error:
                raise UpstreamError(f"{place.host} broke off: {_words(error)}") from error
        raise UpstreamError(f"{place.host} ended {left} bytes too soon")

    @contextlib.asynccontextmanager
    async def _whole(self, place: Place) -> AsyncIterator[None]:
        """Bound something small in all: a server that sends a byte now and then would never be late."""
        try:
            async with asyncio.timeout(SMALL_SECONDS):
                yield
        except TimeoutError as error:
            raise UpstreamError(f"{place.host} took more than {SMALL_SECONDS:.0f} s") from error

    @contextlib.asynccontextmanager
    async def _asked(
        self, method: str, place: Place, path: str, headers: Mapping[str, str]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Ask, and once more where the registry wants to know who asks."""
        for again in (False, True):
            answer = await self._ask(method, place, path, headers)
            if answer.status == _UNAUTHORIZED and not again:
                challenge = challenges.parse(answer.headers.get("WWW-Authenticate", ""))
                answer.release()
                await self._answer_challenge(place, challenge)
                continue
            break
        try:
            if not answer.ok:
                raise _refused(place, answer.status, path)
            yield answer
        finally:
            # One that was not read to its end takes its connection with it.
            answer.release()

    async def _ask(
        self, method: str, place: Place, path: str, headers: Mapping[str, str]
    ) -> aiohttp.ClientResponse:
        known = self._authorization(place)
        sent = {"User-Agent": place.agent, "Accept-Encoding": "identity", **headers}
        if known:
            sent["Authorization"] = known
        try:
            # Authorization goes to no other host that the registry redirects to.
            return await self._session.request(
                method,
                f"{self._scheme(place.host)}://{place.host}/v2/{place.repository}/{path}",
                headers=sent,
                max_redirects=MOST_REDIRECTS,
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENT_SECONDS
                ),
            )
        except (aiohttp.ClientError, TimeoutError) as error:
            raise UpstreamError(f"{place.host} does not answer: {_words(error)}") from error

    def _scheme(self, host: str) -> str:
        return "http" if host.lower() in self._insecure else "https"

    def _authorization(self, place: Place) -> str:
        token = self._tokens.get((place.host, place.repository))
        if token is not None and token.until > self._clock():
            return token.header
        own = credentials.read(self._config, place.host)
        return f"Bearer {own.token}" if own.token else ""

    async def _answer_challenge(self, place: Place, challenge: challenges.Challenge) -> None:
        own = credentials.read(self._config, place.host)
        if challenge.scheme == "basic" and own.basic:
            self._tokens[place.host, place.repository] = _Token(own.basic, self._clock() + TOKEN_SECONDS)
        elif challenge.scheme == "bearer" and challenge.parameters.get("realm"):
            self._tokens[place.host, place.repository] = await self._token(place, challenge, own)
        else:
            raise _refused(place, _UNAUTHORIZED)

    async def _token(
        self, place: Place, challenge: challenges.Challenge, own: credentials.Credentials
    ) -> _Token:
        """Get a token where the registry says, for pulling from one repository."""
        realm = challenge.parameters["realm"]
        scheme = realm.partition("://")[0]
        if scheme not in ("https", self._scheme(place.host)):
            raise UpstreamError(f"{place.host} wants a token from {realm}, which is no place for a password")
        query = {"scope": f"repository:{place.repository}:pull"}
        if service := challenge.parameters.get("service"):
            query["service"] = service
        headers = {"Authorization": own.basic} if own.basic else {}
        try:
            async with (
                self._whole(place),
                self._session.get(realm, params=query, headers=headers, allow_redirects=False) as answer,
            ):
                if not answer.ok:
                    raise _refused(place, answer.status, "token")
                told = json.loads(await _small(answer, place))
                token = str(told.get("token") or told["access_token"])
                seconds = float(told.get("expires_in") or TOKEN_SECONDS)
        except aiohttp.ClientError as error:
            raise UpstreamError(f"{place.host} gives no token: {_words(error)}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UpstreamError(f"{place.host} gives no token that could be read") from error
        return _Token(f"Bearer {token}", self._clock() + seconds - _TOKEN_SPARE_SECONDS)


def _skipped(answer: aiohttp.ClientResponse, place: Place, start: int) -> int:
    """Return how many bytes come before the one that was asked for: all, where ranges are not known."""
    if answer.status != _PARTIAL:
        return start
    told = ranges.answered(answer.headers.get("Content-Range", ""))
    if told is None or told[0] > start:
        raise UpstreamError(f"{place.host} sends another part than was asked for")
    return start - told[0]


async def _small(answer: aiohttp.ClientResponse, place: Place) -> bytes:
    body = bytearray()
    try:
        async for piece in answer.content.iter_chunked(PIECE_BYTES):
            body += piece
            if len(body) > MOST_SMALL_BYTES:
                raise UpstreamError(f"{place.host} answers with more than {MOST_SMALL_BYTES} bytes")
    except aiohttp.ClientError as error:
        raise UpstreamError(f"{place.host} broke off: {_words(error)}") from error
    return bytes(body)


def _refused(place: Place, status: int, path: str = "") -> UpstreamError:
    if status == _NOT_FOUND:
        return UpstreamError(f"{place.host} has no {place.repository} {path}", status)
    if status in (_UNAUTHORIZED, _FORBIDDEN):
        # A 401 would have Ollama try to say who it is.
        return UpstreamError(
            f"{place.host} refuses access to {place.repository} ({status}): is it in the Secret that"
            " spec.registry.credentialsSecret names?",
            _FORBIDDEN,
        )
    return UpstreamError(f"{place.host} answers {status} for {place.repository}")


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
