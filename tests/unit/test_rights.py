"""What roles grant and what an audit log tells, compared by tests/e2e/test_rights.py."""

from __future__ import annotations

import datetime
import json
from typing import Any

import pytest

from tests.e2e.support import rights
from tests.e2e.support.rights import Right

ACCOUNT = "system:serviceaccount:home:operator"
SUBJECT = {"kind": "ServiceAccount", "namespace": "home", "name": "operator"}
NOON = datetime.datetime(2026, 1, 2, 12, tzinfo=datetime.UTC)


def role(name: str, *rules: dict[str, Any], namespace: str = "") -> dict[str, Any]:
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"kind": "Role" if namespace else "ClusterRole", "metadata": metadata, "rules": list(rules)}


def binding(to: str, role_name: str, *, namespace: str = "", **subject: str) -> dict[str, Any]:
    metadata = {"name": role_name} | ({"namespace": namespace} if namespace else {})
    return {
        "metadata": metadata,
        "roleRef": {"kind": to, "name": role_name},
        "subjects": [SUBJECT | subject],
    }


PODS = {"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["get", "list"]}
SETS = {"apiGroups": ["apps"], "resources": ["statefulsets"], "verbs": ["patch"]}
ONE_SECRET = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"], "resourceNames": ["key"]}
VERSION = {"nonResourceURLs": ["/version"], "verbs": ["get"]}


@pytest.mark.parametrize(
    ("bindings", "expected"),
    [
        pytest.param(
            [binding("ClusterRole", "wide")],
            {
                "get pods",
                "list pods",
                "get pods/log",
                "list pods/log",
                "patch apps/statefulsets",
                "get /version",
            },
            id="everywhere",
        ),
        pytest.param(
            [binding("Role", "narrow", namespace="home")], {"get secrets key in home"}, id="one-namespace"
        ),
        pytest.param(
            [binding("ClusterRole", "sets", namespace="team")],
            {"patch apps/statefulsets in team"},
            id="a-cluster-role-in-one-namespace",
        ),
        pytest.param([binding("Role", "narrow", namespace="other")], {"list pods in other"}, id="same-name"),
        pytest.param([binding("ClusterRole", "wide", name="another")], set(), id="another-account"),
        pytest.param([binding("ClusterRole", "wide", kind="User")], set(), id="another-kind-of-subject"),
        pytest.param([{**binding("ClusterRole", "wide"), "subjects": None}], set(), id="nobody"),
        pytest.param([binding("ClusterRole", "empty")], set(), id="no-rules"),
    ],
)
def test_what_roles_grant(bindings: list[dict[str, Any]], expected: set[str]) -> None:
    listed = {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}
    roles = [
        role("wide", PODS, SETS, VERSION),
        role("sets", SETS),
        role("narrow", ONE_SECRET, namespace="home"),
        role("narrow", listed, namespace="other"),
        {"kind": "ClusterRole", "metadata": {"name": "empty"}, "rules": None},
    ]
    assert {str(right) for right in rights.granted(ACCOUNT, roles, bindings)} == expected


@pytest.mark.parametrize(
    ("right", "covered"),
    [
        (Right("get", "secrets"), True),
        (Right("get", "secrets", "key"), True),
        (Right("get", "secrets", "key", "home"), True),
        (Right("get", "secrets", "other"), False),
        (Right("get", "secrets", "key", "away"), False),
        (Right("list", "secrets"), False),
        (Right("get", "secrets/status"), False),
        (Right("get", "example.com/secrets"), False),
    ],
    ids=str,
)
def test_what_a_right_covers(right: Right, covered: bool) -> None:
    assert right.covers(Right("get", "secrets", "key", "home")) is covered


def event(
    verb: str, *, decision: str = "allow", code: int = 200, message: str = "", **asked: str
) -> dict[str, Any]:
    return {
        "verb": verb,
        "requestURI": "/version?timeout=5s",
        "objectRef": asked or None,
        "requestReceivedTimestamp": "2026-01-02T12:00:00.000001Z",
        "responseStatus": {"code": code, "message": message},
        "annotations": {"authorization.k8s.io/decision": decision},
    }


SERVICE: dict[str, Any] = {"resource": "services", "namespace": "team", "name": "a"}


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (event("patch", **SERVICE), {"patch services a in team"}),
        (event("patch", code=201, **SERVICE), {"patch services a in team", "create services a in team"}),
        # It was allowed, whatever came of it.
        (event("get", code=404, **SERVICE), {"get services a in team"}),
        (event("get", code=403, decision="forbid", **SERVICE), set()),
        (event("watch", apiGroup="apps", resource="statefulsets"), {"watch apps/statefulsets"}),
        (
            event("patch", apiGroup="g", resource="sets", subresource="status", name="a"),
            {"patch g/sets/status a"},
        ),
        (event("get"), {"get /version"}),
        ({**event("get", **SERVICE), "annotations": None}, set()),
    ],
)
def test_what_was_used(told: dict[str, Any], expected: set[str]) -> None:
    assert {str(right) for right in rights.used([told])} == expected


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (event("get", **SERVICE), set()),
        (
            event("get", code=403, decision="forbid", message="no", **SERVICE),
            {"get services a in team: no"},
        ),
        # Server-side apply of what is not there, by who may patch and not create.
        (
            event("patch", code=403, message='User "x" cannot create resource', **SERVICE),
            {'patch services a in team: User "x" cannot create resource'},
        ),
        (event("patch", code=403, message="it is being terminated", **SERVICE), set()),
        (event("patch", code=409, message="it cannot be", **SERVICE), set()),
        (
            {**event("get", decision="forbid", **SERVICE), "responseStatus": None},
            {"get services a in team: "},
        ),
    ],
)
def test_what_was_refused(told: dict[str, Any], expected: set[str]) -> None:
    assert rights.refused([told]) == expected


def test_what_was_asked_before_the_tests_does_not_count() -> None:
    line = json.dumps(event("get"))
    assert rights.events([line], NOON) == [event("get")]
    assert rights.events([line], NOON + datetime.timedelta(seconds=1)) == []


LATE = event("patch", code=403, message='User "x" cannot create resource', **SERVICE)


@pytest.mark.parametrize(
    ("told", "granted", "counts"),
    [
        (event("get", code=403, decision="forbid", **SERVICE), rights.Right("get", "services"), False),
        (event("get", code=403, decision="forbid", **SERVICE), rights.Right("list", "services"), True),
        # To patch is granted, and to create was asked for.
        (LATE, rights.Right("patch", "services"), True),
    ],
)
def test_what_is_granted_now_was_refused_to_a_release_that_went(
    told: dict[str, Any], granted: rights.Right, counts: bool
) -> None:
    assert bool(rights.refused([told], [granted])) == counts
