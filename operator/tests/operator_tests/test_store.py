"""What is kept of the objects that watches report."""

from typing import Any

import pytest

from modelset_operator.cluster import kinds, store

LABEL = "modelset.dev/set"


def made(name: str, version: int, owner: str = "one", **more: Any) -> dict[str, Any]:
    labels = {LABEL: owner} if owner else {}
    metadata = {"namespace": "default", "name": name, "resourceVersion": str(version), "labels": labels}
    return {"metadata": metadata, **more}


class Kept:
    def __init__(self, kind: kinds.Kind = kinds.SERVICE) -> None:
        self.told: list[store.Key] = []
        self.store = store.Store(kind, lambda obj: obj["metadata"]["labels"].get(LABEL, ""), self.told.append)

    def version(self, name: str) -> str | None:
        found = self.store.get("default", name)
        return None if found is None else found["metadata"]["resourceVersion"]


@pytest.fixture
def kept() -> Kept:
    return Kept()


def test_what_is_put_is_found_by_name_and_by_set_and_told(kept: Kept) -> None:
    kept.store.put(made("b", 1))
    kept.store.put(made("a", 2))
    kept.store.put(made("c", 3, owner=""))
    assert [one["metadata"]["name"] for one in kept.store.of_set("default", "one")] == ["a", "b"]
    assert kept.version("c") == "3"
    assert kept.store.get("other", "a") is None
    assert kept.told == [("default", "one"), ("default", "one")]
    assert len(kept.store) == 3


@pytest.mark.parametrize(("version", "known"), [(4, "5"), (5, "5"), (6, "6")])
def test_what_is_older_than_what_is_known_is_left_out(kept: Kept, version: int, known: str) -> None:
    kept.store.put(made("a", 5))
    kept.told.clear()
    kept.store.put(made("a", version))
    assert kept.version("a") == known
    assert bool(kept.told) == (known == "6")


def test_an_object_that_goes_to_another_set_is_told_to_both(kept: Kept) -> None:
    kept.store.put(made("a", 1))
    kept.told.clear()
    kept.store.put(made("a", 2, owner="two"))
    assert sorted(kept.told) == [("default", "one"), ("default", "two")]
    assert kept.store.of_set("default", "one") == []


def test_what_was_deleted_is_forgotten_and_told(kept: Kept) -> None:
    kept.store.put(made("a", 1))
    kept.told.clear()
    kept.store.remove(made("a", 2))
    kept.store.remove(made("unknown", 3))
    assert kept.version("a") is None
    assert kept.told == [("default", "one")]


def test_an_object_that_took_the_name_of_a_deleted_one_stays(kept: Kept) -> None:
    kept.store.put(made("a", 5))
    kept.store.remove(made("a", 4))
    assert kept.version("a") == "5"


def test_a_list_replaces_all_but_what_was_written_after_it_was_made(kept: Kept) -> None:
    for name, version in (("gone", 1), ("stays", 2), ("written since", 9)):
        kept.store.put(made(name, version))
    kept.told.clear()
    listed = kept.store.put_all([made("stays", 2), made("new", 3)])
    kept.store.keep_only("", listed, 7)
    assert [kept.version(name) for name in ("gone", "stays", "written since", "new")] == [None, "2", "9", "3"]
    assert kept.told == [("default", "one")] * 2


def test_a_list_of_one_namespace_says_nothing_of_others(kept: Kept) -> None:
    kept.store.put(made("a", 1))
    kept.store.keep_only("other", set(), 7)
    assert kept.version("a") == "1"
    kept.store.clear("other")
    assert kept.version("a") == "1"
    kept.store.clear("default")
    assert kept.version("a") is None


def test_only_what_is_looked_at_is_kept() -> None:
    pods = Kept(kinds.POD)
    given = made("a", 1, spec={"nodeName": "n", "containers": [{}]}, status={"podIP": "10.0.0.1"})
    given["metadata"]["managedFields"] = [{}]
    given["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": "{}", "b": "c"}
    pods.store.put(given)
    found = pods.store.get("default", "a")
    assert found is not None
    assert (found["kind"], found["apiVersion"]) == ("Pod", "v1")
    assert found["spec"] == {"nodeName": "n"}
    assert found["status"] == {"podIP": "10.0.0.1"}
    assert found["metadata"]["annotations"] == {"b": "c"}
    assert "managedFields" not in found["metadata"]


def test_of_a_claim_is_kept_how_large_it_is() -> None:
    claims = Kept(kinds.VOLUME_CLAIM)
    resources = {"requests": {"storage": "1Gi"}}
    claims.store.put(
        made("a", 1, spec={"resources": resources, "volumeName": "pvc-1"}, status={"capacity": {}})
    )
    found = claims.store.get("default", "a")
    assert found is not None
    assert (found["spec"], found["status"]) == ({"resources": resources}, {"capacity": {}})


def test_what_is_gone_with_its_kind_is_told_and_other_namespaces_stay() -> None:
    kept = Kept()
    elsewhere = made("b", 2)
    elsewhere["metadata"]["namespace"] = "other"
    for one in (made("a", 1), elsewhere):
        kept.store.put(one)
    kept.told.clear()
    kept.store.clear("default")
    assert kept.told == [("default", "one")]
    assert list(kept.store) == [("other", "b")]
    assert kept.store.of_set("default", "one") == []
    kept.store.clear("")
    assert list(kept.store) == []


def test_what_has_no_namespace_is_kept_without_one() -> None:
    kept = Kept()
    given = made("a", 1)
    del given["metadata"]["namespace"]
    kept.store.put(given)
    assert list(kept.store) == [("", "a")]


def test_a_list_as_old_as_an_object_that_it_has_not_says_that_it_is_gone() -> None:
    kept = Kept()
    kept.store.put(made("a", 5))
    kept.store.keep_only("default", set(), 4)
    assert kept.version("a") == "5"
    kept.store.keep_only("default", set(), 5)
    assert kept.version("a") is None
