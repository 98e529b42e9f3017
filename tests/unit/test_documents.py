"""Links between the documents lead somewhere."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import pytest

from stack import cache

DOCUMENTS = sorted(
    path
    for folder in (".", "docs", "charts/modelset-operator")
    for path in (cache.REPOSITORY / folder).glob("*.md")
)
# What leads into the repository: neither an address nor a mark in the very document.
_LINK = re.compile(r"\]\((?!\w+:)([^)\s#]*)(?:#([^)\s]+))?\)")


@functools.cache
def marks(path: Path) -> set[str]:
    """What links into a document may name: its headings, as GitHub writes them in addresses, and anchors."""
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {slug(heading) for heading in headings} | set(re.findall(r'<a id="([^"]+)">', text))


def slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def test_a_heading_is_named_as_github_does() -> None:
    assert slug("What it needs: `spec.ollama`, and more?") == "what-it-needs-specollama-and-more"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(cache.REPOSITORY)))
def test_links_lead_to_what_is_there(path: Path) -> None:
    lost = []
    for target, mark in _LINK.findall(path.read_text()):
        file = (path.parent / target).resolve() if target else path
        if not file.exists() or (mark and file.suffix == ".md" and mark not in marks(file)):
            lost.append(f"{target}#{mark}" if mark else target)
    assert lost == []
