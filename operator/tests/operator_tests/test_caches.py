"""Which cache an object belongs to, and which set it is of."""

import json
from typing import Any

import pytest

from modelset_operator.cluster import caches, kinds

from . import fake_api

OLLAMA = {"modelset.dev/set": "one", "app.kubernetes.io/component": "ollama"}
SERVE = {"ray.io/originated-from-crd": "RayService", "ray.io/originated-from-cr-name": "one"}


@pytest.mark.parametrize(
    ("kind", "labels", "cache", "owner"),
    [
        (kinds.MODEL_SET, None, "model_sets", "a"),
        (kinds.STATEFUL_SET, OLLAMA, "stateful_sets", "one"),
        (kinds.CONFIG_MAP, OLLAMA, "config_maps", "one"),
        (kinds.SERVICE, OLLAMA, "own_services", "one"),
        (kinds.SERVICE, SERVE, "serve_services", "one"),
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
