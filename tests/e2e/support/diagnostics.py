"""What a failed test leaves to read: statuses, events, pods and logs of its namespaces."""

from __future__ import annotations

from pathlib import Path

import pytest

from stack import cache, cluster
from tests.e2e.support.kube import Kube, Refused

LOG_LINES = "200"


def attach(report: pytest.TestReport, test: str, namespaces: list[str]) -> None:
    """Have the report of a failed test say where it is told how the namespaces were."""
    folder = _dump(test, namespaces)
    report.sections.append(("diagnostics", f"statuses, events and logs are in {folder}"))


def _dump(test: str, namespaces: list[str]) -> Path:
    """Write a folder of text files about the namespaces; return it."""
    folder = cache.root() / "logs" / "e2e" / test
    folder.mkdir(parents=True, exist_ok=True)
    for namespace in [*namespaces, cluster.OPERATOR_NAMESPACE]:
        kube = Kube(namespace)
        questions = {
            "modelsets.yaml": ["get", "ollamamodelsets", "--output", "yaml"],
            "rayservices.yaml": ["get", "rayservices", "--output", "yaml"],
            "pods.txt": ["get", "pods", "--output", "wide"],
            "describe-pods.txt": ["describe", "pods"],
            "events.txt": ["get", "events", "--sort-by=.lastTimestamp"],
        }
        for name, question in questions.items():
            (folder / f"{namespace}-{name}").write_text(_answer(kube, question))
        for pod in _answer(kube, ["get", "pods", "--output", "name"]).split():
            log = _answer(kube, ["logs", pod, "--all-containers", "--prefix", f"--tail={LOG_LINES}"])
            (folder / f"{namespace}-{pod.removeprefix('pod/')}.log").write_text(log)
    return folder


def _answer(kube: Kube, question: list[str]) -> str:
    try:
        return kube.run(*question)
    except Refused as error:
        return f"{error}\n"
