"""The operator's benchmark: what is counted, and what comes of it."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest

from benchmarks import report
from benchmarks.operator import audit, manifests, measure, result

OPERATOR, EDITOR = "operator", "editor"


def line(verb: str, resource: str, *, stage: str = "ResponseComplete", **fields: Any) -> str:
    """One line of an audit log; `came` and `answered` are seconds of a minute."""
    asked = {"resource": resource, "namespace": "one", "name": fields.get("name", "")}
    event = {
        "stage": stage,
        "verb": verb,
        "user": {"username": fields.get("user", OPERATOR)},
        "requestURI": f"/apis/{resource}",
        "objectRef": asked | ({"subresource": fields["subresource"]} if "subresource" in fields else {}),
        "requestReceivedTimestamp": f"2026-01-01T00:00:{fields.get('came', 0):09.6f}Z",
        "stageTimestamp": f"2026-01-01T00:00:{fields.get('answered', 0):09.6f}Z",
        "responseStatus": {"code": fields.get("status", 200)},
    }
    return json.dumps(event)


def test_requests_are_counted_by_what_they_cost_and_watches_when_they_begin() -> None:
    log = [
        line("get", "services"),
        line("list", "pods"),
        line("watch", "pods", stage="ResponseStarted"),
        line("watch", "pods", stage="ResponseComplete"),
        line("watch", "secrets", stage="ResponseComplete"),
        line("patch", "rayservices"),
        line("create", "events"),
        line("delete", "statefulsets"),
        line("update", "leases"),
        line("get", "leases"),
    ]
    assert audit.count(audit.read(log)) == audit.Counts(reads=2, writes=3, watches=1, leases=2)


def test_a_request_says_what_it_was_for() -> None:
    plain = json.loads(line("get", "version"))
    del plain["objectRef"]
    log = [line("patch", "ollamamodelsets", subresource="status"), json.dumps(plain)]
    assert [one.what for one in audit.read(log)] == ["patch ollamamodelsets/status", "get /apis/version"]


@pytest.mark.parametrize(
    ("writes", "seconds"),
    [
        ([line("patch", "rayservices", name="a", answered=12.5)], 2.5),
        ([line("patch", "rayservices", name="a", answered=t) for t in (9.0, 11.0, 12.0)], 1.0),
        ([line("patch", "rayservices", name="b", answered=12.5)], math.inf),
        ([line("patch", "services", name="a", answered=12.5)], math.inf),
        ([line("patch", "rayservices", name="a", answered=12.5, status=409)], math.inf),
        ([line("get", "rayservices", name="a", answered=12.5)], math.inf),
        ([], math.inf),
    ],
)
def test_an_edit_is_answered_by_the_first_write_after_it(writes: list[str], seconds: float) -> None:
    log = [line("patch", "ollamamodelsets", user=EDITOR, name="a", came=10.0, answered=10.1), *writes]
    assert audit.answers(audit.read(log), EDITOR, "rayservices") == [seconds]


def test_only_the_operator_and_edits_are_logged() -> None:
    rules = audit.policy(OPERATOR, EDITOR)["rules"]
    assert [rule.get("users") for rule in rules] == [[OPERATOR], [EDITOR], None]
    assert rules[-1] == {"level": "None"}


def figures(sets: int, **fields: Any) -> measure.Figures:
    quiet = audit.Counts(reads=0, writes=0, watches=8, leases=0)
    usual = measure.Figures(
        sets=sets,
        ready_seconds=12.0,
        starting=audit.Counts(reads=4 * sets, writes=20 * sets, watches=0, leases=0),
        idle_seconds=300.0,
        idle=quiet,
        idle_cpu=0.1,
        idle_memory=100_000_000,
        most_memory=120_000_000,
        edits=(0.2, 0.3),
        restart=audit.Counts(reads=16, writes=0, watches=8, leases=0),
        restart_memory=130_000_000,
    )
    return dataclasses.replace(usual, **fields)


@pytest.mark.parametrize(
    ("fields", "missed"),
    [
        ({}, []),
        ({"idle": audit.Counts(reads=0, writes=1, watches=8, leases=0)}, ["idle: writes"]),
        ({"idle": audit.Counts(reads=1, writes=0, watches=8, leases=0)}, ["idle: reads"]),
        ({"idle": audit.Counts(reads=0, writes=0, watches=99, leases=60)}, []),
        ({"most_memory": 251_000_000}, ["most memory, MB"]),
        ({"edits": (0.1,) * 98 + (1.1,) * 2}, ["from an edit to its apply, p99, s"]),
        ({"edits": (0.1,) * 99 + (1.1,)}, []),
        (
            {"restart": audit.Counts(reads=16, writes=1, watches=8, leases=0), "restart_memory": 251_000_000},
            ["after a restart: writes", "after a restart: most memory, MB"],
        ),
        ({"edits": ()}, ["from an edit to its apply, p99, s"]),
    ],
)
def test_a_floor_that_is_missed_is_told(fields: dict[str, Any], missed: list[str]) -> None:
    floors = list(result.asked_for(figures(1000, **fields)))
    assert [one.name for one in floors if not one.reached] == [f"1,000 sets, {name}" for name in missed]


def test_figures_are_kept_as_they_are() -> None:
    found = figures(50)
    assert result.restored(json.loads(json.dumps(result.stored(found)))) == found


def test_the_table_has_a_column_for_each_number_of_sets_in_order() -> None:
    kept = {str(count): result.stored(figures(count)) for count in (1000, 50)}
    lines = report.operator_text({"facts": {"date": "today"}, "sets": kept}).splitlines()
    assert lines[2] == "|  | floor | 50 sets | 1,000 sets |"
    assert "| until then, reads a set |  | 4.00 | 4.00 |" in lines
    assert "| most memory, MB | at most 250 | 120 | 120 |" in lines


def test_sets_have_names_namespaces_and_addresses_of_their_own() -> None:
    numbers = range(1000)
    assert [manifests.number(manifests.name(number)) for number in numbers] == list(numbers)
    assert len({manifests.address(number) for number in numbers}) == 1000
    assert {manifests.namespace(number) for number in numbers} == set(manifests.namespaces(1000))
    specs = {json.dumps(manifests.model_set(0, edit)["spec"]) for edit in range(3)}
    assert len(specs) == 3
