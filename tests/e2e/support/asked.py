"""What the operator asks of the API server, counted there: by a flow schema for each kind of request.

Such a schema tells requests apart by the account that sends them, by verb and by namespace, and the API
server counts what it dispatches by schema. Nothing else changes: the priority stays that of all accounts.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from stack import cluster

_ACCOUNT = {"name": "modelset-operator", "namespace": cluster.OPERATOR_NAMESPACE}
_READS = ["get", "list"]
_WRITES = ["create", "update", "patch", "delete", "deletecollection"]
_SAMPLE = r'^apiserver_flowcontrol_dispatched_requests_total\{flow_schema="%s",.*\} (\S+)$'
# Before that for all service accounts.
_PRECEDENCE = 500


@dataclass(frozen=True)
class Asked:
    """Requests so far: reads and writes in one namespace; lists and watches of all namespaces together."""

    reads: int
    writes: int
    lists: int
    watches: int

    def since(self, before: Asked) -> Asked:
        return Asked(
            self.reads - before.reads,
            self.writes - before.writes,
            self.lists - before.lists,
            self.watches - before.watches,
        )


@contextlib.contextmanager
def counting(namespace: str) -> Iterator[Callable[[], Asked]]:
    """Count while the body runs; yields what tells the counts."""
    within: dict[str, Any] = {"clusterScope": False, "namespaces": [namespace]}
    everywhere = {"clusterScope": True}
    rules = {
        "reads": {"verbs": [*_READS, "watch"], **within},
        "writes": {"verbs": _WRITES, **within},
        "lists": {"verbs": _READS, **everywhere},
        "watches": {"verbs": ["watch"], **everywhere},
    }
    for name, rule in rules.items():
        cluster.kubectl("apply", "--filename", "-", data=json.dumps(_schema(name, rule)))
    try:
        yield lambda: _count(list(rules))
    finally:
        cluster.kubectl("delete", "--ignore-not-found", "flowschemas", *map(_name, rules))


def _name(what: str) -> str:
    return f"e2e-operator-{what}"


def _schema(what: str, rule: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
        "kind": "FlowSchema",
        "metadata": {"name": _name(what)},
        "spec": {
            "priorityLevelConfiguration": {"name": "workload-low"},
            "matchingPrecedence": _PRECEDENCE,
            "rules": [
                {
                    "subjects": [{"kind": "ServiceAccount", "serviceAccount": _ACCOUNT}],
                    "resourceRules": [{"apiGroups": ["*"], "resources": ["*"], **rule}],
                }
            ],
        },
    }


def _count(kinds: list[str]) -> Asked:
    page = cluster.kubectl("get", "--raw", "/metrics")
    found = {kind: re.search(_SAMPLE % _name(kind), page, re.MULTILINE) for kind in kinds}
    # What was never asked has no sample.
    return Asked(**{kind: int(float(sample[1])) if sample else 0 for kind, sample in found.items()})
