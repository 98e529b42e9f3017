"""HTTP with one server, of any engine: what is sent, and what is made of what comes."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest

from modelset_proxy.engines import asking, decoders, http, port, refusals, relay
from modelset_proxy.openai import catalog, errors, passthrough

_QUESTION = asking.Question("/ask", b'{"a": 1}', "messages", streams=True, content_type="application/x-a")


class Server:
    """Answers whatever it is asked with ``reply``, each by itself, once ``gate`` is open."""

    def __init__(self, reply: bytes) -> None:
        self.reply = reply
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked: list[tuple[str, dict[str, str], bytes]] = []
        self.open = 0
        self.closed = asyncio.Event()
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                line, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
                headers = dict(one.lower().split(": ", 1) for one in lines)
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                self.asked.append((line, headers, body))
                await self.gate.wait()
                writer.write(self.reply)
        self.closed.set()
        writer.close()


def _reply(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    return (
        "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]).encode() + body
    )


def _judge(status: int, body: bytes, question: asking.Question) -> refusals.Refusal:
    told = f"{status} {len(body)} {question.path}"
    if status == 400:
        return refusals.Refusal(errors.invalid(told), told)
    return refusals.Refusal(errors.upstream_failed(told), told, absent=status == 404)


@contextlib.asynccontextmanager
async def _connected(server: Server) -> AsyncIterator[http.Connections]:
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    connections = http.Connections(_judge)
    await connections.start()
    try:
        yield connections
    finally:
        await connections.close()
        assert connections.session.closed
        listening.close()


async def _ask(connections: http.Connections, url: str) -> list[bytes]:
    attempt = port.Attempt("req_1", url)
    return [data async for data in connections.ask(url, _QUESTION, decoders.Raw(), attempt)]


async def test_a_question_is_sent_with_nothing_but_what_it_needs() -> None:
    server = Server(_reply(b"", "Set-Cookie: a=b"))
    async with _connected(server) as connections:
        # Addresses have no cookies in any case.
        url = server.url.replace("127.0.0.1", "localhost")
        for _ in range(2):
            assert await _ask(connections, url) == []
    for line, headers, body in server.asked:
        assert (line, body) == ("POST /ask HTTP/1.1", b'{"a": 1}')
        assert headers.pop("host")
        assert headers == {"content-type": "application/x-a", "content-length": "8"}
    assert server.open == 1


async def test_what_comes_compressed_is_not_touched() -> None:
    server = Server(_reply(b"\x1f\x8b", "Content-Encoding: gzip"))
    async with _connected(server) as connections:
        assert b"".join(await _ask(connections, server.url)) == b"\x1f\x8b"


async def test_more_than_a_hundred_may_be_asked_at_once() -> None:
    server = Server(_reply(b"a"))
    server.gate.clear()
    async with _connected(server) as connections:
        asked = [asyncio.create_task(_ask(connections, server.url)) for _ in range(101)]
        async with asyncio.timeout(5):
            while len(server.asked) < 101:  # noqa: ASYNC110 - the server has no word for it
                await asyncio.sleep(0.005)
        server.gate.set()
        assert await asyncio.gather(*asked) == [[b"a"]] * 101


class Failing:
    """A decoder that does not understand what comes."""

    def feed(self, _: bytes) -> Iterator[bytes]:
        raise errors.upstream_failed("no")

    def end(self) -> Iterator[bytes]:
        return iter(())


async def test_an_answer_that_is_not_read_to_its_end_is_cut_off() -> None:
    server = Server(_reply(b"abc").replace(b"Length: 3", b"Length: 9"))
    async with _connected(server) as connections:
        answer = connections.ask(server.url, _QUESTION, Failing(), port.Attempt("", ""))
        with pytest.raises(errors.ApiError):
            await anext(answer)
        async with asyncio.timeout(5):
            await server.closed.wait()


async def test_what_a_status_means_is_judged_by_a_beginning_of_its_body() -> None:
    async with _connected(server := Server(_reply(b"x" * 100_000, status="500 Oops"))) as connections:
        with pytest.raises(port.ServerFailure, match="500 65536 /ask") as failure:
            await _ask(connections, server.url)
        assert not failure.value.absent
        server.reply = _reply(b"x", status="404 No")
        with pytest.raises(port.ServerFailure, match="404 1 /ask") as failure:
            await _ask(connections, server.url)
        assert failure.value.absent
        server.reply = _reply(b"x", status="400 Bad")
        with pytest.raises(errors.ApiError, match="400 1 /ask"):
            await _ask(connections, server.url)


async def test_a_server_that_does_not_listen_cannot_be_reached(caplog: pytest.LogCaptureFixture) -> None:
    async with _connected(Server(b"")) as connections:
        with socket.socket() as reserved:
            reserved.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{reserved.getsockname()[1]}"
            with pytest.raises(port.ServerFailure, match="Cannot connect") as failure:
                await _ask(connections, url)
            assert not await connections.touch(url, "/do", b"{}")
            with pytest.raises(port.UnreachableError, match="Cannot connect"):
                await connections.look(url, "/list", dict)
    assert (failure.value.error.code, failure.value.lost) == ("upstream_unavailable", True)
    assert ["Cannot connect" in vars(record)["facts"]["reason"] for record in caplog.records] == [True] * 2


async def test_a_list_is_asked_for_and_read() -> None:
    server = Server(_reply(b'{"b": 2}'))
    async with _connected(server) as connections:
        assert await connections.look(server.url, "/list", dict[str, int]) == {"b": 2}
        server.reply = _reply(b'{"b": 2}', status="500 Oops")
        with pytest.raises(port.UnreachableError, match="500"):
            await connections.look(server.url, "/list", dict[str, int])
    assert server.asked[0][0] == "GET /list HTTP/1.1"


async def test_what_has_no_answer_worth_reading_is_done_or_told_why_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = Server(_reply(b"{}"))
    async with _connected(server) as connections:
        assert await connections.touch(server.url, "/do", b'{"c": 3}')
        assert caplog.records == []
        for status in ("307 Elsewhere", "500 Oops"):
            server.reply = _reply(b"\xff" + b"y" * 1000, "Location: /other", status=status)
            assert not await connections.touch(server.url, "/do", b"{}")
    line, headers, body = server.asked[0]
    assert (line, headers["content-type"], body) == ("POST /do HTTP/1.1", "application/json", b'{"c": 3}')
    assert [line for line, _, _ in server.asked] == ["POST /do HTTP/1.1"] * 3
    assert [vars(record)["facts"]["reason"] for record in caplog.records] == ["\ufffd" + "y" * 299] * 2


@pytest.mark.parametrize(
    ("problem", "told"), [(TimeoutError(), "TimeoutError"), (OSError("no route"), "no route")]
)
def test_there_is_something_to_say_of_any_failure(problem: Exception, told: str) -> None:
    assert http.why(problem) == told


async def test_a_node_that_is_gone_without_a_word_is_noticed() -> None:
    opened = http._socket((socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 1)))
    with opened:
        options = {name: getattr(socket, name) for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT")}
        idle, interval, count = (opened.getsockopt(socket.IPPROTO_TCP, one) for one in options.values())
        assert opened.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert idle + interval * count <= 30


async def test_all_connections_notice_when_a_node_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[socket.socket] = []
    genuine = http._socket

    def open_socket(address: aiohttp.AddrInfoType) -> socket.socket:
        opened.append(genuine(address))
        return opened[-1]

    monkeypatch.setattr(http, "_socket", open_socket)
    async with _connected(server := Server(_reply(b"a"))) as connections:
        await _ask(connections, server.url)
    assert len(opened) == 1


async def test_an_answer_may_take_for_ever_and_a_list_may_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_LOOK_TIMEOUT", aiohttp.ClientTimeout(total=0.02))
    server = Server(b"")
    server.gate.clear()
    async with _connected(server) as connections:
        assert connections.session.timeout.total is None
        async with asyncio.timeout(5):
            with pytest.raises(port.UnreachableError, match="TimeoutError"):
                await connections.look(server.url, "/list", dict)


async def test_what_is_relayed_keeps_its_kind_and_is_asked_for_under_the_servers_name() -> None:
    server = Server(_reply(b"ok"))
    form = b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nserved\r\n--x--\r\n'
    request = passthrough.form_request(b"multipart/form-data; boundary=x", form)
    model = catalog.Model(name="a:1", served_names=("served",), kind=catalog.CHAT)
    async with _connected(server) as connections:
        job = relay.Relay(connections, "/v1/audio/transcriptions", request, model)
        assert b"".join([data async for data in job.ask(server.url, 0, port.Attempt("", ""))]) == b"ok"
    [(line, headers, body)] = server.asked
    assert line == "POST /v1/audio/transcriptions HTTP/1.1"
    assert headers["content-type"].startswith("multipart/form-data; boundary=")
    assert b"a:1" in body
    assert b"served" not in body
    assert (job.streams, job.goes_on(port.Told(["a"])), job._question.param) == (False, False, "file")


def test_a_failure_says_why_and_nothing_else() -> None:
    error = errors.unavailable("The client is told something else.", code="upstream_error")
    assert str(port.ServerFailure(error, "the connection broke", lost=True)) == "the connection broke"
