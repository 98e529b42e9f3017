"""The routes of a registry, for reading alone, as Ollama asks them through HTTP_PROXY (Ollama 0.17, server/).

The host of a request is the registry that is meant. Ollama asks that for a blob, and wants to be sent on to
another host before it downloads: it is sent to one that cannot be, which HTTP_PROXY leads here too. It takes
whatever body an answer has for the blob's bytes, so that an error has none.
"""

import contextlib
import json
import logging
import re
from collections.abc import AsyncGenerator

import prometheus_client
from aiohttp import web

from modelset_cache import metrics, ranges, store, transfers, upstream

log = logging.getLogger(__name__)

# Reserved never to be anybody's (RFC 6761).
ELSEWHERE = ".cache.invalid"
_PART = r"[A-Za-z0-9_][A-Za-z0-9._-]*"
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]+)?")
_INSUFFICIENT_STORAGE = 507


class Routes:
    """What is answered, with what is kept and who is asked for the rest."""

    def __init__(self, blobs: transfers.Transfers, source: upstream.Upstream, limit: int) -> None:
        self._blobs = blobs
        self._source = source
        self._limit = limit

    def app(self) -> web.Application:
        """Return the application."""
        app = web.Application()
        name = rf"{{repository:{_PART}(?:/{_PART})*}}"
        app.router.add_get(rf"/v2/{name}/manifests/{{reference:[A-Za-z0-9_][A-Za-z0-9._:-]*}}", self.manifest)
        app.router.add_get(rf"/v2/{name}/blobs/{{digest:sha256:[0-9a-f]{{64}}}}", self.blob)
        app.on_cleanup.append(self._close)
        return app

    async def manifest(self, request: web.Request) -> web.Response:
        """Answer what a tag stands for now: tags move, so the registry is asked each time."""
        place = _place(request)
        accept = request.headers.get("Accept", "*/*")
        try:
            found = await self._source.manifest(place, request.match_info["reference"], accept)
        except upstream.UpstreamError as error:
            log.warning("%s", error)
            return web.Response(status=error.status, text=str(error))
        if (size := _largest(found.body)) > self._limit:
            told = f"a file of the model has {size} bytes, and the cache has room for {self._limit}"
            return web.Response(
                status=_INSUFFICIENT_STORAGE, text=f"{told}: raise spec.registry.cache.size of the set"
            )
        headers = {"Docker-Content-Digest": found.digest} if found.digest else {}
        return web.Response(body=found.body, headers={"Content-Type": found.content_type, **headers})

    async def blob(self, request: web.Request) -> web.StreamResponse:
        """Answer a blob, or a part of it, as far as it has come and then as it comes."""
        place, digest = _place(request), request.match_info["digest"]
        if request.method == "GET" and not _is_elsewhere(request):
            raise web.HTTPTemporaryRedirect(_elsewhere(request))
        try:
            transfer = await self._blobs.of(place, digest)
        except upstream.UpstreamError as error:
            log.warning("%s", error)
            return web.Response(status=error.status)
        except (store.NoRoomError, OSError) as error:
            log.warning("%s from %s cannot be kept: %s", digest, place.host, error)
            return web.Response(status=_INSUFFICIENT_STORAGE)
        return await self._send(request, transfer)

    async def _send(self, request: web.Request, transfer: transfers.Transfer) -> web.StreamResponse:
        size = transfer.blob.size
        try:
            part = ranges.asked(request.headers.get("Range"), size)
        except ranges.UnsatisfiableError:
            return web.Response(status=416, headers={"Content-Range": f"bytes */{size}"})
        start, end = part or (0, size)
        response = web.StreamResponse(status=200 if part is None else 206)
        response.content_type = "application/octet-stream"
        response.content_length = end - start
        response.headers["Docker-Content-Digest"] = transfer.blob.digest
        response.headers["Accept-Ranges"] = "bytes"
        if part is not None:
            response.headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        if request.method == "HEAD":
            await response.prepare(request)
            return response
        return await _stream(request, response, transfer.read(start, end))

    async def _close(self, _: web.Application) -> None:
        await self._blobs.close()


async def _stream(
    request: web.Request, response: web.StreamResponse, pieces: AsyncGenerator[bytes, None]
) -> web.StreamResponse:
    """Send what comes. Where it breaks off the connection does, so that nobody takes it for the end."""
    async with contextlib.aclosing(pieces) as coming:
        try:
            first = await anext(coming, b"")
            await response.prepare(request)
            await response.write(first)
            metrics.SERVED.inc(len(first))
            async for piece in coming:
                await response.write(piece)
                metrics.SERVED.inc(len(piece))
        except transfers.BrokenOffError as error:
            log.warning("%s: %s", request.path, error)
            if not response.prepared:
                return web.Response(status=upstream.BAD_GATEWAY)
            if request.transport is not None:
                request.transport.abort()
    return response


def _place(request: web.Request) -> upstream.Place:
    host = _host(request).replace(ELSEWHERE, "")
    if _HOST.fullmatch(host) is None:
        raise web.HTTPBadRequest(text="the header Host names no registry")
    agent = request.headers.get("User-Agent", upstream.Place.agent)
    return upstream.Place(host, request.match_info["repository"], agent)


def _host(request: web.Request) -> str:
    """Return host and port; of a proxied request's target aiohttp tells the host alone."""
    return request.headers.get("Host", "")


def _is_elsewhere(request: web.Request) -> bool:
    return _host(request).partition(":")[0].endswith(ELSEWHERE)


def _elsewhere(request: web.Request) -> str:
    host, colon, port = _host(request).partition(":")
    return f"http://{host}{ELSEWHERE}{colon}{port}{request.rel_url.raw_path}"


def _largest(manifest: bytes) -> int:
    """Return the size of a manifest's largest layer, 0 for what has none."""
    try:
        layers = json.loads(manifest)["layers"]
        return max(int(layer["size"]) for layer in layers)
    except (ValueError, KeyError, TypeError):
        return 0


async def healthz(_: web.Request) -> web.Response:
    """Answer that the process is alive."""
    return web.Response(text="ok")


async def exported(_: web.Request) -> web.Response:
    """Answer in Prometheus' format."""
    return web.Response(
        body=prometheus_client.generate_latest(),
        headers={"Content-Type": prometheus_client.CONTENT_TYPE_LATEST},
    )


def watched() -> web.Application:
    """Return the application by which the process is watched."""
    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/metrics", exported)
    return app
