"""An API server in memory, behind ``http.Http``: what the real one was seen to do, errors included.

Seen at kube-apiserver 1.34.4, with the requests that the operator sends:

- An apply that changes nothing leaves the resource version as it is. Generations rise with specs only.
- An apply without ``force`` onto another value of another manager is 409, onto the same or none is taken.
- ``metadata.uid``: 409 where there is no object, 422 ("field is immutable") where it is another one; what is
  applied to a status may carry any. ``metadata.resourceVersion``, wherever it is given, has to be the present
  one, or it is 409.
- What is applied to an object leaves its status as it is, and what is applied to a status all else.
- Names, namespaces, kinds and versions other than those of the path are 400; no field manager is 422.
- Fields of a StatefulSet that stay as they were made are 422, on its way out as well. One that is deleted and
  to orphan what it owns stays until the garbage collector has come by (here: ``collect``).
- Owners that are not there are taken; the garbage collector deletes what has no others.
- A Lease is written whole, at the version that was read; one that is there cannot be created: 409.
- A second Event of a name is 409, one about an object in another namespace 422.
- A watch with labels reports as DELETED what has lost them, as it was before, and as ADDED what has got them.
- An entry of a list says neither its kind nor its version.
"""

import asyncio
import collections
import contextlib
import dataclasses
import json
import marshal
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

from modelset_operator.cluster import http, kinds

Key = tuple[str, str, str]

_BY_PLURAL = {kind.plural: kind for kind in kinds.BY_NAME.values()}
# All else of a StatefulSet's spec stays as it was made (1.34: pkg/apis/apps/validation).
_STATEFUL_SET_CHANGES = {
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
    "revisionHistoryLimit",
}


class FakeApi(http.Http):
    """Takes the place of ``http.Http``. ``writes`` and ``reads`` record every request in short."""

    def __init__(self) -> None:
        self.objects: dict[Key, dict[str, Any]] = {}
        self.events: list[dict[str, Any]] = []
        self.writes: list[str] = []
        self.reads: list[str] = []
        self.missing_kinds: set[str] = set()
        self.refusals: dict[str, Exception] = {}
        self.dropped_fields: set[str] = set()
        # By object, subresource and field manager.
        self._applied: dict[tuple[Key, str, str], dict[str, Any]] = {}
        self._made: collections.Counter[Key] = collections.Counter()
        self._version = 0
        self._log: list[_Change] = []
        self._forgotten = 0
        self._watches: list[_Watch] = []

    # ---- what tests do ----

    def put(self, obj: Mapping[str, Any]) -> dict[str, Any]:
        """Store an object as another client would; its generation rises when its spec changes."""
        return self._store(_sent(obj))

    def _store(self, stored: dict[str, Any]) -> dict[str, Any]:
        metadata = stored["metadata"]
        key = (stored["kind"], metadata["namespace"], metadata["name"])
        before = self.objects.get(key)
        if before is None:
            self._made[key] += 1
        uid = before["metadata"]["uid"] if before else f"{'/'.join(key)}#{self._made[key]}"
        metadata.setdefault("uid", uid)
        generation = before["metadata"].get("generation", 1) if before else metadata.get("generation", 1)
        changed = before is not None and before.get("spec") != stored.get("spec")
        metadata["generation"] = generation + changed
        self.objects[key] = stored
        self._tell("MODIFIED" if before else "ADDED", before, stored)
        return stored

    def remove(self, kind: str, namespace: str, name: str) -> None:
        """Delete an object, and all that it owns, as the garbage collector does."""
        gone = self.objects.pop((kind, namespace, name))
        self._tell("DELETED", gone, gone)
        for key, obj in list(self.objects.items()):
            owners = obj["metadata"].get("ownerReferences") or ()
            if any(owner["uid"] == gone["metadata"]["uid"] for owner in owners):
                self.remove(*key)

    def collect(self) -> None:
        """Be the garbage collector: orphan what is to be orphaned, delete what has no owner any more."""
        for key, obj in list(self.objects.items()):
            if "orphan" in obj["metadata"].get("finalizers", ()):
                self._orphan(obj["metadata"]["uid"])
                self.remove(*key)
        uids = {obj["metadata"]["uid"] for obj in self.objects.values()}
        for key, obj in list(self.objects.items()):
            owners = obj["metadata"].get("ownerReferences") or ()
            if key in self.objects and owners and not any(owner["uid"] in uids for owner in owners):
                self.remove(*key)

    def find(self, kind: str, name: str, namespace: str = "default") -> dict[str, Any]:
        """Return an object as it is now."""
        return copied(self.objects[(kind, namespace, name)])

    @contextlib.contextmanager
    def edited(self, kind: str, name: str, namespace: str = "default") -> Iterator[dict[str, Any]]:
        """Change an object as another client would."""
        found = self.find(kind, name, namespace)
        yield found
        self.put(found)

    def versions(self) -> dict[Key, str]:
        """Return the resource versions of everything."""
        return {key: obj["metadata"]["resourceVersion"] for key, obj in self.objects.items()}

    def history(self, kind: str) -> Iterator[dict[str, Any]]:
        """Yield all that objects of a kind have been, in order."""
        return (copied(change.after) for change in self._log if change.after["kind"] == kind)

    def forget(self) -> None:
        """Compact: watches that ask for what has been expire."""
        self._forgotten = self._version

    async def told(self) -> None:
        """Wait until all watches have told all that has happened."""
        for watch in list(self._watches):
            await watch.caught_up.wait()

    # ---- what the operator asks ----

    async def ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | Sequence[Any] | None = None,
        content_type: str = "application/json",
    ) -> dict[str, Any]:
        """See ``http.Http``."""
        kind, namespace, name, subresource = _parsed(path)
        body = _sent(body)
        self._check_kind(kind.kind)
        # A merge patch says only what changes.
        if isinstance(body, Mapping) and method != "DELETE" and "merge-patch" not in content_type:
            _check_path(body, kind, namespace, name)
        if method == "GET":
            self.reads.append(f"get {kind.kind}/{name}")
            return copied(self._existing(kind, namespace, name))
        what = f"{kind.kind}/{name}" + (f"/{subresource}" if subresource else "")
        if method == "DELETE":
            self.writes.append(f"delete {what}")
            assert isinstance(body, Mapping)
            return self._delete(kind, namespace, name, body)
        if kind in (kinds.LEASE, kinds.SECRET):
            assert isinstance(body, Mapping)
            return self._write_whole(kind, method, namespace, body)
        assert method in ("POST", "PATCH")
        verb = "create" if method == "POST" else "apply" if "apply" in content_type else "patch"
        assert isinstance(body, Mapping | list)
        given = body if isinstance(body, Mapping) else {}
        self.writes.append(f"event {given['reason']}" if kind == kinds.EVENT else f"{verb} {what}")
        if kind.kind in self.refusals:
            raise self.refusals[kind.kind]
        if kind == kinds.EVENT:
            self._check_event(given)
            self.events.append(dict(given))
            return dict(given)
        if verb == "apply":
            query = query or {}
            if "fieldManager" not in query:
                raise http.RefusedError(422, "fieldManager: Required value: is required for apply patch")
            force = query.get("force") == "true"
            return self._apply(kind, given, subresource, query["fieldManager"], force=force)
        found = copied(self._existing(kind, namespace, name))
        if isinstance(body, list):
            _json_patch(found, body)
        else:
            _check_preconditions(given["metadata"], found)
            _merge(found, given)
        return copied(self._store(found))

    async def list(
        self, kind: kinds.Kind, namespace: str, labels: str
    ) -> AsyncIterator[tuple[list[dict[str, Any]], str]]:
        """See ``http.Http``; all comes at once."""
        self._check_kind(kind.kind)
        self.reads.append(f"list {kind.plural}")
        found = [obj for (one, _, _), obj in self.objects.items() if one == kind.kind]
        selected = [copied(obj) for obj in found if _selected(obj, namespace, labels)]
        for obj in selected:
            # The entries of a real list do not say what they are.
            obj.pop("kind", None)
            obj.pop("apiVersion", None)
        yield selected, str(self._version)

    async def watch(
        self, kind: kinds.Kind, namespace: str, labels: str, since: str, seconds: int
    ) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """See ``http.Http``."""
        self._check_kind(kind.kind)
        self.reads.append(f"watch {kind.plural}")
        if int(since) < self._forgotten:
            raise http.ExpiredError(since)
        mine = _Watch()
        self._watches.append(mine)
        until = asyncio.get_running_loop().time() + seconds
        try:
            yield http.BEGUN, {}
            while True:
                while mine.position < len(self._log):
                    change = self._log[mine.position]
                    mine.position += 1
                    if change.version > int(since) and change.after["kind"] == kind.kind:
                        for event in change.seen(namespace, labels):
                            yield event
                mine.caught_up.set()
                try:
                    async with asyncio.timeout_at(until):
                        await mine.news.wait()
                except TimeoutError:
                    return
                mine.news.clear()
        finally:
            self._watches.remove(mine)

    # ---- the rest ----

    def _tell(self, event: str, before: Mapping[str, Any] | None, obj: dict[str, Any]) -> None:
        self._version += 1
        obj["metadata"]["resourceVersion"] = str(self._version)
        self._log.append(_Change(self._version, before and copied(before), copied(obj), event))
        for watch in self._watches:
            watch.news.set()
            watch.caught_up.clear()

    def _existing(self, kind: kinds.Kind, namespace: str, name: str) -> dict[str, Any]:
        found = self.objects.get((kind.kind, namespace, name))
        if found is None:
            raise http.RefusedError(404, f'{kind.plural} "{name}" not found')
        return found

    def _check_event(self, given: Mapping[str, Any]) -> None:
        if given["involvedObject"]["namespace"] != given["metadata"]["namespace"]:
            raise http.RefusedError(422, "involvedObject.namespace: does not match event.namespace")
        if any(event["metadata"]["name"] == given["metadata"]["name"] for event in self.events):
            raise http.RefusedError(409, f'events "{given["metadata"]["name"]}" already exists')

    def _check_kind(self, kind: str) -> None:
        if kind in self.missing_kinds:
            raise http.KindMissingError(f"the API server has nothing for {kind}")

    def _orphan(self, uid: str) -> None:
        for obj in list(self.objects.values()):
            owners = obj["metadata"].get("ownerReferences") or []
            if any(owner["uid"] == uid for owner in owners):
                left = [owner for owner in owners if owner["uid"] != uid]
                self.put({**obj, "metadata": {**obj["metadata"], "ownerReferences": left}})

    def _delete(
        self, kind: kinds.Kind, namespace: str, name: str, options: Mapping[str, Any]
    ) -> dict[str, Any]:
        going = copied(self._existing(kind, namespace, name))
        if options["propagationPolicy"] == "Background":
            if options["preconditions"]["uid"] != going["metadata"]["uid"]:
                raise http.RefusedError(409, f"{kind.kind} {name}: the UID in the precondition differs")
            self.remove(kind.kind, namespace, name)
            return going
        assert options == {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Orphan"}
        going["metadata"] |= {"deletionTimestamp": "2026-01-02T03:04:05Z", "finalizers": ["orphan"]}
        return copied(self._store(going))

    def _write_whole(
        self, kind: kinds.Kind, method: str, namespace: str, body: Mapping[str, Any]
    ) -> dict[str, Any]:
        name = body["metadata"]["name"]
        found = self.objects.get((kind.kind, namespace, name))
        self.writes.append(f"{'create' if method == 'POST' else 'update'} {kind.kind}/{name}")
        if kind.kind in self.refusals:
            raise self.refusals[kind.kind]
        if method == "POST" and found is not None:
            group = kind.api_version.rpartition("/")[0]
            resource = f"{kind.plural}.{group}" if group else kind.plural
            raise http.RefusedError(409, f'{resource} "{name}" already exists')
        if method == "PUT":
            _check_preconditions(body["metadata"], self._existing(kind, namespace, name))
        return copied(self._store({**body, "kind": kind.kind}))

    def _apply(
        self,
        kind: kinds.Kind,
        manifest: Mapping[str, Any],
        subresource: str,
        manager: str,
        *,
        force: bool,
    ) -> dict[str, Any]:
        metadata = manifest["metadata"]
        key = (kind.kind, metadata["namespace"], metadata["name"])
        current = self.objects.get(key)
        if subresource and current is None:
            raise http.RefusedError(404, "not found")
        _check_preconditions(metadata, current, subresource)
        ignored = {*self.dropped_fields, *({"metadata", "spec"} if subresource else {"status"})}
        wanted = {name: value for name, value in manifest.items() if name not in ignored}
        if "metadata" in wanted:
            left_out = ("uid", "resourceVersion")
            wanted["metadata"] = {name: value for name, value in metadata.items() if name not in left_out}
        result = copied(current) if current else {}
        before = self._applied.get((key, subresource, manager))
        if before is None and current is not None and not force and _conflicts(current, wanted):
            raise http.RefusedError(409, f"Apply failed with conflicts: conflict with others using {key}")
        if before is not None:
            for path in set(_paths(before)) - set(_paths(wanted)):
                _delete(result, path)
        _merge(result, copied(wanted))
        if kind == kinds.STATEFUL_SET and current is not None:
            _check_stateful_set(current["spec"], result["spec"], metadata["name"])
        self._applied[(key, subresource, manager)] = wanted
        if current is not None and result == current:
            return result
        return copied(self._store(result))


@dataclasses.dataclass
class _Change:
    """One entry of the log; what was deleted is `after` as it was last."""

    version: int
    before: dict[str, Any] | None
    after: dict[str, Any]
    event: str

    def seen(self, namespace: str, labels: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the event that a watch of these labels gets, if any."""
        fitted = self.before is not None and _selected(self.before, namespace, labels)
        fits = self.event != "DELETED" and _selected(self.after, namespace, labels)
        if fits:
            yield "MODIFIED" if fitted else "ADDED", copied(self.after)
        elif fitted and self.before is not None:
            gone = copied(self.before)
            gone["metadata"]["resourceVersion"] = str(self.version)
            yield "DELETED", gone


class _Watch:
    def __init__(self) -> None:
        self.position = 0
        self.news = asyncio.Event()
        self.caught_up = asyncio.Event()


def _sent(value: Any) -> Any:
    """What is left of a value on its way."""
    return json.loads(json.dumps(value))


def copied(value: Any) -> Any:
    """Copy what is JSON."""
    # Of what is JSON anyhow, several times as fast as through JSON once more.
    return marshal.loads(marshal.dumps(value))  # noqa: S302 - our own


def _parsed(path: str) -> tuple[kinds.Kind, str, str, str]:
    parts = path.strip("/").split("/")
    at = parts.index("namespaces")
    namespace, plural, *rest = parts[at + 1 :]
    name, subresource = [*rest, "", ""][:2]
    return _BY_PLURAL[plural], namespace, name, subresource


def _selected(obj: Mapping[str, Any], namespace: str, labels: str) -> bool:
    metadata = obj["metadata"]
    if namespace not in ("", metadata["namespace"]):
        return False
    has = metadata.get("labels") or {}
    # Commas stand between terms, and inside of the brackets of one.
    for term in filter(None, re.split(r",(?![^(]*\))", labels)):
        name, equals, value = term.partition("=")
        name, among, values = name.partition(" in ")
        if name not in has or (equals and has[name] != value):
            return False
        if among and has[name] not in values.strip("()").split(","):
            return False
    return True


def _check_path(given: Mapping[str, Any], kind: kinds.Kind, namespace: str, name: str) -> None:
    if (given["apiVersion"], given["kind"]) != (kind.api_version, kind.kind):
        raise http.RefusedError(400, f"invalid object type: {given['apiVersion']}, Kind={given['kind']}")
    if given["metadata"]["namespace"] != namespace:
        raise http.RefusedError(400, "the namespace of the provided object does not match")
    if name and given["metadata"]["name"] != name:
        raise http.RefusedError(400, "the name of the object does not match the name on the URL")


def _check_preconditions(
    given: Mapping[str, Any], current: Mapping[str, Any] | None, subresource: str = ""
) -> None:
    if current is None:
        if "uid" in given:
            raise http.RefusedError(409, "Operation cannot be fulfilled: uid mismatch")
        return
    if given.get("uid", current["metadata"]["uid"]) != current["metadata"]["uid"] and not subresource:
        raise http.RefusedError(422, f'metadata.uid: Invalid value: "{given["uid"]}": field is immutable')
    version = current["metadata"]["resourceVersion"]
    if given.get("resourceVersion", version) != version:
        raise http.RefusedError(409, "Operation cannot be fulfilled: the object has been modified")


def _check_stateful_set(before: Mapping[str, Any], after: Mapping[str, Any], name: str) -> None:
    changed = {field for field in before.keys() | after.keys() if before.get(field) != after.get(field)}
    if changed - _STATEFUL_SET_CHANGES:
        allowed = ", ".join(f"'{field}'" for field in sorted(_STATEFUL_SET_CHANGES))
        raise http.RefusedError(
            422,
            f'StatefulSet.apps "{name}" is invalid: spec: Forbidden: updates to statefulset spec for fields '
            f"other than {allowed} are forbidden",
        )


def _json_patch(found: dict[str, Any], operations: Sequence[Mapping[str, Any]]) -> None:
    for operation in operations:
        *parents, last = operation["path"].strip("/").split("/")
        target: Any = found
        for part in parents:
            target = target[int(part)] if isinstance(target, list) else target[part]
        if operation["op"] == "test" and target.get(last) != operation["value"]:
            raise http.RefusedError(422, "the server rejected our request due to an error in our request")
        if operation["op"] == "add":
            target[last] = copied(operation["value"])


def _conflicts(current: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether fields that somebody else has set would get another value."""
    for name, value in wanted.items():
        if name in current and current[name] != value:
            if not isinstance(value, Mapping) or not isinstance(current[name], Mapping):
                return True
            if _conflicts(current[name], value):
                return True
    return False


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
