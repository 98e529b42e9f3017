"""Tests that look back at all others (`looks_back`): they come last, and some of them only in a whole run."""

from __future__ import annotations

from pathlib import Path

import pytest

MARK = "looks_back"
_LEFT_OUT: pytest.StashKey[bool] = pytest.StashKey()
_UNJUDGED: pytest.StashKey[list[str]] = pytest.StashKey()


def left_out(items: list[pytest.Item]) -> None:
    """Take notice that tests were left out, by -k, -m or --deselect."""
    for item in items:
        item.config.stash[_LEFT_OUT] = True


def arrange(config: pytest.Config, items: list[pytest.Item], folder: Path) -> None:
    """Put what looks back last; what takes a run of all tests of a folder is left out of any other one."""
    whole = _is_whole(config, items, folder)
    judged: list[pytest.Item] = []
    unjudged: list[pytest.Item] = []
    for item in items:
        mark = item.get_closest_marker(MARK)
        needs_all = mark is not None and mark.kwargs.get("whole", False)
        (unjudged if needs_all and not whole else judged).append(item)
    items[:] = sorted(judged, key=lambda item: item.get_closest_marker(MARK) is not None)
    if unjudged:
        config.stash[_UNJUDGED] = [item.nodeid for item in unjudged]
        config.hook.pytest_deselected(items=unjudged)


def _is_whole(config: pytest.Config, items: list[pytest.Item], folder: Path) -> bool:
    chosen = config.stash.get(_LEFT_OUT, False) or any("::" in argument for argument in config.args)
    return not chosen and {item.path for item in items} >= set(folder.rglob("test_*.py"))


def unjudged(config: pytest.Config) -> list[str]:
    """What a run of all tests would have judged, and this one could not."""
    return config.stash.get(_UNJUDGED, [])
