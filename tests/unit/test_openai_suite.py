"""The list of openai-python's own tests that have to fail cannot go stale: see tests/e2e/openai_suite."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from stack import cache

PLUGIN = cache.REPOSITORY / "tests" / "e2e" / "openai_suite" / "expected_failures.py"
LIST = """
[[group]]
reason = "It is asked for what there is not."
error = "OpenAIError"
message = "Error code: 404"
file = "test_suite.py"
tests = ["test_as_listed", "test_other_message", "test_other_error", "test_passes"{more}]
[group.clients]
TestClass = ["loose"]
"""
# What both know of openai; to import the real one takes longer than all else here.
OPENAI = "class OpenAIError(Exception): pass"
SUITE = """
import openai
import pytest

@pytest.mark.parametrize("client", ["loose"])
class TestClass:
    def test_as_listed(self, client):
        raise openai.OpenAIError("Error code: 404")

    def test_other_message(self, client):
        raise openai.OpenAIError("Error code: 500")

    def test_other_error(self, client):
        raise ValueError("Error code: 404")

    def test_passes(self, client):
        assert client
"""


def test_a_listed_test_has_to_fail_as_the_list_says(tmp_path: Path) -> None:
    status, report = _run(tmp_path, LIST.format(more=""))
    assert status == 1, report
    assert "3 failed, 1 xfailed" in report
    for name in ("test_other_message", "test_other_error", "test_passes"):
        assert f"FAILED test_suite.py::TestClass::{name}[loose]" in report


def test_a_listed_test_has_to_exist(tmp_path: Path) -> None:
    status, report = _run(tmp_path, LIST.format(more=', "test_gone"'))
    assert status == 4, report
    assert "lists tests that do not exist: test_suite.py::TestClass::test_gone[loose]" in report


def _run(folder: Path, listed: str) -> tuple[int, str]:
    """pytest's exit status and output, for a suite of which these tests are listed."""
    shutil.copy(PLUGIN, folder)
    (folder / f"{PLUGIN.stem}.toml").write_text(listed)
    (folder / "openai.py").write_text(OPENAI)
    (folder / "test_suite.py").write_text(SUITE)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir=.", "-p", PLUGIN.stem, "test_suite.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "CI": "true", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout
