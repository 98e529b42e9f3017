"""`make audit` reads what pip-audit and govulncheck say, tells what is new, and is not put off."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stack import audit
from stack.audit import Finding
from stack.step import StepFailed


def package(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "version": "1.0", "vulns": []} | more


def test_python_packages_with_something_known_are_found() -> None:
    known = [{"id": "PYSEC-1", "fix_versions": ["1.1", "2.0"]}, {"id": "GHSA-2", "fix_versions": []}]
    said = json.dumps({"dependencies": [package("good"), package("bad", vulns=known)]})
    assert list(audit.python_findings("operator", said, "found 2")) == [
        Finding("operator", "PYSEC-1", "bad 1.0", "1.1, 2.0"),
        Finding("operator", "GHSA-2", "bad 1.0", ""),
    ]


@pytest.mark.parametrize(
    ("said", "complaint", "expected"),
    [
        ("", "connection refused", "PyPI cannot be asked about pins/operator.txt: connection refused"),
        (
            json.dumps({"dependencies": [{"name": "a", "skip_reason": "not found"}, package("b")]}),
            "",
            "PyPI does not tell of 1 packages in pins/operator.txt, a first",
        ),
    ],
)
def test_packages_of_which_pypi_says_nothing_are_no_good_news(
    said: str, complaint: str, expected: str
) -> None:
    with pytest.raises(StepFailed, match=expected):
        list(audit.python_findings("operator", said, complaint))


def finding(identifier: str, fixed: str = "", **trace: str) -> dict[str, Any]:
    found = {"osv": identifier, "trace": [{"module": "m", "version": "v1"} | trace]}
    return {"finding": found | ({"fixed_version": fixed} if fixed else {})}


def test_what_is_in_a_program_is_found_once_and_what_only_its_modules_have_is_not() -> None:
    messages = [
        {"config": {"protocol_version": "v1"}},
        finding("GO-1", "v2"),
        finding("GO-1", "v2", package="p", function="f"),
        finding("GO-1", "v2", package="p", function="g"),
        finding("GO-2"),
        finding("GO-3", function="h"),
    ]
    said = "\n".join(json.dumps(message, indent=2) for message in messages) + "\n"
    assert list(audit.go_findings("ollama", said, "")) == [
        Finding("ollama", "GO-1", "m v1", "v2"),
        Finding("ollama", "GO-3", "m v1", ""),
    ]


def test_a_database_that_cannot_be_asked_is_told() -> None:
    with pytest.raises(StepFailed, match=r"cannot be asked about ollama: no such host \(VULNDB="):
        list(audit.go_findings("ollama", "", "no such host"))


OLD, NEW = Finding("operator", "A-1", "old 1.0", "2.0"), Finding("kuberay", "A-1", "new 1.0", "2.0")


@pytest.mark.parametrize(
    ("found", "silent", "printed", "failed"),
    [
        ([OLD], False, "", ""),
        ([OLD, NEW], False, f"{NEW}\n", "upgrade what has a fixed version"),
        ([OLD], True, "", "not all was asked.*\nno answer"),
        ([NEW], True, f"{NEW}\n", "not all was asked.*\nno answer"),
    ],
)
def test_what_is_new_fails_and_so_does_silence(
    found: list[Finding],
    silent: bool,
    printed: str,
    failed: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def of(name: str) -> Iterator[Finding]:
        yield from (one for one in found if one.where == name)
        if silent and name == "ollama":
            raise StepFailed("no answer")

    file = tmp_path / "audit.toml"
    file.write_text('[[known]]\nwhere = "operator"\nwhy = "it is"\nids = ["A-1"]\n')
    monkeypatch.setattr(audit, "KNOWN", file)
    monkeypatch.setattr(audit, "_python", of)
    monkeypatch.setattr(audit, "_go", of)
    if failed:
        with pytest.raises(StepFailed, match=failed):
            audit.run()
    else:
        audit.run()
    assert capsys.readouterr().out == printed


def test_what_is_no_longer_found_is_told_where_all_was_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "audit.toml"
    file.write_text('[[known]]\nwhere = "operator"\nwhy = "it was"\nids = ["A-1"]\n')
    monkeypatch.setattr(audit, "KNOWN", file)
    monkeypatch.setattr(audit, "_python", lambda _: iter(()))
    monkeypatch.setattr(audit, "_go", lambda _: iter(()))
    audit.run()
    assert "take it out of audit.toml: operator A-1" in capsys.readouterr().err
