"""What statuses and broken connections of one Ollama mean."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest

from modelset_proxy.engines import asking, decoders, port
from modelset_proxy.engines.ollama import engine, http
from modelset_proxy.openai import errors
from serve_app.tests import fake_ollama

_QUESTION = asking.Question("/api/chat", b"{}", "messages", streams=True)
_ATTEMPT = port.Attempt("req_1", "")


@contextlib.asynccontextmanager
async def _answering(reply: bytes) -> AsyncIterator[tuple[http.Http, str, list[bytes]]]:
    """Yield connections, the URL of a server that says this to whatever it is asked, and what was asked."""
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0])
        writer.write(reply)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    connections = http.Http()
    await connections.start()
    try:
        yield connections, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked
    finally:
        await connections.close()
        server.close()
        await server.wait_closed()


def _reply(status: str, body: bytes = b"", *headers: str) -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers, "", ""]
    return "\r\n".join(head).encode() + body


async def _ask(reply: bytes) -> list[bytes]:
    async with _answering(reply) as (connections, url, _):
        return [data async for data in connections.ask(url, _QUESTION, decoders.Raw(), _ATTEMPT)]


@pytest.mark.parametrize(
    ("reply", "status", "code", "lost", "absent"),
    [
        (_reply("500 Oops", b'{"error": "out of memory"}'), 502, "upstream_error", False, False),
        (_reply("503 Busy", b'{"error": "busy"}'), 503, "server_overloaded", False, False),
        (_reply("404 Not Found", b'{"error": "model not found"}'), 503, "model_not_ready", False, True),
        (b"\x00\x01 this is no HTTP\r\n\r\n", 503, "upstream_disconnected", True, False),
        (b"", 503, "upstream_disconnected", True, False),
        (
            _reply("200 OK", b"cut").replace(b"Length: 3", b"Length: 9"),
            503,
            "upstream_disconnected",
            True,
            False,
        ),
    ],
    ids=["failed", "busy", "absent", "no-http", "closed", "cut"],
)
async def test_what_another_server_may_do_better(
    reply: bytes, status: int, code: str, lost: bool, absent: bool
) -> None:
    with pytest.raises(port.ServerFailure) as failure:
        await _ask(reply)
    assert (failure.value.error.status, failure.value.error.code) == (status, code)
    assert (failure.value.lost, failure.value.absent) == (lost, absent)


@pytest.mark.parametrize(
    ("reply", "status", "may_retry"),
    [
        (_reply("400 Bad Request", b'{"error": "this is wrong"}'), 400, True),
        (_reply("404 Not Found", b"404 page not found"), 404, True),
        (_reply("500 Oops", b'{"error": "llama runner process has terminated: exit status 2"}'), 502, False),
        (_reply("500 Oops", b'{"error": "model runner has unexpectedly stopped"}'), 502, False),
    ],
    ids=["mistake", "no-such-route", "runner-terminated", "runner-stopped"],
)
async def test_what_no_server_will_do_better(reply: bytes, status: int, may_retry: bool) -> None:
    with pytest.raises(errors.ApiError) as refusal:
        await _ask(reply)
    assert (refusal.value.status, refusal.value.may_retry) == (status, may_retry)


async def test_what_clients_wrote_is_sent_nowhere_else() -> None:
    async with _answering(_reply("307 Elsewhere", b"", "Location: /elsewhere")) as (connections, url, asked):
        with pytest.raises(port.ServerFailure):
            [_ async for _ in connections.ask(url, _QUESTION, decoders.Raw(), _ATTEMPT)]
        assert asked == [b"POST /api/chat HTTP/1.1"]


@pytest.mark.parametrize(
    "reply",
    [_reply("500 Oops"), _reply("200 OK", b"[]"), _reply("200 OK", b'{"models": [{"name": "\xff"}]}'), b""],
    ids=["failed", "no-list", "no-utf-8", "closed"],
)
@pytest.mark.parametrize("ask", [http.Http.tags, http.Http.processes], ids=["tags", "processes"])
async def test_a_server_that_does_not_tell_what_it_has_is_not_reached(
    reply: bytes, ask: Callable[[http.Http, str], Awaitable[object]]
) -> None:
    async with _answering(reply) as (connections, url, _):
        with pytest.raises(port.UnreachableError):
            await ask(connections, url)


@pytest.mark.parametrize(
    ("reply", "done"),
    [(_reply("200 OK", b"{}"), True), (_reply("500 Oops", b'{"error": "no"}'), False), (b"", False)],
    ids=["done", "refused", "closed"],
)
async def test_a_load_is_done_or_not(reply: bytes, done: bool) -> None:
    async with _answering(reply) as (connections, url, _):
        assert await connections.touch(url, "/api/generate", b"{}") is done


@pytest.mark.parametrize(
    ("reply", "capabilities"),
    [
        (_reply("200 OK", b'{"capabilities": ["completion", "tools"]}'), {"completion", "tools"}),
        (_reply("200 OK", b"{}"), set()),
        (_reply("404 Not Found", b'{"capabilities": ["completion"]}'), None),
        (_reply("200 OK", b"[]"), None),
        (_reply("200 OK", b'{"modelfile": "\xff"}'), None),
        (b"", None),
    ],
    ids=["some", "none", "absent", "no-object", "no-utf-8", "closed"],
)
async def test_a_server_tells_what_a_model_can_do_or_nothing(
    reply: bytes, capabilities: set[str] | None
) -> None:
    async with _answering(reply) as (connections, url, asked):
        assert await connections.capabilities(url, "m:1") == capabilities
        assert asked == [b"POST /api/show HTTP/1.1"]


async def test_a_model_is_asked_for_by_name() -> None:
    fake = fake_ollama.FakeOllama({"m:1": ["completion"]})
    fake.pullable = {"m:2": ["completion"]}
    connections = http.Http()
    await connections.start()
    async with fake_ollama.running(fake):
        assert await connections.capabilities(fake.url, "m:1") == {"completion"}
        for insecure in (False, True):
            told = [line async for line in connections.pull(fake.url, "m:2", insecure=insecure)]
            assert [(line.status, line.digest, line.completed, line.total) for line in told] == [
                ("pulling manifest", "", 0, 0),
                ("pulling abc", "sha256:abc", 4, 10),
                ("pulling abc", "sha256:abc", 10, 10),
                ("success", "", 0, 0),
            ]
    await connections.close()
    assert fake.sent("/api/show") == [{"model": "m:1"}]
    assert fake.sent("/api/pull") == [{"model": "m:2", "insecure": insecure} for insecure in (False, True)]


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (_reply("500 Oops", b'{"error": "no space left"}'), "^no space left$"),
        (_reply("502 Bad Gateway", b"<html>"), "^<html>$"),
        (_reply("200 OK", b"<html>\n"), "malformed"),
        (_reply("200 OK", b'{"status": "\xff"}\n'), "utf-8"),
        (b"", "disconnected"),
    ],
    ids=["refused", "no-ollama", "no-json", "no-utf-8", "closed"],
)
async def test_a_pull_that_fails_says_why(reply: bytes, why: str) -> None:
    async with _answering(reply) as (connections, url, _):
        with pytest.raises(http.PullFailedError, match=why):
            [_ async for _ in connections.pull(url, "m:1", insecure=False)]


async def test_what_a_model_can_do_is_told_by_whoever_holds_it() -> None:
    server = fake_ollama.FakeOllama({"base:1": ["completion", "tools"]})
    ollama = engine.Ollama()
    await ollama.start()
    async with fake_ollama.running(server):
        found = [await ollama.capabilities(server.url, name) for name in ("base:1", "gone:1")]
    await ollama.close()
    assert found == [{"completion", "tools"}, None]


async def test_a_server_that_says_nothing_of_a_model_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http, "_SHOW_TIMEOUT", aiohttp.ClientTimeout(total=0.02))
    connections = http.Http()
    await connections.start()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with asyncio.timeout(5):
            with pytest.raises(port.UnreachableError, match="TimeoutError"):
                await connections.show(f"http://127.0.0.1:{silent.getsockname()[1]}", "m:1")
    await connections.close()
