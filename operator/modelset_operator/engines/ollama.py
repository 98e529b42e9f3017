"""Ollama as an engine, through its HTTP API (Ollama 0.17, server/routes.go)."""

import asyncio
import datetime
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx

from modelset_operator.api import names, references, sources
from modelset_operator.engines import port, state

# Verifying a large model's checksum sends nothing for minutes; a pod that is gone is noticed otherwise.
PULL_READ_SECONDS = 900.0
ASK_SECONDS = 5.0
# Deleting a model removes files of many gigabytes before it answers.
DELETE_SECONDS = 60.0
# Ollama's own bound on it (OLLAMA_LOAD_TIMEOUT).
LOAD_SECONDS = 300.0
# A list of a thousand models is a tenth of it.
MOST_BYTES = 8 * 1024 * 1024
# Ollama's words for a registry's 404 (server/images.go, pullModelManifest).
_NOT_FOUND = "file does not exist"


class Ollama:
    """Implements `port.Engine`."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def inspect(self, address: str) -> state.Store:
        """See `port.Engine`."""
        url = base_url(address)
        tags = await self._ask("GET", f"{url}/api/tags")
        loaded = await self._ask("GET", f"{url}/api/ps")
        held: dict[str, state.Held] = {}
        spelled: dict[str, str] = {}
        for entry in tags.get("models") or ():
            key = _key(entry["name"])
            held[key] = state.Held(
                digest=entry.get("digest", ""),
                size=entry.get("size", 0),
                changed=_seconds(entry.get("modified_at", "")),
            )
            spelled[key] = entry["name"]
        running = frozenset(_key(entry["name"]) for entry in loaded.get("models") or ())
        return state.Store(held, spelled, running)

    async def describe(self, address: str, reference: str) -> tuple[str, ...]:
        """See `port.Engine`."""
        shown = await self._ask("POST", f"{base_url(address)}/api/show", {"model": reference})
        return tuple(sorted(shown.get("capabilities") or ()))

    async def load(self, address: str, reference: str, *, keep_alive: str) -> None:
        """See `port.Engine`."""
        # Without input it only loads, whatever the model is for; seconds have to be a number.
        seconds = int(keep_alive) if keep_alive.removeprefix("-").isdigit() else keep_alive
        body = {"model": reference, "keep_alive": seconds}
        await self._ask("POST", f"{base_url(address)}/api/embed", body, LOAD_SECONDS)

    async def remove(self, address: str, reference: str, *, loaded: bool) -> None:
        """See `port.Engine`."""
        url = base_url(address)
        if loaded:
            await self._ask("POST", f"{url}/api/generate", {"model": reference, "keep_alive": 0})
        await self._ask("DELETE", f"{url}/api/delete", {"model": reference}, DELETE_SECONDS)

    async def ensure(
        self, address: str, reference: str, source: sources.Source
    ) -> AsyncIterator[port.Progress]:
        """See `port.Engine`."""
        url = f"{base_url(address)}/api/pull"
        body = {"model": reference, "insecure": source.insecure}
        timeout = httpx.Timeout(ASK_SECONDS, read=PULL_READ_SECONDS)
        done = False
        try:
            async with self._http.stream("POST", url, json=body, timeout=timeout) as response:
                if response.is_error:
                    raise port.RefusedError(_reason(response.status_code, await _bounded(response)))
                async for line in response.aiter_lines():
                    entry = _line(line)
                    if "error" in entry:
                        reason = str(entry["error"])
                        raise port.RefusedError(reason, unknown_model=_NOT_FOUND in reason)
                    done = entry.get("status") == "success"
                    yield port.Progress(
                        status=str(entry.get("status", "")),
                        digest=str(entry.get("digest", "")),
                        total=int(entry.get("total", 0)),
                        completed=int(entry.get("completed", 0)),
                    )
        except httpx.HTTPError as error:
            raise port.UnreachableError(f"the connection to Ollama broke off ({_cause(error)})") from error
        if not done:
            raise port.UnreachableError("Ollama ended the download without saying that it is complete")

    async def _ask(
        self, method: str, url: str, body: Mapping[str, Any] | None = None, seconds: float = ASK_SECONDS
    ) -> dict[str, Any]:
        try:
            # Together: a server that sends a byte now and then would never be late by itself.
            async with (
                asyncio.timeout(seconds),
                self._http.stream(method, url, json=body, timeout=seconds) as response,
            ):
                text = await _bounded(response)
        except (httpx.HTTPError, TimeoutError) as error:
            raise port.UnreachableError(f"Ollama does not answer ({_cause(error)})") from error
        if response.is_error:
            raise port.RefusedError(_reason(response.status_code, text))
        return _line(text)


def base_url(address: str) -> str:
    """Return the URL of the Ollama on a pod."""
    host = f"[{address}]" if ":" in address else address
    return f"http://{host}:{names.OLLAMA_PORT}"


def _key(name: str) -> str:
    try:
        return references.parse(name).key
    except ValueError as error:
        raise port.UnreachableError(f"Ollama lists a model by no name of one: {error}") from error


def _seconds(time: str) -> float:
    try:
        return datetime.datetime.fromisoformat(time).timestamp()
    except ValueError:
        return 0.0


def _line(text: str) -> dict[str, Any]:
    """Read one JSON object; an empty body, as /api/delete sends it, counts as an empty one."""
    if not text.strip():
        return {}
    try:
        entry = json.loads(text)
    except ValueError as error:
        raise port.UnreachableError(
            f"Ollama answered with something else than JSON: {text[:80]!r}"
        ) from error
    return entry if isinstance(entry, dict) else {}


async def _bounded(response: httpx.Response) -> str:
    """Read a body whole, unless it is larger than any that Ollama gives."""
    parts: list[bytes] = []
    size = 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size > MOST_BYTES:
            raise port.UnreachableError(f"Ollama answers with more than {MOST_BYTES} bytes")
        parts.append(part)
    return b"".join(parts).decode(errors="replace")


def _reason(status: int, text: str) -> str:
    try:
        return str(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {status}: {text[:200]}"


def _cause(error: Exception) -> str:
    return str(error) or type(error).__name__
