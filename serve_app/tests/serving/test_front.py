"""Ray Serve's HAProxy with our amendments, in front of the application as a replica serves it."""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from ray.serve._private import haproxy as of_serve
from ray.serve.config import HTTPOptions

from benchmarks import folders, loopback
from modelset_proxy.serving import haproxy, ingress
from modelset_proxy.web import exchange
from serve_app.tests import fake_ollama, running
from stack import cache

pytestmark = pytest.mark.asyncio(loop_scope="module")
_INSTEAD_OF_HAPROXY = Path(haproxy.__file__).with_suffix(".sh")
_SETTINGS = dict(
    line.split("=", 1)
    for line in (cache.REPOSITORY / "serve_app" / "serve.env").read_text().splitlines()
    if not line.startswith("#")
)
_CHAT = b'{"model": "smollm2", "messages": [{"role": "user", "content": "Hi"}], "stream": true}'
_WEBSOCKET = ["connection: upgrade", "upgrade: websocket", "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ=="]


def get(path: str, *headers: str, method: str = "GET", version: str = "1.1") -> bytes:
    lines = [f"{method} {path} HTTP/{version}", "host: x", "connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1")


def chat(version: str) -> bytes:
    return (
        get("/v1/chat/completions", f"content-length: {len(_CHAT)}", method="POST", version=version) + _CHAT
    )


def write_as_serve_does(folder: Path, port: int, replica: int, ending: int) -> Path:
    """Have Serve write its configuration: the application, one whose replica ends, one that has none."""
    settings = of_serve.HAProxyConfig(
        http_options=HTTPOptions(host="127.0.0.1", port=port),
        socket_path=f"{folder}/admin.sock",
        server_state_base=str(folder),
        server_state_file=f"{folder}/state",
        stats_port=loopback.free_port(),
        metrics_port=loopback.free_port(),
        metrics_enabled=False,
        bufsize=int(_SETTINGS["RAY_SERVE_HAPROXY_TUNE_BUFSIZE"]),
        is_head=True,
    )
    backends = {
        name: of_serve.BackendConfig(
            name, path, app_name=name, servers=[of_serve.ServerConfig(name, "127.0.0.1", to)] if to else []
        )
        for name, path, to in (("app", "/", replica), ("ending", "/ending", ending), ("gone", "/gone", None))
    }
    config = folder / "haproxy.cfg"
    of_serve.HAProxyApi(settings, backends, str(config))._generate_config_file_internal()
    return config


async def serve(scope: exchange.Scope, receive: exchange.Receive, send: exchange.Send) -> None:
    """Stand in for what of Serve is around the application: health checks, and errors as text."""
    status = {"/-/healthz": 200, "/-/full": 503}.get(scope["path"], 500)
    await send(
        {"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]}
    )
    await send({"type": "http.response.body", "body": b"Internal Server Error"})


async def end_early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Stand in for a replica that ends: it is healthy, and answers nothing else."""
    if b"/-/healthz" in await reader.readuntil(b"\r\n\r\n"):
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    writer.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ollama() -> AsyncIterator[fake_ollama.FakeOllama]:
    fake = fake_ollama.FakeOllama()
    async with fake_ollama.running(fake):
        yield fake


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def port(ollama: fake_ollama.FakeOllama) -> AsyncIterator[int]:
    """HAProxy's port, with the application behind it as in a replica."""
    async with contextlib.AsyncExitStack() as stack:
        _, built = await stack.enter_async_context(running.proxied(ollama.url))
        behind = ingress.Shortcut(serve, application=built)
        replica = await stack.enter_async_context(running.listening(behind, lifespan="off"))
        ending = await stack.enter_async_context(await asyncio.start_server(end_early, "127.0.0.1"))
        folder = stack.enter_context(folders.short())
        port = loopback.free_port()
        config = write_as_serve_does(folder, port, replica, ending.sockets[0].getsockname()[1])
        await stack.enter_async_context(started(config, port))
        yield port


@contextlib.asynccontextmanager
async def started(config: Path, port: int) -> AsyncIterator[None]:
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    program = await asyncio.create_subprocess_exec(
        _INSTEAD_OF_HAPROXY, "-db", "-f", config, env=environment, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(10):
            while not await is_open(port):
                assert program.returncode is None
        yield
    finally:
        program.kill()
        await program.wait()


async def is_open(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        await asyncio.sleep(0.01)
        return False
    writer.close()
    return True


async def say(port: int, data: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send bytes, and return status, headers and all else that comes until the connection is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    head, _, body = (await asyncio.wait_for(reader.read(), 5)).partition(b"\r\n\r\n")
    writer.close()
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return int(first.split(" ")[1]), headers, body


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (get("/v1/models", method="FOO"), 405, "method_not_allowed"),
        (get("*", method="OPTIONS"), 404, "unknown_url"),
        (get("/v1/models", "x: \x01"), 400, "invalid_http"),
        (get("/v1/realtime", *_WEBSOCKET), 400, "unsupported_protocol"),
        (get("/-/defect"), 500, None),
        (get("/-/full"), 503, "proxy_unavailable"),
        (get("/ending"), 502, "proxy_disconnected"),
        (get("/gone"), 503, "proxy_unavailable"),
    ],
)
async def test_what_the_servers_in_front_say_is_an_error_of_openai(
    port: int, sent: bytes, status: int, code: str | None
) -> None:
    answered, headers, body = await say(port, sent)
    error = json.loads(body)["error"]
    assert (answered, error["code"]) == (status, code)
    assert error.keys() == {"message", "type", "param", "code"}
    assert headers["content-type"] == "application/json"
    assert headers["x-request-id"].startswith("req_")


async def test_what_the_application_says_goes_through_as_it_is(
    port: int, ollama: fake_ollama.FakeOllama
) -> None:
    ollama.refusal = (503, "server busy, please try again")
    status, headers, body = await say(port, chat("1.1"))
    ollama.refusal = None
    assert (status, json.loads(body)["error"]["code"]) == (503, "server_overloaded")
    assert "retry-after" in headers
    assert "," not in headers["x-request-id"]


@pytest.mark.parametrize("headers", [["x: " + 20_000 * "a"], [f"x{number}: 1" for number in range(150)]])
async def test_large_headers_reach_the_application(port: int, headers: list[str]) -> None:
    assert (await say(port, get("/v1/models", *headers)))[0] == 200


@pytest.mark.parametrize(("version", "in_chunks"), [("1.1", True), ("1.0", False)])
async def test_only_clients_that_know_chunks_get_them(port: int, version: str, in_chunks: bool) -> None:
    status, headers, body = await say(port, chat(version))
    assert (status, "transfer-encoding" in headers) == (200, in_chunks)
    assert body.startswith(b"data: ") is not in_chunks
    assert body.endswith(b"data: [DONE]\n\n") is not in_chunks


async def test_a_reply_of_known_length_is_the_same_for_old_clients(port: int) -> None:
    status, headers, body = await say(port, get("/v1/models", version="1.0"))
    assert (status, headers["content-length"]) == (200, str(len(body)))
