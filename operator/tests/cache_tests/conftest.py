"""A registry, a cache in front of it, and an Ollama that pulls through it, all on loopback."""

import asyncio
import contextlib
import dataclasses
import hashlib
import json
import pathlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import test_utils

from modelset_cache import server, store, transfers, upstream

from . import fake_registry

CHUNK = 1000
LIMIT = 100_000


class PullError(Exception):
    """What Ollama says of a pull that has failed."""


@dataclasses.dataclass
class Ollama:
    """Pulls as Ollama 0.17 does (server/download.go, images.go), with smaller parts and no pauses."""

    proxy: str
    session: aiohttp.ClientSession
    blobs: dict[str, bytes] = dataclasses.field(default_factory=dict)
    part_bytes: int = 4 * CHUNK
    tries: int = 3

    async def pull(self, host: str, name: str) -> dict[str, Any]:
        """Return the manifest, with all of its blobs here and checked."""
        repository, _, tag = name.rpartition(":")
        base = f"http://{host}/v2/{repository}"
        async with self.session.get(f"{base}/manifests/{tag}", proxy=self.proxy) as answer:
            if answer.status == 404:
                raise PullError("file does not exist")
            if not answer.ok:
                raise PullError(f"pull model manifest: {answer.status}: {await answer.text()}")
            manifest: dict[str, Any] = json.loads(await answer.read())
        for layer in [*manifest["layers"], manifest["config"]]:
            await self._blob(base, layer["digest"])
        return manifest

    async def _blob(self, base: str, digest: str) -> None:
        if digest in self.blobs:
            return
        url = f"{base}/blobs/{digest}"
        async with self.session.head(url, proxy=self.proxy) as answer:
            if not answer.ok:
                raise PullError(f"{answer.status}: ")
            total = answer.content_length or 0
        async with self.session.get(url, proxy=self.proxy, allow_redirects=False) as answer:
            if answer.status != 307:
                raise PullError("http: no Location header in response")
            direct = answer.headers["Location"]
        parts = [
            await self._part(direct, start, min(total, start + self.part_bytes))
            for start in range(0, total, self.part_bytes)
        ]
        content = b"".join(parts)
        if f"sha256:{hashlib.sha256(content).hexdigest()}" != digest:
            raise PullError("digest mismatch, file must be downloaded again")
        self.blobs[digest] = content

    async def _part(self, url: str, start: int, end: int) -> bytes:
        content = b""
        for _ in range(self.tries):
            headers = {"Range": f"bytes={start + len(content)}-{end - 1}"}
            with contextlib.suppress(aiohttp.ClientError):
                async with self.session.get(url, proxy=self.proxy, headers=headers) as answer:
                    # Whatever the status: it is the body that counts.
                    async for piece in answer.content.iter_any():
                        content += piece
            if len(content) >= end - start:
                return content[: end - start]
        raise PullError("max retries exceeded: unexpected EOF")


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what nobody tells of."""
    while not condition():  # noqa: ASYNC110 - files, and tasks of the server
        await asyncio.sleep(0.001)


@dataclasses.dataclass
class World:
    """All of it; a new cache finds on disk what the one before has left."""

    registry: fake_registry.Registry
    folder: pathlib.Path
    session: aiohttp.ClientSession
    limit: int = LIMIT
    config: pathlib.Path | None = None
    insecure: bool = True
    cache: test_utils.TestServer | None = None
    blobs: transfers.Transfers | None = None

    async def start_cache(self) -> None:
        hosts = (self.registry.host,) if self.insecure else ()
        source = upstream.Upstream(self.session, hosts, self.config)
        kept = store.Store(self.folder, self.limit, CHUNK)
        self.blobs = transfers.Transfers(kept, source)
        self.cache = test_utils.TestServer(server.Routes(self.blobs, source, self.limit).app())
        await self.cache.start_server(access_log=None)

    async def stop_cache(self) -> None:
        if self.cache is not None:
            await self.cache.close()

    @property
    def proxy(self) -> str:
        assert self.cache is not None
        return f"http://127.0.0.1:{self.cache.port}"

    def ollama(self, **fields: Any) -> Ollama:
        return Ollama(self.proxy, self.session, **fields)

    def knows(self, **entry: str) -> None:
        """Have the cache's Secret say this of the registry."""
        self.config = self.folder.parent / "config.json"
        self.config.write_text(json.dumps({"auths": {self.registry.host: entry}}))


@pytest.fixture
async def world(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(transfers, "FIRST_RETRY_SECONDS", 0.0)
    registry = fake_registry.Registry()
    await registry.start()
    folder = tmp_path / "blobs"
    folder.mkdir()
    async with upstream.client() as session:
        found = World(registry, folder, session)
        yield found
        registry.proceed.set()
        await found.stop_cache()
    assert registry.server is not None
    await registry.server.close()


@pytest.fixture
def model() -> Callable[[int], bytes]:
    """Return bytes that differ from place to place."""

    def make(size: int) -> bytes:
        return b"".join(count.to_bytes(4, "big") for count in range(size // 4 + 1))[:size]

    return make
