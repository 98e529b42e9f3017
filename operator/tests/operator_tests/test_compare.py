from decimal import Decimal
from typing import Any

import pytest

from modelset_operator.manifests import compare


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("100m", "0.1"),
        ("0.1", "0.1"),
        (2, "2"),
        ("2Gi", "2147483648"),
        ("2048Mi", "2147483648"),
        ("1e3", "1000"),
        ("1k", "1000"),
        ("1E", "1e18"),
        ("5u", "0.000005"),
    ],
)
def test_quantities_are_numbers(text: Any, number: str) -> None:
    assert compare.quantity(text) == Decimal(number)


@pytest.mark.parametrize("text", ["", "big", "1Q", True, None, "1 Gi"])
def test_other_things_are_not_quantities(text: Any) -> None:
    assert compare.quantity(text) is None


@pytest.mark.parametrize(
    ("wanted", "observed", "paths"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, set()),
        ({"a": 1}, {"a": 2}, {".a"}),
        ({"a": {"b": 1}}, {"a": {}}, {".a.b"}),
        ({"a": {"b": 1}}, {"a": None}, {".a"}),
        ({"a": [1, 2]}, {"a": [1]}, {".a"}),
        ({"a": [1, 2]}, {"a": [1, 3]}, {".a[1]"}),
        ({"a": []}, {"a": [1]}, {".a"}),
        ({"a": [1]}, {"a": None}, {".a"}),
        (
            {"containers": [{"name": "ollama", "image": "x"}]},
            {"containers": [{"name": "mesh"}, {"name": "ollama", "image": "x", "more": 1}]},
            set(),
        ),
        ({"containers": [{"name": "ollama"}]}, {"containers": [{"name": "mesh"}]}, {".containers[ollama]"}),
        (
            {"containers": [{"name": "ollama", "image": "x"}]},
            {"containers": [{"name": "ollama", "image": "y"}]},
            {".containers[ollama].image"},
        ),
        ({"requests": {"cpu": "0.1"}}, {"requests": {"cpu": "100m"}}, set()),
        ({"requests": {"cpu": "0.2"}}, {"requests": {"cpu": "100m"}}, {".requests.cpu"}),
        ({"emptyDir": {"sizeLimit": "2048Mi"}}, {"emptyDir": {"sizeLimit": "2Gi"}}, set()),
        ({"emptyDir": {"sizeLimit": "2Gi"}}, {"emptyDir": {"sizeLimit": "2G"}}, {".emptyDir.sizeLimit"}),
        ({"value": "1"}, {"value": "1000m"}, {".value"}),
    ],
)
def test_drift(wanted: dict[str, Any], observed: dict[str, Any], paths: set[str]) -> None:
    assert compare.drift(wanted, observed) == paths


def test_what_does_not_exist_has_drifted() -> None:
    assert compare.drift({"a": 1}, None) == {"."}


def test_the_hash_tells_that_a_field_is_no_longer_wanted() -> None:
    before = compare.with_hash({"metadata": {"name": "a"}, "spec": {"limits": {"cpu": "1"}}})
    after = compare.with_hash({"metadata": {"name": "a"}, "spec": {}})
    assert compare.drift(after, before) == {".metadata.annotations.modelset.dev/applied-hash"}
    assert compare.hash_of(before) != compare.hash_of(after)
    assert compare.with_hash({"metadata": {"name": "a"}, "spec": {}}) == after
    assert compare.hash_of({"metadata": {"annotations": None}}) == ""


def test_what_else_is_annotated_stays() -> None:
    hashed = compare.with_hash({"metadata": {"annotations": {"note": "b"}}})
    assert hashed["metadata"]["annotations"].keys() == {"note", "modelset.dev/applied-hash"}
