"""`helm test`, as somebody who has just installed the chart."""

from __future__ import annotations

import pytest

from stack import cluster, step
from tests.e2e.support.kube import Kube

pytestmark = pytest.mark.compat

OPERATOR = Kube(cluster.OPERATOR_NAMESPACE)


def test_it_passes_under_restricted_pod_security_and_leaves_nothing() -> None:
    level = "pod-security.kubernetes.io/enforce"
    OPERATOR.run("label", "namespace", OPERATOR.namespace, f"{level}=restricted", "--overwrite")
    try:
        said = step.output(cluster.helm_command("test", cluster.RELEASE, "--timeout", "150s"))
    finally:
        OPERATOR.run("label", "namespace", OPERATOR.namespace, f"{level}-")
    assert said.count("Succeeded") == 3  # the Service, the NetworkPolicy, the pod
    left = OPERATOR.find("pods,services,networkpolicies", "app.kubernetes.io/name=modelset-operator-test")
    assert left == []
