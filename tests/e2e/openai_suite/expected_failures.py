"""A pytest plugin that runs with openai-python's own tests: what expected_failures.toml lists has to fail.

It is loaded in their environment (pins/openai-suite.txt), where nothing else of this repository is.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

LIST = Path(__file__).with_suffix(".toml")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    collected = {item.nodeid: item for item in items}
    missing = []
    for group in tomllib.loads(LIST.read_text())["group"]:
        error = pytest.RaisesExc(getattr(openai, group["error"]), match=group["message"])
        mark = pytest.mark.xfail(reason=group["reason"], raises=error, strict=True)
        for name in _names(group):
            if name in collected:
                collected[name].add_marker(mark)
            else:
                missing.append(name)
    if missing:
        raise pytest.UsageError(f"{LIST.name} lists tests that do not exist: {', '.join(missing)}")


def _names(group: dict[str, Any]) -> Iterator[str]:
    for test in group["tests"]:
        for test_class, clients in group["clients"].items():
            for client in clients:
                yield f"{group['file']}::{test_class}::{test}[{client}]"
