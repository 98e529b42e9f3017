"""Whatever is sent to the port of the proxy on Ray Serve, the answer is OpenAI's error. No cluster.

The stub of the benchmarks is behind the proxy, so that ordinary chats take the same time each.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import socket
import statistics
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest

from benchmarks import contenders, folders, load_tool
from stack.step import say

CHAT = json.dumps(
    {"model": "paced", "max_tokens": 8, "messages": [{"role": "user", "content": "hi"}], "stream": True}
).encode()
SILENT, CHATS = 200, 40
# What a chat of some 150 ms takes more when the machine gives another program a turn.
ALLOWED_SECONDS = 0.05
# HAProxy waits 15 s for headers.
CLOSED_SECONDS = 20


@pytest.fixture(autouse=True)
def own_cluster() -> None:
    """In place of the fixtures that want a cluster."""


@pytest.fixture(autouse=True)
def steady() -> None:
    """As above."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The proxy as `make run` starts it, with ports of its own."""
    with folders.short() as folder, load_tool.stub(folder) as (stub, group):
        upstream = contenders.Upstream(stub, group, ("paced",), "embed")
        with contenders.CONTENDERS["Serve + HAProxy"](upstream, folder) as proxy:
            yield proxy.url


@dataclasses.dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


def connect(url: str, data: bytes) -> socket.socket:
    parts = urlsplit(url)
    connection = socket.create_connection((parts.hostname, parts.port), timeout=CLOSED_SECONDS)
    connection.sendall(data)
    return connection


def read(connection: socket.socket) -> bytes:
    """Return all that comes until the connection is closed."""
    with connection:
        return b"".join(iter(lambda: connection.recv(65536), b""))


def send(url: str, data: bytes) -> Answer:
    head, _, body = read(connect(url, data)).partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return Answer(int(first.split(" ")[1]), headers, body)


def get(path: str, *headers: str, method: str = "GET", version: str = "HTTP/1.1") -> bytes:
    lines = [f"{method} {path} {version}", "Host: x", "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode()


def post(body: bytes, *headers: str, version: str = "HTTP/1.1") -> bytes:
    lines = ["Content-Type: application/json", f"Content-Length: {len(body)}", *headers]
    return get("/v1/chat/completions", *lines, method="POST", version=version) + body


def chunked(body: bytes, coding: str = "chunked") -> bytes:
    return get("/v1/chat/completions", f"Transfer-Encoding: {coding}", method="POST") + body


ERRORS = {
    "a path that is none": (get("/v1/nothing"), 404, "unknown_url"),
    "a path without a slash": (get("v1/models"), 404, "unknown_url"),
    "no path": (get("?models"), 404, "unknown_url"),
    "another scheme": (get("foo:bar"), 404, "unknown_url"),
    "backslashes": (get("\\v1\\models"), 404, "unknown_url"),
    "the server as a whole": (get("*", method="OPTIONS"), 404, "unknown_url"),
    "two slashes": (get("//v1/models"), 404, "unknown_url"),
    "bytes that are no UTF-8": (get("/v1/models/%ff%00"), 404, "model_not_found"),
    "an unknown method": (get("/v1/models", method="FOO"), 405, "method_not_allowed"),
    "a method in small letters": (get("/v1/models", method="get"), 405, "method_not_allowed"),
    "another protocol's method": (get("/v1/models", method="PROPFIND"), 405, "method_not_allowed"),
    "a method that this path lacks": (get("/v1/models", method="DELETE"), 405, "method_not_allowed"),
    "a tunnel": (
        b"CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\nConnection: close\r\n\r\n",
        405,
        "method_not_allowed",
    ),
    "a WebSocket": (
        get(
            "/v1/models",
            "Connection: upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==",
        ),
        400,
        "unsupported_protocol",
    ),
    "a control character": (get("/v1/models", "x: \x01"), 400, "invalid_http"),
    "no JSON": (post(b"{"), 400, "invalid_json"),
    "no body": (post(b""), 400, "invalid_json"),
    "a length beside chunks": (
        chunked(b"1\r\n{\r\n0\r\n\r\n").replace(b"Host", b"Content-Length: 9\r\nHost"),
        400,
        "invalid_json",
    ),
}
# HAProxy sends these from a text of its own before it has a request; they have no id either.
BUILT_IN = {
    "a URL over 31 KB": (get("/v1/models?" + 40_000 * "a"), 400),
    "headers over 31 KB": (get("/v1/models", "x: " + 40_000 * "a"), 400),
    "more than 256 headers": (get("/v1/models", *(f"x{number}: 1" for number in range(300))), 400),
    "a path in raw UTF-8": (get("/v1/models/ü"), 400),
    "a fragment": (get("/v1/models#x"), 400),
    "spaces in the path": (get("/v1/models x"), 400),
    "another HTTP": (get("/v1/models", version="HTTP/3"), 400),
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    "two hosts": (get("/v1/models", "Host: y"), 400),
    "a header without a colon": (get("/v1/models", "x"), 400),
    "a length that is none": (get("/v1/models", "Content-Length: x"), 400),
    "two lengths": (post(b"{}", "Content-Length: 3"), 400),
    "a chunk without a size": (chunked(b"x\r\n{}\r\n"), 400),
    "another coding": (chunked(b"", "gzip"), 400),
    "another coding in chunks": (chunked(b"0\r\n\r\n", "gzip, chunked"), 422),
}
UNUSUAL = {
    "a URL of 20 KB": get("/v1/models?" + 20_000 * "a"),
    "headers of 20 KB": get("/v1/models", "x: " + 20_000 * "a"),
    "200 headers": get("/v1/models", *(f"x{number}: 1" for number in range(200))),
    "a whole URL": get("http://x/v1/models"),
    "no host": b"GET /v1/models HTTP/1.1\r\nConnection: close\r\n\r\n",
    "lines that end in a line feed": b"GET /v1/models HTTP/1.1\nConnection: close\n\n",
    "HTTP/1.0": b"GET /v1/models HTTP/1.0\r\n\r\n",
    "an upgrade to HTTP/2": get("/v1/models", "Connection: upgrade", "Upgrade: h2c"),
    "a body in chunks": chunked(b"%x\r\n%s\r\n0\r\nx: y\r\n\r\n" % (len(CHAT), CHAT)),
}


@pytest.mark.parametrize("what", ERRORS)
def test_an_error_is_openais(url: str, what: str) -> None:
    sent, status, code = ERRORS[what]
    answer = send(url, sent)
    error = json.loads(answer.body)["error"]
    assert (answer.status, error["code"]) == (status, code)
    assert error.keys() == {"message", "type", "param", "code"}
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize("what", BUILT_IN)
def test_only_these_are_not(url: str, what: str) -> None:
    sent, status = BUILT_IN[what]
    answer = send(url, sent)
    assert (answer.status, answer.headers["content-type"]) == (status, "text/html")
    assert "x-request-id" not in answer.headers


@pytest.mark.parametrize("what", UNUSUAL)
def test_what_is_unusual_and_right_is_answered(url: str, what: str) -> None:
    assert send(url, UNUSUAL[what]).status == 200


def test_a_body_that_does_not_end_is_told_so(url: str) -> None:
    with connect(url, post(CHAT)[:-10]) as connection:
        # HAProxy goes on waiting for the rest of it, so the connection stays open for a while.
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        error = json.loads(answer.read())["error"]
    assert (answer.status, error["code"]) == (408, "request_timeout")
    assert answer.headers["x-request-id"]


def test_a_stream_to_an_old_client_ends_with_its_connection(url: str) -> None:
    answer = send(url, post(CHAT, version="HTTP/1.0"))
    assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream")
    assert "transfer-encoding" not in answer.headers
    assert answer.body.startswith(b"data: {")
    assert answer.body.endswith(b"data: [DONE]\n\n")


def test_connections_that_send_nothing_hold_nobody_up(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    beginnings = [b"", b"POST /v1/chat/completions HTTP/1.1\r\nHost: "]
    with httpx.Client() as client, contextlib.ExitStack() as stack:
        usual = statistics.median(chat(client, url) for _ in range(CHATS))
        began = time.monotonic()
        silent = [stack.enter_context(connect(url, beginnings[n % 2])) for n in range(SILENT)]
        during = [chat(client, url) for _ in range(CHATS)]
        assert time.monotonic() - began < CLOSED_SECONDS
        received = [read(connection) for connection in silent]
        seconds = time.monotonic() - began
    slowest = statistics.quantiles(during, n=10)[-1]
    with capsys.disabled():
        say(f"  a chat beside {SILENT} of them: {1000 * slowest:.0f} ms (p90), usually {1000 * usual:.0f} ms")
    assert slowest <= 2 * usual + ALLOWED_SECONDS
    assert seconds <= CLOSED_SECONDS
    assert set(received[::2]) == {b""}
    assert all(said.startswith(b"HTTP/1.1 408 ") for said in received[1::2])


def chat(client: httpx.Client, url: str) -> float:
    began = time.monotonic()
    answer = client.post(f"{url}/v1/chat/completions", content=CHAT)
    assert answer.text.endswith("data: [DONE]\n\n")
    return time.monotonic() - began
