"""Tests that look back at all others come last, and a part of them never judges what takes all."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

CONFTEST = """
from pathlib import Path
import pytest
from tests.e2e.support import whole

def pytest_configure(config):
    config.addinivalue_line("markers", "looks_back: see the support")

@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    whole.arrange(config, items, Path(__file__).parent)

def pytest_deselected(items):
    whole.left_out(items)

def pytest_terminal_summary(terminalreporter, config):
    terminalreporter.write_line(f"unjudged: {whole.unjudged(config)}")
"""
BACK = """
import pytest

@pytest.mark.looks_back
def test_anything(): pass

@pytest.mark.looks_back(whole=True)
def test_everything(): pass
"""
ALWAYS = ["test_one", "test_two", "test_anything"]


@pytest.mark.parametrize(
    ("arguments", "ran", "unjudged"),
    [
        ([], [*ALWAYS, "test_everything"], False),
        (["."], [*ALWAYS, "test_everything"], False),
        (["-k", "not two"], ["test_one", "test_anything"], True),
        (["-m", "not slow"], ["test_one", "test_anything"], True),
        (["--deselect", "test_b.py::test_two"], ["test_one", "test_anything"], True),
        (["test_a_back.py", "test_b.py"], ["test_two", "test_anything"], True),
        (["test_a.py", "test_a_back.py", "test_b.py::test_two"], ALWAYS, True),
        (["test_b.py"], ["test_two"], False),
    ],
)
def test_what_looks_back(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    ran: list[str],
    unjudged: bool,
) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makeini("[pytest]\nmarkers = slow: takes long")
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(
        test_a="def test_one(): pass",
        test_a_back=BACK,
        test_b="import pytest\n\n@pytest.mark.slow\ndef test_two(): pass",
    )
    done = pytester.runpytest_inprocess("-v", "-p", "no:cacheprovider", *arguments)
    passed = [line.split()[0].partition("::")[2] for line in done.outlines if " PASSED" in line]
    assert passed == ran
    expected = ["test_a_back.py::test_everything"] if unjudged else []
    assert f"unjudged: {expected}" in done.outlines
