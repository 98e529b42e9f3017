"""Has an Ollama make variants as the operator does, and models of the same words as anybody would."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import httpx

from benchmarks.variants import recipes
from modelset_operator.engines import ollama, state

_CREATE_SECONDS = 120.0


async def by_the_operator(url: str, variants: Iterable[recipes.Variant]) -> None:
    """Make variants with the operator's own engine."""
    at = httpx.URL(url)

    async def lead_there(request: httpx.Request) -> None:
        # The engine asks where pods answer, at a port that somebody may have here.
        request.url = request.url.copy_with(port=at.port)

    async with httpx.AsyncClient(event_hooks={"request": [lead_there]}) as http:
        engine = ollama.Ollama(http)
        for variant in variants:
            recipe = state.Recipe(
                recipes.BASE, variant.system, "", variant.parameters, mark=f"{variant.name} {recipes.BASE}"
            )
            async for _ in engine.create(at.host, variant.name, recipe):
                pass


async def by_hand(url: str, variants: Iterable[recipes.Variant]) -> None:
    """Make models of the same words without the operator."""
    async with httpx.AsyncClient(base_url=url, timeout=_CREATE_SECONDS) as http:
        for variant in variants:
            made = {
                "model": variant.by_hand,
                "from": recipes.BASE,
                "system": variant.system,
                "parameters": variant.parameters,
                "stream": False,
            }
            (await http.post("/api/create", json=made)).raise_for_status()


def bytes_on_disk(folder: Path) -> int:
    """Return what all below a folder takes of the disk, in whole blocks."""
    # In units of 512 bytes, whatever the disk's blocks are.
    return sum(found.stat().st_blocks * 512 for found in folder.rglob("*"))
