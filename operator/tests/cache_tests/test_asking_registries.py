"""What registries may answer, byte by byte: what is made of it, and what is told of bad answers."""

import asyncio
import contextlib
import dataclasses
import json
import pathlib
from collections.abc import AsyncIterator

import aiohttp
import pytest

from modelset_cache import upstream

DIGEST = f"sha256:{'ab' * 32}"
ALICE = {"username": "alice", "password": "s3cret"}
Heard = tuple[str, dict[str, str]]


def said(status: str, body: bytes = b"", **headers: str) -> bytes:
    """Return an answer as it is sent; `_` stands for the - of a header's name."""
    lines = [f"HTTP/1.1 {status}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if not headers.keys() & {"Content_Length", "Transfer_Encoding"}:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


FOUND = said("200 OK", b"{}")


@dataclasses.dataclass
class Registry:
    """Sends these answers, one after the other, whatever is asked; `heard` are requests and their headers."""

    answers: list[bytes] = dataclasses.field(default_factory=list)
    heard: list[Heard] = dataclasses.field(default_factory=list)
    port: int = 0

    @property
    def place(self) -> upstream.Place:
        return upstream.Place(f"127.0.0.1:{self.port}", "library/m", "ollama/0.17")

    @property
    def asked(self) -> list[str]:
        """The requests, without what is the same in all."""
        return [line.removesuffix(" HTTP/1.1").replace("/v2/library/m/", "") for line, _ in self.heard]

    def challenge(self, realm: str = "") -> bytes:
        """Return a refusal that names where there are tokens: here, or anywhere else."""
        realm = realm or f"http://127.0.0.1:{self.port}/token"
        return said("401 Unauthorized", b"who?", WWW_Authenticate=f'Bearer realm="{realm}"')

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        self.heard.append((request, dict(line.split(": ", 1) for line in lines)))
        writer.write(self.answers.pop(0))
        writer.close()


@pytest.fixture
async def registry() -> AsyncIterator[Registry]:
    found = Registry()
    async with await asyncio.start_server(found.answer, "127.0.0.1", 0) as listening:
        found.port = listening.sockets[0].getsockname()[1]
        yield found


@dataclasses.dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def source(
    registry: Registry, clock: Clock, tmp_path: pathlib.Path
) -> AsyncIterator[upstream.Upstream]:
    """Ask over one connection at a time: what is not given back keeps the next one waiting."""
    connector = aiohttp.TCPConnector(limit=1)
    async with aiohttp.ClientSession(connector=connector) as session:
        config = tmp_path / "config.json"
        yield upstream.Upstream(session, [registry.place.host], config, clock)


def knows(tmp_path: pathlib.Path, registry: Registry, **entry: str) -> None:
    content = json.dumps({"auths": {registry.place.host: entry}})
    (tmp_path / "config.json").write_text(content)


async def manifest(source: upstream.Upstream, registry: Registry) -> upstream.Manifest:
    return await source.manifest(registry.place, "1", "application/x")


async def part(source: upstream.Upstream, registry: Registry, start: int, end: int) -> bytes:
    async with contextlib.aclosing(source.bytes(registry.place, DIGEST, start, end)) as pieces:
        return b"".join([piece async for piece in pieces])


async def test_a_registry_hears_who_pulls_what_is_understood_and_that_nothing_is_to_be_packed(
    source: upstream.Upstream, registry: Registry
) -> None:
    registry.answers = [FOUND]
    await manifest(source, registry)
    [(line, headers)] = registry.heard
    assert line == "GET /v2/library/m/manifests/1 HTTP/1.1"
    told = {name: headers.get(name) for name in ("User-Agent", "Accept", "Accept-Encoding", "Authorization")}
    assert told == {
        "User-Agent": "ollama/0.17",
        "Accept": "application/x",
        "Accept-Encoding": "identity",
        "Authorization": None,
    }


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (FOUND, upstream.Manifest(b"{}", "application/json", "")),
        (
            said("200 OK", b"{}", Content_Type="a/b", Docker_Content_Digest=DIGEST),
            upstream.Manifest(b"{}", "a/b", DIGEST),
        ),
        (said("200 OK", b"1234567890"), upstream.Manifest(b"1234567890", "application/json", "")),
    ],
)
async def test_a_manifest_is_what_the_registry_sends_of_the_type_that_it_says(
    source: upstream.Upstream,
    registry: Registry,
    answer: bytes,
    found: upstream.Manifest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(upstream, "MOST_SMALL_BYTES", 10)
    registry.answers = [answer]
    assert await manifest(source, registry) == found


@pytest.mark.parametrize(
    ("answer", "status", "told"),
    [
        (said("404 Not Found"), 404, "HOST has no library/m manifests/1"),
        (
            said("403 Forbidden"),
            403,
            "HOST refuses access to library/m (403): is it in the Secret that"
            " spec.registry.credentialsSecret names?",
        ),
        (
            said("401 Unauthorized"),
            403,
            "HOST refuses access to library/m (401): is it in the Secret that"
            " spec.registry.credentialsSecret names?",
        ),
        (said("429 Too Many Requests"), 502, "HOST answers 429 for library/m"),
        (said("200 OK", b"{", Content_Length="2"), 502, "HOST broke off: "),
        (said("200 OK", b"12345678901"), 502, "HOST answers with more than 10 bytes"),
        (b"", 502, "HOST does not answer: Server disconnected"),
    ],
)
async def test_one_that_does_not_give_a_manifest_is_named_with_what_it_did(
    source: upstream.Upstream,
    registry: Registry,
    answer: bytes,
    status: int,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(upstream, "MOST_SMALL_BYTES", 10)
    registry.answers = [answer, answer]
    with pytest.raises(upstream.UpstreamError) as caught:
        await manifest(source, registry)
    assert caught.value.status == status
    assert str(caught.value).startswith(told.replace("HOST", registry.place.host))


async def test_a_registry_that_sends_on_and_on_is_left(source: upstream.Upstream, registry: Registry) -> None:
    on = said("307 Temporary Redirect", Location="/v2/on")
    registry.answers = [*[on] * upstream.MOST_REDIRECTS, FOUND]
    with pytest.raises(upstream.UpstreamError, match="does not answer"):
        await manifest(source, registry)


async def test_something_small_is_not_waited_for_longer_than_it_may_take(
    source: upstream.Upstream, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream, "SMALL_SECONDS", 0.0)
    registry.answers = [FOUND]
    with pytest.raises(upstream.UpstreamError, match=r"127\.0\.0\.1:[0-9]+ took more than 0 s"):
        await manifest(source, registry)


async def test_a_blob_has_the_size_that_the_registry_says(
    source: upstream.Upstream, registry: Registry
) -> None:
    registry.answers = [said("200 OK", Content_Length="123"), said("200 OK", Transfer_Encoding="chunked")]
    assert await source.size(registry.place, DIGEST) == 123
    with pytest.raises(upstream.UpstreamError, match=f"does not say how large {DIGEST} is"):
        await source.size(registry.place, DIGEST)
    assert registry.asked == [f"HEAD blobs/{DIGEST}"] * 2


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (said("206 Partial Content", b"cdef", Content_Range="bytes 2-5/10"), b"cdef"),
        (said("206 Partial Content", b"abcdefgh", Content_Range="bytes 0-7/10"), b"cdef"),
        (said("206 Partial Content", b"bcdef", Content_Range="bytes 1-5/10"), b"cdef"),
        (said("200 OK", b"abcdefghij"), b"cdef"),
        (said("206 Partial Content", b"cdef"), "sends another part than was asked for"),
        (
            said("206 Partial Content", b"def", Content_Range="bytes 3-5/10"),
            "sends another part than was asked for",
        ),
        (said("206 Partial Content", b"cd", Content_Range="bytes 2-3/10"), "ended 2 bytes too soon"),
        (said("200 OK", b"a"), "ended 4 bytes too soon"),
        (
            said("206 Partial Content", b"c", Content_Range="bytes 2-5/10", Content_Length="4"),
            "broke off: ",
        ),
    ],
)
async def test_of_a_blob_comes_what_was_asked_for_and_nothing_else(
    source: upstream.Upstream,
    registry: Registry,
    answer: bytes,
    found: bytes | str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(upstream, "PIECE_BYTES", 1)
    registry.answers = [answer]
    if isinstance(found, bytes):
        assert await part(source, registry, 2, 6) == found
    else:
        with pytest.raises(upstream.UpstreamError, match=f"{registry.place.host} {found}"):
            await part(source, registry, 2, 6)
    [(line, headers)] = registry.heard
    assert (line, headers["Range"]) == (f"GET /v2/library/m/blobs/{DIGEST} HTTP/1.1", "bytes=2-5")


async def test_a_blob_that_is_not_read_to_its_end_keeps_no_connection(
    source: upstream.Upstream, registry: Registry
) -> None:
    registry.answers = [said("200 OK", bytes(10**6)), FOUND]
    assert await part(source, registry, 0, 1) == b"\0"
    assert (await manifest(source, registry)).body == b"{}"


@pytest.mark.parametrize(
    ("told", "authorization"),
    [
        (b'{"token": "a"}', "Bearer a"),
        (b'{"access_token": "b"}', "Bearer b"),
        (b'{"token": "a", "access_token": "b"}', "Bearer a"),
    ],
)
async def test_a_token_is_had_where_the_registry_says_for_pulling_from_one_repository(
    source: upstream.Upstream, registry: Registry, tmp_path: pathlib.Path, told: bytes, authorization: str
) -> None:
    registry.answers = [registry.challenge(), said("200 OK", told), FOUND]
    assert (await manifest(source, registry)).body == b"{}"
    # A registry may let everybody in who asks for a token.
    assert registry.asked == [
        "GET manifests/1",
        "GET /token?scope=repository:library/m:pull",
        "GET manifests/1",
    ]
    assert [headers.get("Authorization") for _, headers in registry.heard] == [None, None, authorization]


@pytest.mark.parametrize(
    ("told", "after", "again"),
    [
        (b'{"token": "a", "expires_in": 300}', 289.0, False),
        (b'{"token": "a", "expires_in": 300}', 291.0, True),
        (b'{"token": "a"}', 49.0, False),
        (b'{"token": "a"}', 51.0, True),
    ],
)
async def test_a_token_is_used_until_shortly_before_its_end(
    source: upstream.Upstream, registry: Registry, clock: Clock, told: bytes, after: float, again: bool
) -> None:
    registry.answers = [registry.challenge(), said("200 OK", told), FOUND, FOUND]
    await manifest(source, registry)
    clock.now += after
    await manifest(source, registry)
    assert ("Authorization" not in registry.heard[-1][1]) == again


async def test_a_name_and_a_password_are_said_at_once_for_a_while(
    source: upstream.Upstream, registry: Registry, clock: Clock, tmp_path: pathlib.Path
) -> None:
    knows(tmp_path, registry, **ALICE)
    asks = said("401 Unauthorized", WWW_Authenticate="Basic")
    registry.answers = [asks, FOUND, FOUND, FOUND]
    await manifest(source, registry)
    clock.now += upstream.TOKEN_SECONDS - 1
    await manifest(source, registry)
    clock.now += 2
    await manifest(source, registry)
    told = [headers.get("Authorization") for _, headers in registry.heard]
    assert told == [None, "Basic YWxpY2U6czNjcmV0", "Basic YWxpY2U6czNjcmV0", None]


@pytest.mark.parametrize("scheme", ["Basic", "Negotiate", 'Basic realm="http://x/"', "Bearer"])
async def test_who_has_nothing_to_say_is_refused_at_once(
    source: upstream.Upstream, registry: Registry, scheme: str
) -> None:
    registry.answers = [said("401 Unauthorized", WWW_Authenticate=scheme)]
    with pytest.raises(upstream.UpstreamError, match=r"refuses access to library/m \(401\)"):
        await manifest(source, registry)


async def test_a_password_is_for_no_other_way_of_saying_who_one_is(
    source: upstream.Upstream, registry: Registry, tmp_path: pathlib.Path
) -> None:
    knows(tmp_path, registry, **ALICE)
    registry.answers = [said("401 Unauthorized", WWW_Authenticate="Negotiate")]
    with pytest.raises(upstream.UpstreamError, match=r"refuses access to library/m \(401\)"):
        await manifest(source, registry)


async def test_a_registry_that_refuses_its_own_token_is_asked_for_one_once(
    source: upstream.Upstream, registry: Registry
) -> None:
    registry.answers = [registry.challenge(), said("200 OK", b'{"token": "a"}'), registry.challenge()]
    with pytest.raises(upstream.UpstreamError, match=r"refuses access to library/m \(401\)"):
        await manifest(source, registry)
    assert len(registry.heard) == 3


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (said("200 OK", b"no JSON"), "gives no token that could be read"),
        (said("200 OK", b"[]"), "gives no token that could be read"),
        (said("200 OK", b"{}"), "gives no token that could be read"),
        (said("200 OK", b'{"token": "a", "expires_in": [1]}'), "gives no token that could be read"),
        (said("200 OK", b'{"token": "a", "expires_in": "soon"}'), "gives no token that could be read"),
        (b"", "gives no token: Server disconnected"),
        (said("200 OK", b"{", Content_Length="2"), "broke off: "),
        (said("404 Not Found"), "has no library/m token"),
        (said("403 Forbidden"), r"refuses access to library/m \(403\)"),
        (said("500 Internal Server Error"), "answers 500 for library/m"),
    ],
)
async def test_one_that_gives_no_token_is_named_with_what_it_did(
    source: upstream.Upstream, registry: Registry, answer: bytes, told: str
) -> None:
    registry.answers = [registry.challenge(), answer]
    with pytest.raises(upstream.UpstreamError, match=f"{registry.place.host} {told}"):
        await manifest(source, registry)


async def test_a_password_follows_nobody_who_sends_on(
    source: upstream.Upstream, registry: Registry, tmp_path: pathlib.Path
) -> None:
    knows(tmp_path, registry, **ALICE)
    registry.answers = [registry.challenge(), said("307 Temporary Redirect", Location="/token2"), FOUND]
    with pytest.raises(upstream.UpstreamError):
        await manifest(source, registry)
    assert [headers.get("Authorization") for _, headers in registry.heard] == [None, "Basic YWxpY2U6czNjcmV0"]


@pytest.mark.parametrize(
    ("realm", "told"),
    [
        ("ftp://auth.example/token", "which is no place for a password"),
        ("auth.example/token", "which is no place for a password"),
        ("https://127.0.0.1:9/token", "gives no token: Cannot connect"),
    ],
)
async def test_a_password_goes_the_way_of_the_registry_or_a_safer_one(
    source: upstream.Upstream, registry: Registry, realm: str, told: str
) -> None:
    registry.answers = [registry.challenge(realm)]
    with pytest.raises(upstream.UpstreamError, match=told):
        await manifest(source, registry)


async def test_the_way_out_is_the_environments_to_say(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", f"http://{registry.place.host}")
    registry.answers = [FOUND]
    async with upstream.client() as session:
        source = upstream.Upstream(session, ["Models.Example"])
        await source.manifest(upstream.Place("models.example", "m"), "1", "*/*")
    assert registry.asked == ["GET http://models.example/v2/m/manifests/1"]
