"""Objects of one kind as the API server has them, kept small. Pure.

An object is kept as its JSON: as Python values it would take several times the memory, and it is read seldom.
Versions of an object grow, so what is older than what is known is left out: what was just written counts at
once, however late the watch tells of it.
"""

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from typing import Any

from modelset_operator.cluster import kinds

Object = Mapping[str, Any]

# (namespace, name)
Key = tuple[str, str]

_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
# Of some specs what is looked at; most of a pod's is what its owner says as well.
_SPECS = {kinds.POD: ("nodeName", "readinessGates"), kinds.VOLUME_CLAIM: ("resources",)}


@dataclasses.dataclass(frozen=True, slots=True)
class _Kept:
    version: int
    owner: str
    data: bytes


class Store:
    """All objects of one kind that watches report, by namespace and name, and by the set they belong to.

    `owner` tells the name of that set, "" where there is none; `tell` is called with the namespace and name
    of each set of which something has changed here.
    """

    def __init__(self, kind: kinds.Kind, owner: Callable[[Object], str], tell: Callable[[Key], None]) -> None:
        self._kind = kind
        self._owner = owner
        self._tell = tell
        self._objects: dict[Key, _Kept] = {}
        self._of_set: dict[Key, set[Key]] = {}

    def __len__(self) -> int:
        return len(self._objects)

    def get(self, namespace: str, name: str) -> dict[str, Any] | None:
        """Return an object, or None when there is none."""
        kept = self._objects.get((namespace, name))
        return None if kept is None else _read(kept)

    def __iter__(self) -> Iterator[Key]:
        """Yield the namespaces and names of all."""
        return iter(self._objects)

    def values(self) -> Iterator[dict[str, Any]]:
        """Yield all objects."""
        return map(_read, self._objects.values())

    def of_set(self, namespace: str, name: str) -> list[dict[str, Any]]:
        """Return what belongs to a set, by name."""
        return [_read(self._objects[key]) for key in sorted(self._of_set.get((namespace, name), ()))]

    def put_all(self, objects: Iterable[Object]) -> set[Key]:
        """Take over objects, as `put` does; return their namespaces and names."""
        keys = set()
        for one in objects:
            keys.add(_key(one))
            self.put(one)
        return keys

    def keep_only(self, namespace: str, listed: Set[Key], version: int) -> None:
        """Forget all in a namespace ("": in all) but what was listed there at a version, or written since."""
        for key, kept in list(self._objects.items()):
            if key not in listed and namespace in ("", key[0]) and kept.version <= version:
                self._drop(key)
                self._changed(key[0], kept.owner)

    def put(self, given: Object, *, own: bool = False) -> None:
        """Take over an object, unless what is known is as new.

        `own` is what we wrote ourselves: nothing follows from it where no more than the status has changed.
        """
        key, version = _key(given), _version(given)
        known = self._objects.get(key)
        if known is not None and known.version >= version:
            return
        if known is not None:
            self._drop(key)
        owner = self._owner(given)
        data = json.dumps(self._trimmed(given), separators=(",", ":")).encode()
        kept = self._objects[key] = _Kept(version, owner, data)
        if owner:
            self._of_set.setdefault((key[0], owner), set()).add(key)
        if own and known is not None and _apart_from_status(known) == _apart_from_status(kept):
            return
        for one in {owner, known.owner if known is not None else ""}:
            self._changed(key[0], one)

    def remove(self, given: Object) -> None:
        """Forget an object that was deleted; another one may have taken its name since."""
        key = _key(given)
        known = self._objects.get(key)
        if known is not None and known.version <= _version(given):
            self._drop(key)
            self._changed(key[0], known.owner)

    def clear(self, namespace: str) -> None:
        """Forget all there is in a namespace ("": in all): its kind is gone."""
        for key in [key for key in self._objects if namespace in ("", key[0])]:
            owner = self._objects[key].owner
            self._drop(key)
            self._changed(key[0], owner)

    def _changed(self, namespace: str, owner: str) -> None:
        if owner:
            self._tell((namespace, owner))

    def _drop(self, key: Key) -> None:
        kept = self._objects.pop(key)
        if kept.owner:
            of_set = self._of_set[key[0], kept.owner]
            of_set.discard(key)
            if not of_set:
                del self._of_set[key[0], kept.owner]

    def _trimmed(self, given: Object) -> dict[str, Any]:
        # The entries of a list do not say what they are.
        kept = {**given, "apiVersion": self._kind.api_version, "kind": self._kind.kind}
        metadata = kept["metadata"] = dict(given["metadata"])
        metadata.pop("managedFields", None)
        if _LAST_APPLIED in (metadata.get("annotations") or {}):
            metadata["annotations"] = {
                name: value for name, value in metadata["annotations"].items() if name != _LAST_APPLIED
            }
        if self._kind in _SPECS:
            spec = given.get("spec") or {}
            kept["spec"] = {name: spec[name] for name in _SPECS[self._kind] if name in spec}
        return kept


def _read(kept: _Kept) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(kept.data)
    return found


def _apart_from_status(kept: _Kept) -> dict[str, Any]:
    found = _read(kept)
    found.pop("status", None)
    found["metadata"].pop("resourceVersion", None)
    return found


def _key(given: Mapping[str, Any]) -> Key:
    return given["metadata"].get("namespace", ""), given["metadata"]["name"]


def _version(given: Mapping[str, Any]) -> int:
    return int(given["metadata"]["resourceVersion"])
