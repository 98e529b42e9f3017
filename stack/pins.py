"""Versions that are pinned outside go.mod files and hashed requirement files: pins/versions.toml."""

from __future__ import annotations

import dataclasses
import functools
import tomllib

from stack import cache

FOLDER = cache.REPOSITORY / "pins"


@dataclasses.dataclass(frozen=True)
class Pins:
    """The content of pins/versions.toml; every field is explained there."""

    version: str
    go: str
    debian: str
    pulled: dict[str, str]


@functools.cache
def load() -> Pins:
    """Read the file once."""
    return Pins(**tomllib.loads((FOLDER / "versions.toml").read_text()))
