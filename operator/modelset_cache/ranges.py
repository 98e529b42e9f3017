"""Which bytes of a file a request asks for (RFC 9110, 14). Pure."""

import re

_ONE = re.compile(r"bytes=([0-9]+)-([0-9]*)")
_CONTENT = re.compile(r"bytes ([0-9]+)-([0-9]+)/([0-9]+)")


class UnsatisfiableError(ValueError):
    """A range begins beyond the end."""


def asked(header: str | None, size: int) -> tuple[int, int] | None:
    """Return from which byte to before which one, None for all: what is no single range counts as none."""
    found = _ONE.fullmatch(header or "")
    if found is None:
        return None
    start, last = int(found[1]), int(found[2]) if found[2] else size
    if start >= size or last < start:
        raise UnsatisfiableError(header)
    return start, min(last, size - 1) + 1


def answered(header: str) -> tuple[int, int] | None:
    """Return with which byte a part begins and how large the whole is, None where that is not said."""
    found = _CONTENT.fullmatch(header.strip())
    return None if found is None else (int(found[1]), int(found[3]))
