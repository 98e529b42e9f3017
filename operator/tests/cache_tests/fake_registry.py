"""A registry on loopback, with what real ones do to those who pull: ask who it is, cut, fail, lie."""

import asyncio
import base64
import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from aiohttp import test_utils, web

MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@dataclasses.dataclass
class Registry:
    """Repositories by name: manifests by tag, and blobs by digest.

    `wants` is "", "basic" or "bearer"; where it `sends_on`, blobs are had at another host. `lies` are sent
    for blobs in place of what they are. `failing` are statuses that the next requests for blobs get; after
    `cuts` bytes answers break off, in turn; all wait after `hold_after`. `sent` counts the bytes of blobs,
    `asked` the requests, `heard` their headers, `parts` the ranges; `signed` are requests at the other host:
    their query, and whether they say who asks.
    """

    manifests: dict[str, bytes] = dataclasses.field(default_factory=dict)
    blobs: dict[str, bytes] = dataclasses.field(default_factory=dict)
    wants: str = ""
    user: tuple[str, str] = ("alice", "s3cret")
    token: str = "t0ken"  # noqa: S105 - of nothing
    lies: dict[str, bytes] = dataclasses.field(default_factory=dict)
    failing: list[int] = dataclasses.field(default_factory=list)
    cuts: list[int] = dataclasses.field(default_factory=list)
    knows_ranges: bool = True
    names_digests: bool = True
    sends_on: bool = False
    signed: list[tuple[str, bool]] = dataclasses.field(default_factory=list)
    sent: int = 0
    asked: list[str] = dataclasses.field(default_factory=list)
    heard: list[Mapping[str, str]] = dataclasses.field(default_factory=list)
    parts: list[str] = dataclasses.field(default_factory=list)
    tokens: list[dict[str, str]] = dataclasses.field(default_factory=list)
    proceed: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    hold_after: int | None = None
    server: test_utils.TestServer | None = None

    def publish(self, name: str, *layers: bytes) -> None:
        """Put a model there, `repository:tag`, as Ollama pushes it."""
        repository, _, tag = name.rpartition(":")
        described = [{"mediaType": "m", "digest": digest_of(one), "size": len(one)} for one in layers]
        manifest = {"schemaVersion": 2, "mediaType": "m", "config": described[-1], "layers": described[:-1]}
        self.manifests[f"{repository}/{tag}"] = json.dumps(manifest).encode()
        self.blobs |= {digest_of(one): one for one in layers}

    @property
    def host(self) -> str:
        assert self.server is not None
        return f"127.0.0.1:{self.server.port}"

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/token", self._token)
        app.router.add_get("/v2/{repository:.+}/manifests/{tag}", self._manifest)
        app.router.add_get("/v2/{repository:.+}/blobs/{digest}", self._blob)
        app.router.add_get("/signed/{digest}", self._signed)
        self.server = test_utils.TestServer(app)
        await self.server.start_server(access_log=None)

    def _basic(self) -> str:
        return f"Basic {base64.b64encode(':'.join(self.user).encode()).decode()}"

    async def _token(self, request: web.Request) -> web.Response:
        self.tokens.append(dict(request.query))
        if request.headers.get("Authorization") != self._basic():
            return web.Response(status=401)
        return web.json_response({"token": self.token, "expires_in": 300})

    def _admit(self, request: web.Request) -> None:
        self.asked.append(f"{request.method} {request.path}")
        self.heard.append(request.headers)
        told = request.headers.get("Authorization", "")
        if self.wants == "basic" and told != self._basic():
            raise web.HTTPUnauthorized(headers={"WWW-Authenticate": 'Basic realm="models"'})
        if self.wants == "bearer" and told != f"Bearer {self.token}":
            header = f'Bearer realm="http://{self.host}/token",service="models",scope="repository:x:pull"'
            raise web.HTTPUnauthorized(headers={"WWW-Authenticate": header})

    async def _manifest(self, request: web.Request) -> web.Response:
        self._admit(request)
        found = self.manifests.get(f"{request.match_info['repository']}/{request.match_info['tag']}")
        if found is None:
            return web.Response(status=404)
        headers = {"Content-Type": MANIFEST_TYPE}
        if self.names_digests:
            headers["Docker-Content-Digest"] = digest_of(found)
        return web.Response(body=found, headers=headers)

    async def _blob(self, request: web.Request) -> web.StreamResponse:
        self._admit(request)
        digest = request.match_info["digest"]
        if digest not in self.blobs:
            return web.Response(status=404)
        if request.method == "GET" and self.failing:
            return web.Response(status=self.failing.pop(0))
        if request.method == "GET" and self.sends_on:
            port = self.host.rpartition(":")[2]
            signed = f"http://localhost:{port}/signed/{digest}?by=a%2Bb%2Fc%3D&d=e+f"
            return web.Response(status=307, headers={"Location": signed})
        return await self._content(request, digest)

    async def _signed(self, request: web.Request) -> web.StreamResponse:
        self.signed.append((request.rel_url.raw_query_string, "Authorization" in request.headers))
        return await self._content(request, request.match_info["digest"])

    async def _content(self, request: web.Request, digest: str) -> web.StreamResponse:
        content = self.lies.get(digest, self.blobs[digest])
        start, end = 0, len(content)
        headers: dict[str, Any] = {}
        status = 200
        if self.knows_ranges and (asked := request.headers.get("Range")):
            self.parts.append(f"{digest} {asked}")
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, end, status = int(first), int(last) + 1, 206
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
        headers["Content-Length"] = str(end - start)
        response = web.StreamResponse(status=status, headers=headers)
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        await self._send(request, response, content[start:end])
        return response

    async def _send(self, request: web.Request, response: web.StreamResponse, content: bytes) -> None:
        cut = self.cuts.pop(0) if self.cuts else None
        content = content[:cut]
        if self.hold_after is not None:
            await response.write(content[: self.hold_after])
            self.sent += min(self.hold_after, len(content))
            content = content[self.hold_after :]
            await self.proceed.wait()
        await response.write(content)
        self.sent += len(content)
        if cut is not None and request.transport is not None:
            request.transport.close()
