"""Waiting for a condition, with what was last seen in the message when it does not come."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Seen = TypeVar("Seen")

POLL_SECONDS = 0.5


def until(look: Callable[[], Seen], holds: Callable[[Seen], bool], *, seconds: float, what: str) -> Seen:
    """Look again and again until `holds(look())`; fail after `seconds` with what was seen last."""
    deadline = time.monotonic() + seconds
    while True:
        seen = look()
        if holds(seen):
            return seen
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what}; last seen: {seen}")
        time.sleep(POLL_SECONDS)
