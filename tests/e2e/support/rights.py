"""What an account may ask of the API server, as roles say, and what it did ask, as the audit log says."""

from __future__ import annotations

import datetime
import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]


@dataclass(frozen=True)
class Right:
    """A verb on a resource (`group/resource/subresource`, or a path); "" as name or namespace is any."""

    verb: str
    resource: str
    name: str = ""
    namespace: str = ""

    def __str__(self) -> str:
        named = f" {self.name}" if self.name else ""
        return f"{self.verb} {self.resource}{named}" + (f" in {self.namespace}" if self.namespace else "")

    def covers(self, asked: Right) -> bool:
        """Whether what was asked needs no other right."""
        return (
            (self.verb, self.resource) == (asked.verb, asked.resource)
            and self.name in ("", asked.name)
            and self.namespace in ("", asked.namespace)
        )


def granted(account: str, roles: Iterable[Object], bindings: Iterable[Object]) -> set[Right]:
    """What roles of both kinds give `system:serviceaccount:NAMESPACE:NAME` through bindings of both kinds."""
    *_, namespace, name = account.split(":")
    subject = {"kind": "ServiceAccount", "namespace": namespace, "name": name}
    rules = {_identity(role["kind"], role["metadata"]): role.get("rules") or [] for role in roles}
    return {
        right
        for binding in bindings
        if subject in (binding.get("subjects") or [])
        for rule in rules[_identity(binding["roleRef"]["kind"], binding["roleRef"] | _home(binding))]
        for right in _of_rule(rule, binding["metadata"].get("namespace", ""))
    }


def _home(binding: Object) -> dict[str, str]:
    return {"namespace": binding["metadata"].get("namespace", "")}


def _identity(kind: str, named: Object) -> tuple[str, str, str]:
    return kind, named.get("namespace", "") if kind == "Role" else "", named["name"]


def _of_rule(rule: Object, namespace: str) -> Iterator[Right]:
    resources = [
        _resource(group, resource)
        for group in rule.get("apiGroups", ())
        for resource in rule.get("resources", ())
    ]
    for verb in rule["verbs"]:
        for resource in [*resources, *rule.get("nonResourceURLs", ())]:
            for name in rule.get("resourceNames") or [""]:
                yield Right(verb, resource, name, namespace)


def _resource(*parts: str) -> str:
    return "/".join(part for part in parts if part)


def events(log: Iterable[str], since: datetime.datetime) -> list[Object]:
    """What the lines of an audit log tell of requests that came since then."""
    told = [json.loads(line) for line in log]
    return [
        event for event in told if datetime.datetime.fromisoformat(event["requestReceivedTimestamp"]) >= since
    ]


def used(told: Iterable[Object]) -> set[Right]:
    """The rights that requests took which were let through, whatever became of them then."""
    return {right for event in told if _decision(event) == "allow" for right in _needed(event)}


def refused(told: Iterable[Object], granted: Collection[Right] = ()) -> set[str]:
    """What was asked without the right to, and what was answered; but for what is granted now.

    That was refused before it was granted, or once it no longer was: while a release goes, its roles do so a
    moment before its pods. That a namespace is going, or a quota used up, is no refusal. Whether what is to
    be patched may be made where it is not there yet is asked after the request was let through, so that only
    the answer tells, and of which right.
    """
    return {
        f"{right}: {_answer(event)}"
        for event in told
        for right in _needed(event)
        if _is_refused_late(event)
        or (_decision(event) == "forbid" and not any(one.covers(right) for one in granted))
    }


def _is_refused_late(event: Object) -> bool:
    refused = _status(event).get("code") == 403 and " cannot " in _answer(event)
    return refused and _decision(event) != "forbid"


def _answer(event: Object) -> str:
    return str(_status(event).get("message", ""))


def _decision(event: Object) -> str:
    return str((event.get("annotations") or {}).get("authorization.k8s.io/decision", ""))


def _status(event: Object) -> Object:
    return event.get("responseStatus") or {}


def _needed(event: Object) -> Iterator[Right]:
    asked = event.get("objectRef")
    if asked is None:
        yield Right(event["verb"], event["requestURI"].partition("?")[0])
        return
    resource = _resource(asked.get("apiGroup", ""), asked["resource"], asked.get("subresource", ""))
    right = Right(event["verb"], resource, asked.get("name", ""), asked.get("namespace", ""))
    yield right
    # Server-side apply of what is not there yet: the log has the one request, for which two rights are asked.
    if right.verb == "patch" and _status(event).get("code") == 201:
        yield Right("create", right.resource, right.name, right.namespace)
