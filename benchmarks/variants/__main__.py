"""`python -m benchmarks.variants`: many variants of one base on one real Ollama; a line a floor.

Ends non-zero when one is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from pathlib import Path

import httpx

from benchmarks import contenders, floors, folders, models, ollama, proxied
from benchmarks.variants import asking, making, recipes, result
from stack import step

_VARIANTS, _EACH, _CLIENTS = 50, 20, 8
_PARALLEL = 4
_CONTEXT_LENGTH = 1024


def main() -> None:
    """Parse the command line, measure, tell."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.variants", description=__doc__)
    parser.add_argument("--variants", type=int, default=_VARIANTS, help="how many (%(default)s)")
    parser.add_argument("--each", type=int, default=_EACH, help="how often each is asked (%(default)s)")
    arguments = parser.parse_args()
    # Ended from outside, it still ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with (
        folders.short() as folder,
        ollama.started(
            folder, copies=1, OLLAMA_MAX_LOADED_MODELS="1", OLLAMA_NUM_PARALLEL=str(_PARALLEL)
        ) as [server],
    ):
        figures = asyncio.run(_measure(arguments.variants, arguments.each, server, folder))
    sys.exit(floors.tell(result.asked_for(figures)))


async def _measure(count: int, each: int, server: contenders.Upstream, folder: Path) -> result.Figures:
    variants = recipes.variants(count)
    with step.step("make the base"):
        models.make_copies(server.url, [recipes.BASE])
    empty = making.bytes_on_disk(folder / "models")
    with step.step(f"make {count} variants as the operator does"):
        await making.by_the_operator(server.url, variants)
    disk = making.bytes_on_disk(folder / "models") - empty
    with step.step(f"make {count} models of the same words by hand"):
        await making.by_hand(server.url, variants)
    async with proxied.serving([server.url], _configured(variants)) as url, httpx.AsyncClient() as http:
        client = asking.Client(http, url, server.url, _CONTEXT_LENGTH)
        with step.step("ask each variant, one at a time"):
            ours = [await client.through_the_proxy(variant.name) for variant in variants]
        with step.step("ask each model that was made by hand, one at a time"):
            own = [await client.of_ollama(variant.by_hand) for variant in variants]
        order = recipes.interleaved(count, each)
        with step.step(f"{len(order):,} requests to all variants, {_CLIENTS} at a time"):
            began = time.monotonic()
            answers = await client.all([variants[number].name for number in order], _CLIENTS)
            seconds = time.monotonic() - began
    return result.Figures(
        disk=disk,
        loads=_loads(server),
        alone=list(zip(ours, own, strict=True)),
        interleaved=list(zip(order, answers, strict=True)),
        seconds=seconds,
    )


def _loads(server: contenders.Upstream) -> int:
    """Return how often Ollama has loaded a model since it was started."""
    found = len(ollama.loads(server.group.log.read_text()))
    if not found:
        raise step.StepFailed("Ollama has answered, but its log tells of no load")
    return found


def _configured(variants: list[recipes.Variant]) -> dict[str, object]:
    """Return what the operator tells the proxy of a base and its variants."""
    served = [
        {
            "model": name,
            "servedNames": [name],
            "type": "Chat",
            "capabilities": ["completion"],
            "contextLength": _CONTEXT_LENGTH,
            "created": 0,
        }
        for name in (recipes.BASE, *(variant.name for variant in variants))
    ]
    limits = {"maxInFlightPerServer": _PARALLEL, "maxLoadedPerServer": 1}
    return {"models": served, "limits": limits}


if __name__ == "__main__":
    step.main(main)
