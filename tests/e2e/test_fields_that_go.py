"""A definition of sets with fewer fields is refused: sets would lose them, and nobody would be told."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable

import pytest

from stack import cluster
from tests.e2e.support.kube import Kube, Manifest, Refused

pytestmark = pytest.mark.compat

CRD = "ollamamodelsets.modelset.dev"
FIELDS, DROPPED = "modelset.dev/fields", "modelset.dev/dropped"
LACKING = "spec.proxy.cors"


def _without_the_field(crd: Manifest) -> None:
    (version,) = crd["spec"]["versions"]
    del version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["proxy"]["properties"][
        "cors"
    ]


def _of_an_older_chart(crd: Manifest) -> None:
    _without_the_field(crd)
    del crd["metadata"]["annotations"][FIELDS]


def _of_a_chart_that_drops_it(crd: Manifest) -> None:
    _without_the_field(crd)
    annotations = crd["metadata"]["annotations"]
    has = [field for field in annotations[FIELDS].split(",") if not f"{field}.".startswith(f"{LACKING}.")]
    annotations[FIELDS] = ",".join(has)


def _of_a_chart_that_may(crd: Manifest) -> None:
    _of_a_chart_that_drops_it(crd)
    crd["metadata"]["annotations"][DROPPED] = LACKING


def _unguarded(crd: Manifest) -> None:
    del crd["metadata"]["annotations"][FIELDS]


def _replaced_by(change: Callable[[Manifest], None]) -> str:
    """What the API server answers, which does nothing."""
    crd: Manifest = copy.deepcopy(json.loads(cluster.kubectl("get", "crd", CRD, "--output", "json")))
    change(crd)
    return Kube("default").run("replace", "--dry-run=server", "--filename", "-", stdin=json.dumps(crd))


@pytest.mark.parametrize("change", [_of_an_older_chart, _of_a_chart_that_drops_it])
def test_a_definition_that_lacks_fields_is_refused(change: Callable[[Manifest], None]) -> None:
    with pytest.raises(Refused, match=r"sets would lose .* does not name: spec\..*modelset.dev/fields-"):
        _replaced_by(change)


@pytest.mark.parametrize("change", [_of_a_chart_that_may, _unguarded])
def test_who_says_so_may_lose_them(change: Callable[[Manifest], None]) -> None:
    assert "replaced" in _replaced_by(change)
