"""Ollama's HTTP API, as far as keeping models on a pod needs it (Ollama 0.17, server/routes.go)."""

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx

from modelset_operator.api import names, references
from modelset_operator.engines import state

# Verifying a large model's checksum sends nothing for minutes; a pod that is gone is noticed otherwise.
PULL_READ_SECONDS = 900.0
ASK_SECONDS = 5.0
# Deleting a model removes files of many gigabytes before it answers.
DELETE_SECONDS = 60.0
# A list of a thousand models is a tenth of it.
MOST_BYTES = 8 * 1024 * 1024


class OllamaError(Exception):
    """Ollama answered with an error; the message is its own."""


class UnreachableError(Exception):
    """No complete answer came: the pod is starting, stopping, or cut off."""


@dataclasses.dataclass(frozen=True)
class Progress:
    """One line of a pull: sizes in bytes, for one layer; an empty digest for steps without one."""

    status: str
    digest: str = ""
    total: int = 0
    completed: int = 0


def base_url(ip: str) -> str:
    """Return the URL of the Ollama on a pod."""
    host = f"[{ip}]" if ":" in ip else ip
    return f"http://{host}:{names.OLLAMA_PORT}"


class Ollama:
    """Client for any number of Ollama servers, which are named by their URL in each call."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def store(self, url: str) -> state.Store:
        """Return what a server holds and what it has in memory. Capabilities are left open."""
        tags = await self._ask("GET", f"{url}/api/tags")
        loaded = await self._ask("GET", f"{url}/api/ps")
        held: dict[str, state.Held] = {}
        spelled: dict[str, str] = {}
        for entry in tags.get("models") or ():
            key = references.parse(entry["name"]).key
            held[key] = state.Held(digest=entry.get("digest", ""), size=entry.get("size", 0))
            spelled[key] = entry["name"]
        running = frozenset(references.parse(entry["name"]).key for entry in loaded.get("models") or ())
        return state.Store(held, spelled, running)

    async def capabilities(self, url: str, reference: str) -> tuple[str, ...]:
        """Return what Ollama reports that a model can do, sorted."""
        shown = await self._ask("POST", f"{url}/api/show", {"model": reference})
        return tuple(sorted(shown.get("capabilities") or ()))

    async def delete(self, url: str, reference: str, *, unload: bool) -> None:
        """Delete a model; one in memory is let go first, when the answers it is giving are complete."""
        if unload:
            await self._ask("POST", f"{url}/api/generate", {"model": reference, "keep_alive": 0})
        await self._ask("DELETE", f"{url}/api/delete", {"model": reference}, DELETE_SECONDS)

    async def pull(self, url: str, reference: str, *, insecure: bool) -> AsyncIterator[Progress]:
        """Download a model and yield its progress; when the iteration ends by itself, it is complete."""
        body = {"model": reference, "insecure": insecure}
        timeout = httpx.Timeout(ASK_SECONDS, read=PULL_READ_SECONDS)
        done = False
        try:
            async with self._http.stream("POST", f"{url}/api/pull", json=body, timeout=timeout) as response:
                if response.is_error:
                    raise OllamaError(_reason(response.status_code, await _bounded(response)))
                async for line in response.aiter_lines():
                    entry = _line(line)
                    if "error" in entry:
                        raise OllamaError(str(entry["error"]))
                    done = entry.get("status") == "success"
                    yield Progress(
                        status=str(entry.get("status", "")),
                        digest=str(entry.get("digest", "")),
                        total=int(entry.get("total", 0)),
                        completed=int(entry.get("completed", 0)),
                    )
        except httpx.HTTPError as error:
            raise UnreachableError(f"the connection to Ollama broke off ({_cause(error)})") from error
        if not done:
            raise UnreachableError("Ollama ended the download without saying that it is complete")

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
            raise UnreachableError(f"Ollama does not answer ({_cause(error)})") from error
        if response.is_error:
            raise OllamaError(_reason(response.status_code, text))
        return _line(text)


def _line(text: str) -> dict[str, Any]:
    """Read one JSON object; an empty body, as /api/delete sends it, counts as an empty one."""
    if not text.strip():
        return {}
    try:
        entry = json.loads(text)
    except ValueError as error:
        raise UnreachableError(f"Ollama answered with something else than JSON: {text[:80]!r}") from error
    return entry if isinstance(entry, dict) else {}


async def _bounded(response: httpx.Response) -> str:
    """Read a body whole, unless it is larger than any that Ollama gives."""
    parts: list[bytes] = []
    size = 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size > MOST_BYTES:
            raise UnreachableError(f"Ollama answers with more than {MOST_BYTES} bytes")
        parts.append(part)
    return b"".join(parts).decode(errors="replace")


def _reason(status: int, text: str) -> str:
    try:
        return str(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {status}: {text[:200]}"


def _cause(error: Exception) -> str:
    return str(error) or type(error).__name__
