"""`cluster.forwarded` waits until kubectl forwards, and says what kubectl said when it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from stack import cluster
from stack.step import StepFailed


def kubectl_that(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    def command(*arguments: str | Path) -> list[str | Path]:
        return ["sh", "-c", script, "kubectl", *arguments]

    monkeypatch.setattr(cluster, "kubectl_command", command)


def test_the_port_is_known_whatever_is_said_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    said = 'echo "a warning" >&2; echo "Forwarding from 127.0.0.1:4711 -> 8000"'
    kubectl_that(monkeypatch, f'echo "$@" > {asked}; {said}; exec sleep 60')
    with cluster.forwarded("here", "service/thing", 8000) as port:
        assert port == 4711
    assert asked.read_text().split() == ["port-forward", "--namespace", "here", "service/thing", ":8000"]


def test_a_refusal_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    kubectl_that(monkeypatch, 'echo "error: services thing not found" >&2; exit 1')
    with (
        pytest.raises(StepFailed, match="service/thing in here: error: services thing not found"),
        cluster.forwarded("here", "service/thing", 8000),
    ):
        pass
