"""Errors in words that stay the same while the trouble does, and what some of them mean. Pure."""

import re

# What Go says of a connection begins with the port that was ours: "read tcp 10.0.0.7:51234->1.2.3.4:443".
_OURS = re.compile(r"\b(tcp|udp)([46]?) \S+:\d+->")
# The system's own words, whatever the engine says around them.
_FULL = ("no space left on device", "disk quota exceeded")
# Ollama says no more than that a file ended (server/download.go, readPart).
_CUT_SHORT = ("EOF", "unexpected EOF")
_SINCE = ", since "


def lasting(text: str) -> str:
    """Return an error without the address and port from which a connection was made."""
    return _OURS.sub(r"\1\2 ", text)


def disk_full(text: str) -> bool:
    """Whether a full disk is what an error tells of."""
    return any(words in text for words in _FULL)


def cut_short(text: str) -> bool:
    """Whether Ollama cannot read what it keeps of a download: a full disk leaves files without content."""
    return text in _CUT_SHORT


def cut_short_since(text: str) -> bool:
    """Whether it cannot, and it is known since when: see `following`."""
    return text.startswith(tuple(f"{words}{_SINCE}" for words in _CUT_SHORT))


def following(text: str, before: str) -> str:
    """Return an error with the one before where that explains it: the disk was full when it was written."""
    if not (cut_short(text) and disk_full(before)):
        return text
    return before if cut_short_since(before) else f"{text}{_SINCE}{before}"
