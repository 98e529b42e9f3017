"""Pods outside of sets that have business with their pods: the operator's own, KubeRay's, and Prometheus'."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Pods:
    """Pods by their labels, in some namespaces; none named means in any."""

    labels: Mapping[str, str]
    namespaces: tuple[str, ...] = ()


KUBERAY = Pods({"app.kubernetes.io/component": "kuberay-operator"})


@dataclasses.dataclass(frozen=True)
class Neighbours:
    """Who may come to sets' pods from outside.

    `operator` is None where it runs outside of the cluster; `metrics` are peers as NetworkPolicies have them.
    """

    operator: Pods | None = None
    kuberay: Pods = KUBERAY
    metrics: Sequence[Mapping[str, Any]] = ()


# An operator outside of the cluster, of which nothing else was said.
UNKNOWN = Neighbours()
