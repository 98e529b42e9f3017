"""Ollama as an engine, through its HTTP API (Ollama 0.17, server/routes.go)."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx

from modelset_operator import bodies
from modelset_operator.api import moments, names, references, sources
from modelset_operator.engines import port, state

# Verifying a large model's checksum sends nothing for minutes; a pod that is gone is noticed otherwise.
PULL_READ_SECONDS = 900.0
ASK_SECONDS = 5.0
# Making a variant reads what the base's files begin with, and writes a few lines.
CREATE_READ_SECONDS = 120.0
# Deleting a model removes files of many gigabytes before it answers.
DELETE_SECONDS = 60.0
# Ollama's own bound on it (OLLAMA_LOAD_TIMEOUT).
LOAD_SECONDS = 300.0
# A list of a thousand models is a tenth of it.
MOST_BYTES = 8 * 1024 * 1024
# Ollama's words for a registry's 404 (server/images.go, pullModelManifest).
_NOT_FOUND = "file does not exist"
# What Go's HTTP client says of a proxy that it does not get to. Pulls go by the set's cache, if by any, and
# that one's name or port may be a moment behind its pod.
_NO_WAY = "proxyconnect "
# What a mark is kept as: Ollama adds licences to those of the base, tells them all, and reads none.
_MARK = "modelset.dev/variant "
# The lines of a Modelfile that name files, which come first in what Ollama makes of a model.
_ADAPTER = "ADAPTER "
_FILES = ("FROM ", _ADAPTER)


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
                changed=moments.parse(entry.get("modified_at", "")) or 0.0,
            )
            spelled[key] = entry["name"]
        running = {_key(entry["name"]): int(entry.get("size") or 0) for entry in loaded.get("models") or ()}
        return state.Store(held, spelled, running)

    async def describe(self, address: str, reference: str) -> state.Facts:
        """See `port.Engine`."""
        return _facts(await self._ask("POST", f"{base_url(address)}/api/show", {"model": reference}))

    async def load(
        self, address: str, reference: str, *, keep_alive: str, context_length: int | None = None
    ) -> None:
        """See `port.Engine`."""
        # Without input it only loads, whatever the model is for; seconds have to be a number.
        seconds = int(keep_alive) if keep_alive.removeprefix("-").isdigit() else keep_alive
        body: dict[str, Any] = {"model": reference, "keep_alive": seconds}
        if context_length is not None:
            body["options"] = {"num_ctx": context_length}
        await self._ask("POST", f"{base_url(address)}/api/embed", body, LOAD_SECONDS)

    async def remove(self, address: str, reference: str, *, loaded: bool) -> None:
        """See `port.Engine`."""
        url = base_url(address)
        if loaded:
            await self._ask("POST", f"{url}/api/generate", {"model": reference, "keep_alive": 0})
        await self._ask("DELETE", f"{url}/api/delete", {"model": reference}, DELETE_SECONDS)

    async def ensure(
        self, address: str, reference: str, source: sources.Source, *, again: bool = False
    ) -> AsyncIterator[port.Progress]:
        """See `port.Engine`."""
        if again:
            # Told not to prune, Ollama leaves the files of the older version to nobody. Deleted under another
            # name, it takes with it those that no model has any more.
            kept = str(references.aside(references.parse(reference)))
            await self._ask(
                "POST", f"{base_url(address)}/api/copy", {"source": reference, "destination": kept}
            )
        # A cache is asked over plain HTTP, as whoever stands in between has to be to see what is asked for.
        body = {"model": reference, "insecure": source.insecure or source.cached}
        async for progress in self._follow(f"{base_url(address)}/api/pull", body, PULL_READ_SECONDS):
            yield progress

    async def create(
        self, address: str, reference: str, recipe: state.Recipe
    ) -> AsyncIterator[port.Progress]:
        """See `port.Engine`."""
        body: dict[str, Any] = {"model": reference, "from": recipe.base, "license": _MARK + recipe.mark}
        own = {"system": recipe.system, "template": recipe.template, "parameters": recipe.parameters}
        body |= {field: value for field, value in own.items() if value}
        if recipe.adapter:
            # Under whatever name: by its end Ollama knows what kind of file it is.
            body["adapters"] = {"adapter.gguf": recipe.adapter.replace("-", ":", 1)}
        async for progress in self._follow(f"{base_url(address)}/api/create", body, CREATE_READ_SECONDS):
            yield progress
        if recipe.adapter and recipe.adapter not in (await self.describe(address, reference)).adapters:
            # It goes by what the file says of itself, and takes one that does not say so for weights.
            await self.remove(address, reference, loaded=False)
            raise port.RefusedError(f"Ollama takes {recipe.adapter} for no adapter: convert it anew")

    async def _follow(
        self, url: str, body: Mapping[str, Any], read_seconds: float
    ) -> AsyncIterator[port.Progress]:
        """Yield what Ollama tells of something that takes its time, until it says that it is done."""
        timeout = httpx.Timeout(ASK_SECONDS, read=read_seconds)
        done = False
        try:
            async with self._http.stream("POST", url, json=body, timeout=timeout) as response:
                if response.is_error:
                    raise port.RefusedError(_reason(response.status_code, await _bounded(response)))
                async for line in response.aiter_lines():
                    entry = _line(line)
                    if "error" in entry:
                        reason = str(entry["error"])
                        if _NO_WAY in reason:
                            raise port.UnreachableError(reason)
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
            raise port.UnreachableError("Ollama ended without saying that the model is complete")

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


def _facts(shown: Mapping[str, Any]) -> state.Facts:
    """Read /api/show: `model_info` has the numbers of the GGUF file, named after its architecture."""
    info = shown.get("model_info") or {}
    architecture = info.get("general.architecture", "")
    parameters = str(shown.get("parameters") or "").splitlines()
    pinned = [line.split()[-1] for line in parameters if line.startswith("num_ctx ")]
    files = _files(str(shown.get("modelfile") or ""))
    return state.Facts(
        capabilities=tuple(sorted(shown.get("capabilities") or ())),
        cache_values=_cache_values(info, architecture),
        context_length=_whole(info.get(f"{architecture}.context_length")) or 0,
        pinned_context_length=int(pinned[-1]) if pinned and pinned[-1].isdigit() else 0,
        weights=" ".join(_name(line) for line in files),
        adapters=tuple(_name(line) for line in files if line.startswith(_ADAPTER)),
        mark=_mark(str(shown.get("license") or "")),
    )


def _mark(licences: str) -> str:
    """Return what a variant was marked with: the last line, since its base may bear a mark itself."""
    last = licences.rpartition("\n")[2]
    return last.removeprefix(_MARK) if last.startswith(_MARK) else ""


def _files(modelfile: str) -> list[str]:
    """Return the lines with the files that a runner is kept by; what follows is anybody's."""
    lines = (line for line in modelfile.splitlines() if line and not line.startswith("#"))
    return list(itertools.takewhile(lambda line: line.startswith(_FILES), lines))


def _name(line: str) -> str:
    """Return the name of the file that a line names, without folders."""
    return line.replace("/", " ").split()[-1]


def _cache_values(info: Mapping[str, Any], architecture: str) -> int | None:
    """Return the numbers that attention keeps for a token: keys and values, of each head in each layer.

    Where layers differ, Ollama leaves out how many heads each has (null for the list): nothing is guessed.
    """

    def number(name: str) -> int | None:
        return _whole(info.get(f"{architecture}.{name}"))

    layers, all_heads, width = (
        number(name) for name in ("block_count", "attention.head_count", "embedding_length")
    )
    # Left out, each head has keys of its own.
    told = f"{architecture}.attention.head_count_kv" in info
    heads = number("attention.head_count_kv") if told else all_heads
    of_a_head = width // all_heads if width and all_heads else None
    keys = number("attention.key_length") or of_a_head
    values = number("attention.value_length") or of_a_head
    if layers is None or heads is None or keys is None or values is None:
        return None
    return layers * heads * (keys + values)


def _whole(found: Any) -> int | None:
    return int(found) if isinstance(found, int | float) and found >= 0 else None


def _key(name: str) -> str:
    try:
        return references.parse(name).key
    except ValueError as error:
        raise port.UnreachableError(f"Ollama lists a model by no name of one: {error}") from error


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
    try:
        return (await bodies.read(response, MOST_BYTES)).decode(errors="replace")
    except bodies.TooLargeError as error:
        raise port.UnreachableError(f"Ollama answers with more than {MOST_BYTES} bytes") from error


def _reason(status: int, text: str) -> str:
    try:
        return str(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {status}: {text[:200]}"


def _cause(error: Exception) -> str:
    return str(error) or type(error).__name__
