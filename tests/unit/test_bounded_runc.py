"""The runtime wrapper asks runc only for capabilities that the machine can give."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from stack import bounded_runc

WANTED = ["CAP_CHOWN", "CAP_SYS_RESOURCE"]


@pytest.fixture(autouse=True)
def held(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Only CAP_CHOWN is held; what would be executed is recorded instead."""
    executed: list[list[str]] = []
    monkeypatch.setattr(bounded_runc, "bounding_set", lambda: {"CAP_CHOWN"})
    monkeypatch.setattr(os, "execvp", lambda _, arguments: executed.append(arguments))
    return executed


def test_create_drops_what_is_missing_from_the_bundle(tmp_path: Path, held: list[list[str]]) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"process": {"capabilities": {"bounding": WANTED, "effective": WANTED}}}))
    arguments = ["--root", "/run", "create", "--bundle", str(tmp_path), "name"]

    bounded_runc.main(arguments)

    assert json.loads(config.read_text())["process"]["capabilities"] == {
        "bounding": ["CAP_CHOWN"],
        "effective": ["CAP_CHOWN"],
    }
    assert held == [["runc", *arguments]]


def test_exec_drops_what_is_missing_from_the_process(tmp_path: Path) -> None:
    process = tmp_path / "process.json"
    process.write_text(json.dumps({"capabilities": {"bounding": WANTED}}))
    bounded_runc.main(["exec", f"--process={process}", "name"])
    assert json.loads(process.read_text()) == {"capabilities": {"bounding": ["CAP_CHOWN"]}}


def test_a_process_without_capabilities_stays_as_it_is(tmp_path: Path) -> None:
    process = tmp_path / "process.json"
    process.write_text(json.dumps({"args": ["sh"]}))
    bounded_runc.main(["exec", "--process", str(process), "name"])
    assert json.loads(process.read_text()) == {"args": ["sh"]}


def test_other_commands_pass_through(held: list[list[str]]) -> None:
    bounded_runc.main(["delete", "name"])
    assert held == [["runc", "delete", "name"]]
