"""Every example is a manifest that a real API server takes, and the client script works as it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from stack import cache
from tests.e2e.support import modelset as ms
from tests.e2e.support.kube import Kube

EXAMPLES = cache.REPOSITORY / "examples"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_a_manifest_is_taken(shared_kube: Kube, path: Path) -> None:
    assert "assistants" in shared_kube.run("apply", "--dry-run=server", "--filename", str(path))


def test_the_client_script_prints_both_models_answers(assistants: ms.ModelSet) -> None:
    with assistants.client() as client:
        printed = subprocess.run(
            [sys.executable, EXAMPLES / "client.py", str(client.base_url)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
    assert printed[0].removeprefix("models:").strip().split(", ") == ms.SHARED_NAMES
    assert printed[1].startswith("smollm2: ")
    assert printed[2].split() == ["all-minilm:", "384", "dimensions"]
