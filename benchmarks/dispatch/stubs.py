"""More servers answer more: the whole proxy over HTTP, in front of stubs of Ollama with slots."""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

from benchmarks import floors, folders, load_tool, proxied
from stack import step

_MODEL = "paced"
_PARALLEL = 4
_CLIENTS = 24
_TOKENS = 16
# Of each slot: so many answers of a third of a second.
_ANSWERS = 30


def scaling() -> Iterator[floors.Floor]:
    """One model, more requests than can be answered, and 1, 2 and 3 servers."""
    rates = []
    for count in (1, 2, 3):
        with step.step(f"the proxy in front of {count} stubs"), folders.short() as folder:
            rates.append(asyncio.run(_rate(folder, count)))
    for count, floor in ((2, 1.9), (3, 2.8)):
        yield floors.Floor(
            f"answers a second with {count} servers, of those with one",
            rates[count - 1] / rates[0],
            floor,
            at_least=True,
            note=f"{rates[count - 1]:.1f} and {rates[0]:.1f}",
        )


async def _rate(folder: Path, count: int) -> float:
    """Return how many answers a second come through the proxy from so many stubs."""
    with contextlib.ExitStack() as stack:
        urls = []
        for number in range(count):
            own = folder / str(number)
            own.mkdir()
            url, _ = stack.enter_context(load_tool.stub(own, _PARALLEL))
            urls.append(url)
        models = [{"model": _MODEL, "servedNames": [_MODEL], "type": "Chat", "created": 0}]
        configured = {"models": models, "limits": {"maxInFlightPerServer": _PARALLEL}}
        async with proxied.serving(urls, configured) as url:
            result = await asyncio.to_thread(
                load_tool.drive,
                "unary",
                url=url,
                model=_MODEL,
                clients=str(_CLIENTS),
                tokens=str(_TOKENS),
                count=str(count * _PARALLEL * _ANSWERS),
                limit="60s",
            )
    if result["errors"]:
        raise load_tool.LoadFailedError(result["error"])
    return float(result["requests_per_second"])
