"""Replies that may be megabytes, in parts of which each is made in short time."""

from collections.abc import Callable, Iterable, Iterator

_PART_BYTES = 128 * 1024


def around(items: Iterable[bytes], head: bytes, tail: Callable[[], bytes]) -> Iterator[bytes]:
    """Yield a JSON text: ``head``, the items of a list, and what ``tail`` returns after the last of them."""
    part = bytearray(head)
    comma = b""
    for item in items:
        part += comma
        part += item
        comma = b","
        if len(part) > _PART_BYTES:
            yield bytes(part)
            part.clear()
    yield bytes(part + tail())
