"""Release notes out of CHANGELOG.md, which follows Keep a Changelog."""

from __future__ import annotations

import re

from stack.step import StepFailed

_HEADING = re.compile(r"^## +\[?([^\]\s]+)\]?.*$", re.MULTILINE)
UNRELEASED = "Unreleased"


def sections(changelog: str) -> dict[str, str]:
    """What stands below each heading of the second level, by the version in it or `Unreleased`."""
    headings = list(_HEADING.finditer(changelog))
    ends = [heading.start() for heading in headings[1:]] + [len(changelog)]
    return {
        heading[1]: changelog[heading.end() : end].strip()
        for heading, end in zip(headings, ends, strict=True)
    }


def notes(changelog: str, version: str, *, or_unreleased: bool = False) -> str:
    """The notes of a version; those of what is unreleased, where that will do and there are no others."""
    found = sections(changelog)
    text = found.get(version) or (found.get(UNRELEASED) if or_unreleased else None)
    if not text:
        raise StepFailed(f"CHANGELOG.md says nothing below a heading `## {version}`")
    return text


def linked(text: str, source: str, tag: str) -> str:
    """The notes with links into the repository made absolute: `source` is its address, `tag` the release."""
    return re.sub(r"\]\((?!\w+:|#)([^)\s]+)\)", rf"]({source}/blob/{tag}/\1)", text)
