"""The Ollama servers behind the given URLs: found by DNS, asked what they hold and what is loaded, every few
seconds.

Requests never wait for this: they read what the last round found. A failed connection asks for a round at
once.
"""

import asyncio
import logging
import socket
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

import aiohttp
import msgspec

from . import log, ollama_answers, ollama_names, router

_logger = logging.getLogger(__name__)
_PROBE_TIMEOUT = aiohttp.ClientTimeout(total=5, sock_connect=2)
_RESOLVE_SECONDS = 5.0
# Rounds asked for by failures are not run more often than this.
_MIN_SPACING_SECONDS = 0.25
_PORT = 11434
_NO_SUCH_NAME = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}


class Fleet:
    """Knows the servers. ``servers`` maps URLs to what is known, ``tags`` adds each model's digest."""

    def __init__(self, urls: Sequence[str], session: aiohttp.ClientSession, *, interval: float = 3.0) -> None:
        self._urls = [base_url(url) for url in urls]
        self._session = session
        self._interval = interval
        self._found: dict[str, list[str]] = {}
        self._complained: set[str] = set()
        self._round: asyncio.Task[None] | None = None
        self._ended = 0.0
        self._loop: asyncio.Task[None] | None = None
        self._waiting: list[asyncio.Future[None]] = []
        self.servers: dict[str, router.Server] = {}
        self.tags: dict[str, dict[str, ollama_answers.HeldModel]] = {}

    async def start(self) -> None:
        """Run a first round and keep going in the background."""
        await self.refresh()
        self._loop = asyncio.create_task(self._run(), name="fleet")

    async def stop(self) -> None:
        """Stop the background rounds."""
        for task in (self._loop, self._round):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def refresh(self) -> None:
        """Look again now, or join the round that is under way. Returns at once just after a round."""
        if self._round is None or self._round.done():
            if time.monotonic() - self._ended < _MIN_SPACING_SECONDS:
                return
            self._round = asyncio.create_task(self._look(), name="fleet-round")
        # Shielded: a client that leaves while it waits must not end the round for the others.
        await asyncio.shield(self._round)

    async def next_round(self) -> None:
        """Wait until a round has ended."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        await waiter

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            await self.refresh()

    async def _look(self) -> None:
        await asyncio.gather(*(self._resolve(url) for url in self._urls))
        urls = {url for found in self._found.values() for url in found}
        for url in urls - self.servers.keys():
            self.servers[url] = router.Server(url=url)
        for url in self.servers.keys() - urls:
            _logger.info("ollama server left", extra=log.facts(server=url))
            del self.servers[url]
            self.tags.pop(url, None)
        await asyncio.gather(*(self._probe(server) for server in list(self.servers.values())))
        self._ended = time.monotonic()
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)

    async def _resolve(self, url: str) -> None:
        """Find all addresses behind a URL. HTTPS keeps its name, which the certificate is for."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        if parts.scheme == "https":
            self._found[url] = [url]
            return
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_RESOLVE_SECONDS):
                found = await loop.getaddrinfo(host, parts.port, type=socket.SOCK_STREAM)
        except socket.gaierror as problem:
            # A headless Service without ready pods has no addresses. A DNS server that does not answer says
            # nothing about the pods, so those known stay.
            if problem.errno in _NO_SUCH_NAME:
                self._found[url] = []
            self._unresolved(host, problem.strerror or "")
            return
        except TimeoutError:
            self._unresolved(host, "timed out")
            return
        self._complained.discard(host)
        addresses = {str(entry[4][0]) for entry in found}
        self._found[url] = [
            f"http://{f'[{address}]' if ':' in address else address}:{parts.port}{parts.path}"
            for address in sorted(addresses)
        ]

    def _unresolved(self, host: str, reason: str) -> None:
        """Say so once, not every few seconds."""
        if host not in self._complained:
            self._complained.add(host)
            _logger.warning("cannot resolve", extra=log.facts(host=host, reason=reason))

    async def _probe(self, server: router.Server) -> None:
        try:
            async with (
                self._session.get(f"{server.url}/api/tags", timeout=_PROBE_TIMEOUT) as tags,
                self._session.get(f"{server.url}/api/ps", timeout=_PROBE_TIMEOUT) as processes,
            ):
                tags.raise_for_status()
                processes.raise_for_status()
                held = msgspec.json.decode(await tags.read(), type=ollama_answers.Tags).models
                loaded = msgspec.json.decode(await processes.read(), type=ollama_answers.Processes).models
        except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError) as problem:
            if server.reachable:
                _logger.warning(
                    "ollama server does not answer",
                    extra=log.facts(server=server.url, reason=str(problem) or type(problem).__name__),
                )
            server.reachable = False
            return
        if not server.reachable:
            _logger.info("ollama server answers", extra=log.facts(server=server.url, models=len(held)))
        server.reachable = True
        self.tags[server.url] = {ollama_names.canonical(model.name): model for model in held}
        server.held = frozenset(self.tags[server.url])
        server.loaded = frozenset(ollama_names.canonical(model.name) for model in loaded)


def base_url(text: str) -> str:
    """Complete what OLLAMA_URL may hold to scheme, host and port; raises ValueError for what is no URL."""
    parts = urlsplit(text if "://" in text else f"http://{text}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"not an http(s) URL: {text!r}")
    port = parts.port or (443 if parts.scheme == "https" else 80 if "://" in text else _PORT)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}:{port}{parts.path.rstrip('/')}"
