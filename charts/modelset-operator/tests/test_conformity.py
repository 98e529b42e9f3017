"""What the chart makes, with defaults and with all that can be switched on, beside schemas and good practice.

`kube-score` tells of practice. What of it is not followed is in `LEFT`, with why.
"""

import copy
import functools
import re
import subprocess
from typing import Any

import pytest
import yaml

import schemas
from rendering import helm, manifests, tool
from test_monitoring import MONITORING
from test_values import PODS

METRICS_FROM = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
EVERYTHING = {
    **PODS,
    **MONITORING,
    "networkPolicy": {"metricsFrom": METRICS_FROM},
    "kuberay": {"namespaces": ["ray"]},
    "crds": {"drop": ["spec.proxy.cors"]},
}
VALUES = {
    "defaults": {},
    "several": {"replicas": 2},
    "namespaces": {"watchNamespaces": ["team-a", "team-b"]},
    "everything": EVERYTHING,
}


@functools.cache
def rendered(values: str) -> list[dict[str, Any]]:
    return manifests(helm(values=VALUES[values]))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("values", VALUES)
def test_an_api_server_takes_it_and_knows_every_field(values: str) -> None:
    assert [problem for manifest in rendered(values) for problem in schemas.problems(manifest)] == []


@pytest.mark.parametrize(
    ("kind", "change", "expected"),
    [
        ("Deployment", {"spec": {"replicaz": 1}}, "$.spec: Additional properties"),
        ("Deployment", {"spec": {"replicas": "1"}}, "$.spec.replicas: '1' is not of type"),
        (
            "PodDisruptionBudget",
            {"spec": {"maxUnavailable": [1]}},
            "$.spec.maxUnavailable: [1] is not of type",
        ),
        ("ServiceMonitor", {"spec": {"endpoint": []}}, "$.spec: Additional properties"),
        ("PrometheusRule", {"spec": {"groups": [{}]}}, "$.spec.groups[0]: 'name' is a required"),
    ],
)
def test_what_is_wrong_is_found(kind: str, change: dict[str, Any], expected: str) -> None:
    (manifest,) = (copy.deepcopy(one) for one in rendered("everything") if one["kind"] == kind)
    manifest["spec"] |= change["spec"]
    assert any(expected in problem for problem in schemas.problems(manifest))


# What kube-score would have otherwise: (kind, what it says) -> why it is not so.
LEFT = {
    ("Deployment", "(operator) ImagePullPolicy is not set to Always"): (
        "a release's tag never moves, and a node that cannot reach the registry starts what it has"
    ),
    (
        "Deployment",
        "(operator) CPU limit is not set",
    ): "its request is its share; a limit would hold up looks at sets",
    ("Deployment", "Deployment few replicas"): "one suffices: another pod follows it; more are a value",
    ("Deployment", "The pod does not have a matching egress NetworkPolicy"): (
        "it asks the API server, which no selector of a policy can name, and pods in any namespace"
    ),
    ("Pod", "(check) ImagePullPolicy is not set to Always"): "as the operator's, whose image it is",
    ("Pod", "(check) CPU limit is not set"): "it runs for seconds",
    ("Pod", "The pod does not have a matching NetworkPolicy"): "it listens at no port, and runs for seconds",
}
# What is scored is the chart, not what somebody may say of pods instead.
SCORED: tuple[dict[str, Any], ...] = ({}, {**EVERYTHING, "podSecurityContext": {}, "affinity": {}})


def scored(values: dict[str, Any]) -> set[tuple[str, str]]:
    """Return what kube-score has against a render: of which kind, and what."""
    done = subprocess.run(
        [tool("KUBE_SCORE", "kube-score"), "score", "--output-format", "ci", "-"],
        input=yaml.safe_dump_all(manifests(helm(values=values))),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    found = re.findall(r"^\[(?:CRITICAL|WARNING)\] \S+ (?:\S+/)?(\w+): (.+)$", done.stdout, re.MULTILINE)
    return {(kind, said) for kind, said in found}


@pytest.mark.timeout(120)
def test_it_follows_good_practice_but_for_what_is_listed() -> None:
    """And nothing is listed that is followed by now."""
    assert set.union(*map(scored, SCORED)) == set(LEFT)
