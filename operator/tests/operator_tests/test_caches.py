"""Which cache an object belongs to, and which set it is of."""

import json
from typing import Any

import pytest

from modelset_operator.cluster import caches, kinds

from . import fake_api

OLLAMA = {"modelset.dev/set": "one", "app.kubernetes.io/component": "ollama"}
CACHE = {"modelset.dev/set": "one", "app.kubernetes.io/component": "cache"}
SERVE = {"ray.io/originated-from-crd": "RayService", "ray.io/originated-from-cr-name": "one"}


@pytest.mark.parametrize(
    ("kind", "labels", "cache", "owner"),
    [
        (kinds.MODEL_SET, None, "model_sets", "a"),
        (kinds.STATEFUL_SET, OLLAMA, "stateful_sets", "one"),
        (kinds.CONFIG_MAP, OLLAMA, "config_maps", "one"),
        (kinds.SERVICE, OLLAMA, "own_services", "one"),
        (kinds.SERVICE, CACHE, "own_services", "one"),
        (kinds.SERVICE, SERVE, "serve_services", "one"),
        (kinds.VOLUME_CLAIM, OLLAMA, "volume_claims", "one"),
        (kinds.NETWORK_POLICY, OLLAMA, "network_policies", "one"),
        (kinds.DISRUPTION_BUDGET, OLLAMA, "disruption_budgets", "one"),
        (kinds.POD, OLLAMA, "pods", "one"),
        (kinds.RAY_SERVICE, OLLAMA, "ray_services", "one"),
        (kinds.RAY_CLUSTER, OLLAMA, "ray_clusters", "one"),
        (kinds.CONFIG_MAP, None, "config_maps", ""),
        (kinds.SERVICE, None, "serve_services", ""),
    ],
    ids=lambda value: getattr(value, "kind", None),
)
def test_what_was_written_is_known_and_its_set_told(
    kind: kinds.Kind, labels: dict[str, str] | None, cache: str, owner: str
) -> None:
    told: list[Any] = []
    cached = caches.Caches(fake_api.FakeApi(), (), told.append)
    metadata = {"namespace": "default", "name": "a", "resourceVersion": "1", "labels": labels}
    cached.wrote({"kind": kind.kind, "metadata": metadata})
    found = getattr(cached, cache).get("default", "a")
    assert (found["kind"], found["apiVersion"]) == (kind.kind, kind.api_version)
    assert told == ([("default", owner)] if owner else [])


@pytest.mark.parametrize(
    ("missing", "installed"), [("RayService", False), ("RayCluster", True), ("Pod", True)]
)
async def test_kuberay_is_there_when_ray_services_are(missing: str, installed: bool) -> None:
    api = fake_api.FakeApi()
    api.missing_kinds.add(missing)
    cached = caches.Caches(api, (), lambda _: None)
    assert cached.kuberay_installed
    running = caches.asyncio.create_task(cached.run())
    await cached.synced()
    assert cached.kuberay_installed == installed
    running.cancel()
    assert json.dumps(sorted(api.reads)).count("list") == 11 - 1


def _with_sets(*served: str) -> tuple[caches.Caches, set[Any]]:
    """Return what is kept of two sets in two namespaces, and which of them are told from now on."""
    told: set[Any] = set()
    cached = caches.Caches(fake_api.FakeApi(), served, told.add, lambda: 100.0)
    for namespace, name in (("a", "one"), ("b", "two")):
        cached.wrote(
            {
                "kind": "OllamaModelSet",
                "metadata": {"namespace": namespace, "name": name, "resourceVersion": "1"},
            }
        )
    told.clear()
    return cached, told


@pytest.mark.parametrize(
    ("served", "listed", "sets"),
    [
        ((), "", {("a", "one"), ("b", "two")}),
        (("a", "b"), "a", {("a", "one")}),
        (("a", "b"), "b", {("b", "two")}),
    ],
)
def test_what_is_listed_for_the_first_time_is_told_to_all_sets_of_its_namespace(
    served: tuple[str, ...], listed: str, sets: set[Any]
) -> None:
    cached, told = _with_sets(*served)
    for one in cached._reflectors:
        if one.selection.namespace == listed:
            told.clear()
            one._found()
            assert told == sets


def test_a_namespace_is_listed_when_all_kinds_in_it_are() -> None:
    cached, _ = _with_sets("a", "b")
    of_a = [one for one in cached._reflectors if one.selection.namespace == "a"]
    for one in of_a:
        assert not cached.synced_in("a")
        one.synced.set()
    assert cached.synced_in("a")
    assert not cached.synced_in("b")
    everywhere, _ = _with_sets()
    assert not everywhere.synced_in("a")
    for one in everywhere._reflectors:
        one.synced.set()
    assert everywhere.synced_in("a")


def test_what_is_not_listed_yet_and_what_cannot_be_watched_is_told() -> None:
    cached, _ = _with_sets("a")
    assert cached.unsynced() == [one.selection for one in cached._reflectors]
    for one in cached._reflectors:
        one.synced.set()
    assert cached.unsynced() == []
    assert cached.failing() == []
    by_kind = {one.selection.kind: one for one in cached._reflectors}
    # Without KubeRay the operator waits for it; without its own kind it is not ready.
    by_kind[kinds.RAY_SERVICE].missing = by_kind[kinds.MODEL_SET].missing = True
    assert cached.unsynced() == [by_kind[kinds.MODEL_SET].selection]
    assert not cached.kuberay_installed
    pods = by_kind[kinds.POD]
    pods.problem, pods.problem_since = "forbidden", 70.0
    assert cached.failing() == [(pods.selection, 30.0, "forbidden")]
    assert [seconds for one, seconds in cached.selections() if one == pods.selection] == [30.0]


async def test_only_sets_are_listed_anew_when_they_are_renewed() -> None:
    api = fake_api.FakeApi()
    await caches.Caches(api, ("a", "b"), lambda _: None).renew_sets()
    assert api.reads == ["list ollamamodelsets"] * 2
