"""One version, written in several files: that of the packages, the images and the chart."""

from __future__ import annotations

import re
from collections.abc import Mapping

from stack import cache, pins
from stack.step import StepFailed

# Where it is written, and how: the file, and what stands in front of it in a line.
PLACES = {
    "operator/pyproject.toml": r"version = ",
    "operator/modelset_operator/__init__.py": r"__version__ = ",
    "serve_app/pyproject.toml": r"version = ",
    "charts/modelset-operator/Chart.yaml": r"version: ",
    "charts/modelset-operator/Chart.yaml#appVersion": r"appVersion: ",
}


def written() -> dict[str, str]:
    """The version in each of these files, "" where there is none."""
    return {place: _version_in(place, before) for place, before in PLACES.items()}


def _version_in(place: str, before: str) -> str:
    text = (cache.REPOSITORY / place.partition("#")[0]).read_text()
    found = re.search(rf'^{before}"?([^"\s]+)"?\s*$', text, re.MULTILINE)
    return found[1] if found else ""


def agreed(found: Mapping[str, str], version: str, tag: str = "") -> str:
    """The version, or StepFailed with all that says another one; `tag` is what is released, "" for any."""
    problems = [f"{place} says {other or 'none'}" for place, other in found.items() if other != version]
    if tag and tag != f"v{version}":
        problems.append(f"the tag is {tag}")
    if problems:
        raise StepFailed(f"pins/versions.toml says {version}, but {'; '.join(problems)}")
    return version


def ensure(tag: str = "") -> str:
    """The version that all files and the tag agree on; StepFailed when they do not."""
    return agreed(written(), pins.load().version, tag)
