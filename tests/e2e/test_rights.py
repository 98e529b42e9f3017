"""What the chart lets the operator do is what it does: the audit log of this run, beside the roles.

The log has what was asked since the first test began.
"""

from __future__ import annotations

import datetime
import json

import pytest

from stack import auditing, cluster
from tests.e2e.support import node, rights

# What the operator may do though no test has it done, each with why it is granted all the same.
GRANTED_FOR = {
    "update modelset.dev/ollamamodelsets/finalizers": (
        "no request of its own: the admission plugin OwnerReferencesPermissionEnforcement asks for it, which"
        " kind does not run"
    ),
}


@pytest.fixture(scope="module")
def told(began: datetime.datetime) -> list[rights.Object]:
    """What the operator asked since the first test began."""
    files = f"{auditing.LOG.with_suffix('')}*{auditing.LOG.suffix}"
    return rights.events(node.run("sh", "-c", f"cat {files}").splitlines(), began)


def _listed(*kinds: str) -> list[rights.Object]:
    found = cluster.kubectl("get", ",".join(kinds), "--all-namespaces", "--output", "json")
    return list(json.loads(found)["items"])


def _granted() -> set[rights.Right]:
    return rights.granted(
        cluster.OPERATOR_ACCOUNT,
        _listed("roles", "clusterroles"),
        _listed("rolebindings", "clusterrolebindings"),
    )


@pytest.mark.looks_back
def test_the_operator_was_refused_nothing(told: list[rights.Object]) -> None:
    assert told, "the API server logs nothing of the operator"
    assert rights.refused(told, _granted()) == set()


@pytest.mark.looks_back(whole=True)
def test_the_operator_used_every_right_that_it_has(
    told: list[rights.Object], request: pytest.FixtureRequest
) -> None:
    assert not request.session.testsfailed, "what failed may not have come to use all that it would have"
    used = rights.used(told)
    unused = {str(right) for right in _granted() if not any(right.covers(one) for one in used)}
    assert unused == set(GRANTED_FOR)
