"""Versions that are pinned outside go.mod files and hashed requirement files: pins/versions.toml.

`COMPAT` names a combination of other versions, a folder of pins/compat: what lies in it stands in the place
of its namesake in pins/.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import tomllib
from pathlib import Path

from stack import cache
from stack.step import StepFailed

FOLDER = cache.REPOSITORY / "pins"
COMBINATIONS = FOLDER / "compat"


@dataclasses.dataclass(frozen=True)
class Pins:
    """The content of pins/versions.toml; every field is explained there."""

    version: str
    go: str
    debian: str
    pulled: dict[str, str]


def combinations() -> list[str]:
    """The names that COMPAT may have."""
    return sorted((folder.name for folder in COMBINATIONS.iterdir()), reverse=True)


def at(name: str) -> Path:
    """A file or folder of pins/, or what the combination has in its place."""
    if not (combination := os.environ.get("COMPAT", "")):
        return FOLDER / name
    if combination not in (there := combinations()):
        raise StepFailed(f"COMPAT is {combination!r}: use {' or '.join(there)}")
    other = COMBINATIONS / combination / name
    return other if other.exists() else FOLDER / name


def load() -> Pins:
    """Read the file once; a combination's own names only the images that are pulled instead."""
    return _load(at("versions.toml"))


@functools.cache
def _load(own: Path) -> Pins:
    pins = tomllib.loads((FOLDER / "versions.toml").read_text())
    return Pins(**pins | {"pulled": pins["pulled"] | tomllib.loads(own.read_text())["pulled"]})
