"""What the API server was asked, as its audit log tells: by whom, when, and for what."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import json
from collections.abc import Iterable, Iterator
from typing import Any

READS = ("get", "list")
WATCH = "watch"
# Told apart: it says that the operator lives, and costs the same however many sets there are.
LEASES = "leases"


def policy(operator: str, editor: str) -> dict[str, Any]:
    """Return what is to be logged: all that the operator asks, and the edits of sets that it answers to."""
    sets = [{"group": "modelset.dev", "resources": ["ollamamodelsets"]}]
    stages = ["RequestReceived"]
    return {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "rules": [
            {"level": "Metadata", "users": [operator], "omitStages": stages},
            {
                "level": "Metadata",
                "users": [editor],
                "verbs": ["patch"],
                "resources": sets,
                "omitStages": stages,
            },
            {"level": "None"},
        ],
    }


@dataclasses.dataclass(frozen=True)
class Request:
    """One request; times are in seconds since 1970, of its coming and of its answer."""

    user: str
    verb: str
    resource: str
    namespace: str
    name: str
    came: float
    answered: float
    status: int

    @property
    def what(self) -> str:
        """The verb and the resource, as in `patch ollamamodelsets/status`."""
        return f"{self.verb} {self.resource}"


@dataclasses.dataclass(frozen=True)
class Counts:
    """How many requests there were; those for Leases count nowhere else."""

    reads: int
    writes: int
    watches: int
    leases: int


def read(lines: Iterable[str]) -> Iterator[Request]:
    """Yield the requests of a log, each once: a watch is told of when it begins and again when it ends."""
    for line in lines:
        event = json.loads(line)
        if (event["stage"] == "ResponseStarted") == (event["verb"] == WATCH):
            yield _request(event)


def _request(event: dict[str, Any]) -> Request:
    asked = event.get("objectRef") or {}
    resource = "/".join(filter(None, (asked.get("resource"), asked.get("subresource"))))
    return Request(
        user=event["user"]["username"],
        verb=event["verb"],
        resource=resource or event["requestURI"],
        namespace=asked.get("namespace", ""),
        name=asked.get("name", ""),
        came=_seconds(event["requestReceivedTimestamp"]),
        answered=_seconds(event["stageTimestamp"]),
        status=int((event.get("responseStatus") or {}).get("code", 0)),
    )


def _seconds(text: str) -> float:
    return datetime.datetime.fromisoformat(text).timestamp()


def count(requests: Iterable[Request]) -> Counts:
    """Count requests by what they cost the API server."""
    found: collections.Counter[str] = collections.Counter()
    for request in requests:
        found[_kind(request)] += 1
    return Counts(found["reads"], found["writes"], found["watches"], found["leases"])


def _kind(request: Request) -> str:
    if request.resource == LEASES:
        return "leases"
    if request.verb == WATCH:
        return "watches"
    return "reads" if request.verb in READS else "writes"


def answers(requests: Iterable[Request], editor: str, resource: str) -> list[float]:
    """Return how long after each edit of a set its object of a resource was written, in seconds.

    An edit that was never answered counts as infinitely late.
    """
    edits: list[Request] = []
    writes: dict[tuple[str, str], list[float]] = {}
    for request in requests:
        if request.user == editor:
            edits.append(request)
        elif request.resource == resource and request.verb == "patch" and request.status < 300:
            writes.setdefault((request.namespace, request.name), []).append(request.answered)
    return [
        min(
            (at - edit.came for at in writes.get((edit.namespace, edit.name), ()) if at > edit.came),
            default=float("inf"),
        )
        for edit in edits
    ]
