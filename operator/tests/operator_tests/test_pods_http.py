"""How pods are asked: directly, on a connection a request, however many others are open."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator

import httpx
import pytest

from modelset_operator import pods_http


class Pod:
    """A server that tells of its connections, and answers in two parts, the second when it is let to."""

    def __init__(self) -> None:
        self.url = ""
        self.opened = 0
        self.closed: asyncio.Queue[None] = asyncio.Queue()
        self.goes_on = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        while await reader.readline() > b"\r\n":
            pass
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{")
        waiting = asyncio.create_task(self.goes_on.wait())
        left = asyncio.create_task(reader.read())
        await asyncio.wait([waiting, left], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        writer.write(b"}")
        await left
        self.closed.put_nowait(None)
        writer.close()


@pytest.fixture
async def pod() -> AsyncIterator[Pod]:
    pod = Pod()
    async with await asyncio.start_server(pod.serve, "127.0.0.1", 0) as server:
        pod.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield pod


async def test_a_connection_ends_with_its_answer(pod: Pod) -> None:
    pod.goes_on.set()
    async with pods_http.client() as client:
        for asked in (1, 2):
            assert (await client.get(pod.url)).json() == {}
            await pod.closed.get()
            assert pod.opened == asked


async def test_a_connection_ends_when_nobody_waits_for_the_answer_any_more(pod: Pod) -> None:
    async with pods_http.client() as client:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.05), client.stream("GET", pod.url) as response:
                await response.aread()
        await pod.closed.get()


async def test_as_many_are_asked_at_once_as_there_are(pod: Pod) -> None:
    async with pods_http.client() as client, contextlib.AsyncExitStack() as answers:
        for _ in range(150):
            await answers.enter_async_context(client.stream("GET", pod.url))
        assert pod.opened == 150


async def test_a_pod_that_is_not_there_is_an_error_of_httpx() -> None:
    async with pods_http.client() as client:
        with pytest.raises(httpx.ConnectError):
            await client.get("http://127.0.0.1:9")


async def test_no_certificates_are_read_for_a_request(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    pod.goes_on.set()
    async with pods_http.client() as client:
        monkeypatch.delattr(ssl, "create_default_context")
        assert (await client.get(pod.url)).is_success


async def test_no_proxy_of_the_environment_is_asked(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    pod.goes_on.set()
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    async with pods_http.client() as client:
        assert (await client.get(pod.url)).is_success
