"""The workflows run what any machine runs, by actions that cannot change."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from stack import cache

WORKFLOWS = sorted((cache.REPOSITORY / ".github" / "workflows").glob("*.yaml"))
TARGETS = set(re.findall(r"^([a-z0-9-]+):", (cache.REPOSITORY / "Makefile").read_text(), re.MULTILINE))


STEPS = [
    pytest.param(step, id=f"{path.stem}-{name}-{step.get('uses') or step.get('run')}")
    for path in WORKFLOWS
    for name, job in yaml.safe_load(path.read_text())["jobs"].items()
    for step in job["steps"]
]


def unknown_commands(script: str) -> list[str]:
    """The lines of a script that are anything but `make` with targets that there are, and variables."""
    return [line for line in script.strip().splitlines() if not _makes(line.split())]


def _makes(words: list[str]) -> bool:
    targets = [word for word in words[1:] if "=" not in word]
    return words[:1] == ["make"] and bool(targets) and set(targets) <= TARGETS


@pytest.mark.parametrize("step", STEPS)
def test_a_step_makes_a_target_or_uses_an_action_by_its_commit(step: dict[str, Any]) -> None:
    if "uses" in step:
        assert re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}", step["uses"])
    else:
        assert unknown_commands(step["run"]) == []


@pytest.mark.parametrize(
    ("script", "unknown"),
    [
        ("make lint unit", []),
        ("make release REGISTRY=a", []),
        ("make", ["make"]),
        ("make nothing-like-it", ["make nothing-like-it"]),
        ("make lint\ncurl x", ["curl x"]),
        ("make lint && curl", ["make lint && curl"]),
    ],
)
def test_other_commands_are_noticed(script: str, unknown: list[str]) -> None:
    assert unknown_commands(script) == unknown


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_each_commit_has_its_release_beside_it_and_the_same_one_everywhere(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if "uses:" in line]
    assert lines
    for line in lines:
        assert re.search(r"@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), line


def test_an_action_is_of_one_release_in_all_workflows() -> None:
    text = "\n".join(path.read_text() for path in WORKFLOWS)
    used = set(re.findall(r"uses: (\S+)@(\S+ # \S+)$", text, re.MULTILINE))
    assert used
    assert len({action for action, _ in used}) == len(used)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_may_do_nothing_that_it_does_not_say(path: Path) -> None:
    permissions = yaml.safe_load(path.read_text())["permissions"]
    assert permissions in ({}, {"contents": "read"})


def test_a_release_is_made_by_a_tag_under_the_name_of_whoever_owns_the_repository() -> None:
    text = next(path for path in WORKFLOWS if path.stem == "release").read_text()
    workflow = yaml.safe_load(text)
    # YAML 1.1 reads `on` as true.
    assert workflow[True] == {"push": {"tags": ["v*"]}}
    (job,) = workflow["jobs"].values()
    assert job["permissions"] == {"contents": "write", "packages": "write", "id-token": "write"}
    assert job["env"]["REGISTRY"] == "ghcr.io/${{ github.repository_owner }}"
    assert "DRY_RUN" not in text
