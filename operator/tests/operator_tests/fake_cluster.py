"""An API server in memory: server-side apply by one manager, generations, resource versions, refusals."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from modelset_operator import cluster
from modelset_operator.api import names

Key = tuple[str, str, str]


class FakeCluster(cluster.Cluster):
    """Takes the place of cluster.Cluster. `writes` records every request that was not a read."""

    def __init__(self) -> None:
        self.objects: dict[Key, dict[str, Any]] = {}
        self.events: list[dict[str, Any]] = []
        self.writes: list[str] = []
        self.missing_kinds: set[str] = set()
        self.refusals: dict[str, cluster.RefusedError] = {}
        self.dropped_fields: set[str] = set()
        self._applied: dict[tuple[Key, str], dict[str, Any]] = {}
        self._version = 0

    def put(self, obj: Mapping[str, Any]) -> dict[str, Any]:
        """Store an object as another client would; its generation rises when its spec changes."""
        stored = copy.deepcopy(dict(obj))
        metadata = stored["metadata"]
        key = (stored["kind"], metadata["namespace"], metadata["name"])
        before = self.objects.get(key)
        metadata.setdefault("uid", f"uid-{len(self.objects)}")
        generation = before["metadata"].get("generation", 1) if before else metadata.get("generation", 1)
        changed = before is not None and before.get("spec") != stored.get("spec")
        metadata["generation"] = generation + changed
        self._version += 1
        metadata["resourceVersion"] = str(self._version)
        self.objects[key] = stored
        return stored

    def remove(self, kind: str, namespace: str, name: str) -> None:
        """Delete an object, and all that it owns, as the garbage collector does."""
        gone = self.objects.pop((kind, namespace, name))
        for key, obj in list(self.objects.items()):
            owners = obj["metadata"].get("ownerReferences") or ()
            if any(owner["uid"] == gone["metadata"]["uid"] for owner in owners):
                self.remove(*key)

    def find(self, kind: str, name: str, namespace: str = "default") -> dict[str, Any]:
        """Return an object as it is now."""
        return self.objects[(kind, namespace, name)]

    def versions(self) -> dict[Key, str]:
        """Return the resource versions of everything."""
        return {key: obj["metadata"]["resourceVersion"] for key, obj in self.objects.items()}

    async def get(self, kind: cluster.Kind, namespace: str, name: str) -> dict[str, Any] | None:
        self._check_kind(kind.kind)
        return copy.deepcopy(self.objects.get((kind.kind, namespace, name)))

    async def list(
        self, kind: cluster.Kind, namespace: str, labels: Mapping[str, str]
    ) -> list[dict[str, Any]]:
        self._check_kind(kind.kind)
        found = [obj for key, obj in self.objects.items() if key[:2] == (kind.kind, namespace)]
        return [
            copy.deepcopy(obj)
            for obj in found
            if labels.items() <= (obj["metadata"].get("labels") or {}).items()
        ]

    async def apply(self, manifest: Mapping[str, Any], subresource: str = "") -> dict[str, Any]:
        metadata = manifest["metadata"]
        key = (manifest["kind"], metadata["namespace"], metadata["name"])
        self._check_kind(manifest["kind"])
        self.writes.append(
            f"apply {manifest['kind']}/{metadata['name']}{'/' if subresource else ''}{subresource}"
        )
        if manifest["kind"] in self.refusals:
            raise self.refusals[manifest["kind"]]
        current = self.objects.get(key)
        if subresource and current is None:
            raise cluster.RefusedError(404, "not found")
        if "uid" in metadata and (current is None or current["metadata"]["uid"] != metadata["uid"]):
            raise cluster.RefusedError(409, "Precondition failed: uid")
        wanted = {k: v for k, v in manifest.items() if k not in self.dropped_fields}
        result = copy.deepcopy(current) if current else {}
        before = self._applied.get((key, subresource))
        if before is not None:
            for path in set(_paths(before)) - set(_paths(wanted)):
                _delete(result, path)
        _merge(result, copy.deepcopy(wanted))
        self._applied[(key, subresource)] = copy.deepcopy(dict(wanted))
        if current is not None and result == current:
            return copy.deepcopy(result)
        return copy.deepcopy(self.put(result))

    async def open_readiness_gate(self, namespace: str, pod: str, uid: str, now: str) -> None:
        self.writes.append(f"gate {pod}")
        found = self.objects.get(("Pod", namespace, pod))
        if found is None or found["metadata"]["uid"] != uid:
            raise cluster.RefusedError(409, "uid differs")
        conditions = found.setdefault("status", {}).setdefault("conditions", [])
        conditions.append({"type": names.READINESS_GATE, "status": "True", "lastTransitionTime": now})

    async def scale_workers(
        self, namespace: str, cluster: str, uid: str, replicas: int, remove: Sequence[str]
    ) -> None:
        self.writes.append(f"scale {cluster} to {replicas} without {list(remove)}")
        found = copy.deepcopy(self.objects[("RayCluster", namespace, cluster)])
        found["spec"]["workerGroupSpecs"][0]["replicas"] = replicas
        self.put(found)

    async def create_event(self, event: Mapping[str, Any]) -> None:
        self.writes.append(f"event {event['reason']}")
        self.events.append(dict(event))

    def _check_kind(self, kind: str) -> None:
        if kind in self.missing_kinds:
            raise cluster.KindMissingError(f"the API server has nothing for {kind}")


def _paths(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _paths(inner, (*path, key))
    else:
        yield path


def _delete(value: dict[str, Any], path: tuple[str, ...]) -> None:
    for part in path[:-1]:
        if not isinstance(value.get(part), dict):
            return
        value = value[part]
    value.pop(path[-1], None)


def _merge(into: dict[str, Any], wanted: Mapping[str, Any]) -> None:
    for key, value in wanted.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value
