"""The tests that OpenAI's Python client comes with, against a set that serves models under OpenAI's names."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from stack import python
from tests.e2e.support import modelset as ms

PLUGIN = Path(__file__).parent / "openai_suite" / "expected_failures.py"
FILES = (
    "tests/api_resources/chat/test_completions.py",
    "tests/api_resources/test_completions.py",
    "tests/api_resources/test_embeddings.py",
    "tests/api_resources/test_models.py",
)
# Nothing else: no failure, nothing skipped or left out.
AS_EXPECTED = re.compile(r"=+ \d+ passed, \d+ xfailed in .* =+")


def test_openais_own_tests_pass_but_for_those_that_are_listed(
    assistants: ms.ModelSet, capsys: pytest.CaptureFixture[str]
) -> None:
    with assistants.client() as client:
        status, report = _run(str(client.base_url))
    closing_line = report.splitlines()[-1]
    with capsys.disabled():
        sys.stdout.write(f"\nopenai-python's own tests:\n{closing_line}\n")
    assert status == 0, report
    assert AS_EXPECTED.fullmatch(closing_line), report


def _run(base_url: str) -> tuple[int, str]:
    """The exit status of pytest in the client's source distribution, and what it printed."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "PYTEST_"))}
    env |= {"TEST_API_BASE_URL": base_url, "PYTHONPATH": str(PLUGIN.parent)}
    env |= {"COLUMNS": "100", "CI": "true"}  # CI: reasons are not cut at the width
    done = subprocess.run(
        [
            python.environment("openai-suite") / "bin" / "python",
            "-m",
            "pytest",
            "--override-ini=addopts=",
            *("-p", PLUGIN.stem, "-p", "no:cacheprovider"),
            *("--no-header", "--tb=line", "--show-capture=no", "-rfE"),
            *FILES,
        ],
        cwd=python.source("openai-suite", "openai"),
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout
