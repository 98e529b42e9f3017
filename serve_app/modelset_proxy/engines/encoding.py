"""Bodies of requests to model servers: small ones as bytes, large ones made while they are sent. Pure but for
the pauses.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec

_STEP_BYTES = 128 * 1024
# What a value takes beside its texts, about.
_VALUE_BYTES = 16


class Parts:
    """The JSON of a value, part by part, as often as it is asked for."""

    def __init__(self, value: Any) -> None:
        self._value = value

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the parts, and let others have their turn in between."""
        for part in encode(self._value):
            yield part
            await asyncio.sleep(0)


def body(fields: dict[str, Any], bulk: str) -> bytes | Parts:
    """Return the body that consists of fields, of which one may be large."""
    return Parts(fields) if _size(fields[bulk]) > _STEP_BYTES else msgspec.json.encode(fields)


def encode(value: Any) -> Iterator[bytes]:
    """Yield the JSON of a value in parts; each is made in short time."""
    if _size(value) <= _STEP_BYTES:
        yield msgspec.json.encode(value)
    elif isinstance(value, str):
        yield b'"'
        for start in range(0, len(value), _STEP_BYTES):
            yield msgspec.json.encode(value[start : start + _STEP_BYTES])[1:-1]
        yield b'"'
    elif isinstance(value, dict):
        for number, (name, item) in enumerate(value.items()):
            yield (b"," if number else b"{") + msgspec.json.encode(name) + b":"
            yield from encode(item)
        yield b"}"
    else:
        for number, items in enumerate(_batches(value)):
            yield b"," if number else b"["
            if len(items) > 1:
                yield msgspec.json.encode(items)[1:-1]
            else:
                yield from encode(items[0])
        yield b"]"


def _batches(items: list[Any]) -> Iterator[list[Any]]:
    batch: list[Any] = []
    size = 0
    for item in items:
        more = _size(item)
        if batch and size + more > _STEP_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += more
    yield batch


def _size(value: Any, most: int = _STEP_BYTES) -> int:
    """Return about how many bytes a value takes, or any number above ``most`` when it is more."""
    if isinstance(value, str):
        return len(value) + _VALUE_BYTES
    size = _VALUE_BYTES
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            # Most are, and every message of every chat comes by here.
            size += len(item) + _VALUE_BYTES if type(item) is str else _size(item, most - size)
            if size > most:
                break
    return size
