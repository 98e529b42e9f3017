"""The commands that a document tells to type."""

from __future__ import annotations

import re
from pathlib import Path

_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"^\$ ((?:.*\\\n)*.*)$", re.MULTILINE)


def commands(text: str, heading: str) -> list[str]:
    """The commands in the console blocks below a heading, up to the next one, without their prompt.

    A command that goes on in further lines is one. LookupError without such a heading, or a command below it.
    """
    part = re.search(rf"^#+ {re.escape(heading)}$\n(.*?)(?=^#+ |\Z)", text, re.MULTILINE | re.DOTALL)
    found = (
        [command for block in _BLOCK.findall(part[1]) for command in _COMMAND.findall(block)] if part else []
    )
    if not found:
        raise LookupError(f"no command below a heading {heading!r}")
    return found


def read(path: Path, *headings: str) -> list[str]:
    """The commands of a file below several headings, in their order."""
    return [command for heading in headings for command in commands(path.read_text(), heading)]
