"""What the API server does with requests such as the operator's: one table, for the real one and for FakeApi.

Each case sends requests about objects of its own, and says in short what came of each.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from modelset_operator.cluster import http, kinds

APPLY = "application/apply-patch+yaml"
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
# Sets that carry the name of another operator are left alone by the one that runs.
ANOTHER_OPERATOR = {"modelset.dev/operator": "nobody/nothing"}
_NO_UID = "00000000-0000-0000-0000-000000000000"


class Client:
    """Requests to one namespace of an API server, about objects whose names begin alike."""

    def __init__(self, api: http.Http, namespace: str, prefix: str = "") -> None:
        self.api = api
        self.namespace = namespace
        self.prefix = prefix

    def path(self, kind: kinds.Kind, name: str, subresource: str = "") -> str:
        """Return the path of an object."""
        return kind.path(self.namespace, f"{self.prefix}{name}", subresource)

    async def apply(
        self,
        kind: kinds.Kind,
        name: str,
        subresource: str = "",
        *,
        metadata: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
        **fields: Any,
    ) -> dict[str, Any]:
        """Apply an object with these fields, as field manager `modelset`, by force."""
        manifest = {
            "apiVersion": kind.api_version,
            "kind": kind.kind,
            "metadata": {"name": f"{self.prefix}{name}", "namespace": self.namespace, **(metadata or {})},
            **fields,
        }
        query = {"fieldManager": "modelset", "force": "true"} if query is None else query
        path = self.path(kind, name, subresource)
        return await self.api.ask("PATCH", path, query=query, body=manifest, content_type=APPLY)

    async def patch(self, kind: kinds.Kind, name: str, body: Any, content_type: str) -> dict[str, Any]:
        """Patch an object as another client."""
        path = self.path(kind, name)
        return await self.api.ask("PATCH", path, body=body, content_type=content_type)

    async def write(
        self,
        method: str,
        kind: kinds.Kind,
        name: str,
        metadata: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> dict[str, Any]:
        """Create (POST) or replace (PUT) an object."""
        named = {"name": f"{self.prefix}{name}", "namespace": self.namespace, **(metadata or {})}
        body = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": named, **fields}
        path = self.path(kind, name) if method == "PUT" else kind.path(self.namespace)
        return await self.api.ask(method, path, body=body)


async def said(answer: Awaitable[Mapping[str, Any]]) -> str:
    """Return `ok`, or the status of the refusal."""
    try:
        await answer
    except http.RefusedError as error:
        return str(error.status)
    return "ok"


async def why(answer: Awaitable[Mapping[str, Any]], *words: str) -> str:
    """Return the status of a refusal and those of the words that are in its message."""
    try:
        await answer
    except http.RefusedError as error:
        return " ".join([str(error.status), *(word for word in words if word in str(error))])
    return "ok"


def _service(port: int = 80, **labels: str) -> dict[str, Any]:
    return {
        "metadata": {"labels": labels},
        "spec": {"clusterIP": "None", "selector": {"app": "none"}, "ports": [{"name": "one", "port": port}]},
    }


def _stateful_set(replicas: int = 0, service: str = "none") -> dict[str, Any]:
    labels = {"app": "none"}
    container = {"name": "none", "image": "none"}
    return {
        "replicas": replicas,
        "serviceName": service,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
    }


async def _nothing_changes(api: Client) -> list[str]:
    first = await api.apply(kinds.SERVICE, "one", **_service())
    again = await api.apply(kinds.SERVICE, "one", **_service())
    other = await api.apply(kinds.SERVICE, "one", **_service(81))
    versions = [found["metadata"]["resourceVersion"] for found in (first, again, other)]
    return ["same" if left == right else "newer" for left, right in itertools.pairwise(versions)]


async def _generations(api: Client) -> list[str]:
    sets = [
        await api.apply(kinds.STATEFUL_SET, "one", spec=_stateful_set(service="a")),
        await api.apply(
            kinds.STATEFUL_SET, "one", metadata={"labels": {"a": "b"}}, spec=_stateful_set(service="a")
        ),
    ]
    spec = _stateful_set(service="a") | {"minReadySeconds": 1}
    sets.append(await api.apply(kinds.STATEFUL_SET, "one", spec=spec))
    return [str(found["metadata"]["generation"]) for found in sets]


async def _conflicts(api: Client) -> list[str]:
    gently = {"fieldManager": "another", "force": "false"}
    await api.apply(kinds.SERVICE, "one", **_service(who="modelset"))
    return [
        await said(api.apply(kinds.SERVICE, "one", query=gently, metadata={"labels": {"who": "another"}})),
        await said(api.apply(kinds.SERVICE, "one", query=gently, metadata={"labels": {"who": "modelset"}})),
        await said(
            api.apply(
                kinds.SERVICE,
                "one",
                query={**gently, "force": "true"},
                metadata={"labels": {"who": "another"}},
            )
        ),
    ]


async def _what_is_applied_no_more_goes(api: Client) -> list[str]:
    await api.apply(kinds.SERVICE, "one", **_service(one="1", two="2"))
    await api.patch(kinds.SERVICE, "one", {"metadata": {"labels": {"three": "3"}}}, MERGE_PATCH)
    found = await api.apply(kinds.SERVICE, "one", **_service(one="1"))
    return sorted(found["metadata"]["labels"])


async def _uids(api: Client) -> list[str]:
    absent = await said(api.apply(kinds.SERVICE, "one", metadata={"uid": _NO_UID}, spec=_service()["spec"]))
    made = await api.apply(kinds.SERVICE, "one", **_service())
    return [
        absent,
        await why(api.apply(kinds.SERVICE, "one", metadata={"uid": _NO_UID}), "metadata.uid", "immutable"),
        await said(api.apply(kinds.SERVICE, "one", metadata={"uid": made["metadata"]["uid"]})),
    ]


async def _versions(api: Client) -> list[str]:
    first = (await api.apply(kinds.SERVICE, "one", **_service()))["metadata"]["resourceVersion"]
    await api.apply(kinds.SERVICE, "one", **_service(81))
    stale = {"metadata": {"resourceVersion": first, "annotations": {"a": "b"}}}
    return [
        await said(
            api.apply(kinds.SERVICE, "one", metadata={"resourceVersion": first}, spec=_service(81)["spec"])
        ),
        await said(api.patch(kinds.SERVICE, "one", stale, MERGE_PATCH)),
    ]


async def _statuses(api: Client) -> list[str]:
    spec = {"models": [{"name": "none:1"}]}
    metadata = {"annotations": ANOTHER_OPERATOR}
    none = await said(api.apply(kinds.MODEL_SET, "one", "status", status={"modelNames": "none"}))
    await api.apply(kinds.MODEL_SET, "one", metadata=metadata, spec=spec)
    told = await api.apply(
        kinds.MODEL_SET, "one", "status", metadata={"uid": _NO_UID}, status={"modelNames": "none"}, spec={}
    )
    edited = await api.apply(
        kinds.MODEL_SET, "one", metadata=metadata, spec=spec, status={"modelNames": "other"}
    )
    return [
        none,
        told["spec"]["models"][0]["name"],
        told["metadata"]["annotations"]["modelset.dev/operator"],
        edited["status"]["modelNames"],
    ]


async def _paths(api: Client) -> list[str]:
    path = api.path(kinds.SERVICE, "one")

    def applied(version: str, kind: str, namespace: str, name: str) -> Awaitable[dict[str, Any]]:
        body = {
            "apiVersion": version,
            "kind": kind,
            "metadata": {"name": f"{api.prefix}{name}", "namespace": namespace},
        }
        query = {"fieldManager": "modelset"}
        return api.api.ask("PATCH", path, query=query, body=body, content_type=APPLY)

    return [
        await said(applied("v1", "Service", api.namespace, "two")),
        await said(applied("v1", "Service", "elsewhere", "one")),
        await said(applied("v1", "ConfigMap", api.namespace, "one")),
        await said(applied("v2", "Service", api.namespace, "one")),
        await why(api.apply(kinds.SERVICE, "one", query={}, **_service()), "fieldManager", "Required"),
    ]


async def _what_stays_as_it_was_made(api: Client) -> list[str]:
    await api.apply(kinds.STATEFUL_SET, "one", spec=_stateful_set(service="a"))
    refused = api.apply(kinds.STATEFUL_SET, "one", spec=_stateful_set(service="b"))
    return [await why(refused, "Forbidden", "updates to statefulset spec", "'template'")]


async def _orphans(api: Client) -> list[str]:
    await api.apply(kinds.STATEFUL_SET, "one", spec=_stateful_set(service="a"))
    options = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Orphan"}
    path = api.path(kinds.STATEFUL_SET, "one")
    going = await api.api.ask("DELETE", path, body=options)
    return [
        *going["metadata"]["finalizers"],
        "going" if "deletionTimestamp" in going["metadata"] else "there",
    ]


async def _leases(api: Client) -> list[str]:
    made = await api.write("POST", kinds.LEASE, "one", spec={"holderIdentity": "a"})
    version = {"resourceVersion": made["metadata"]["resourceVersion"]}
    there = api.write("POST", kinds.LEASE, "one", spec={"holderIdentity": "b"})
    return [
        await why(there, "leases.coordination.k8s.io", "already exists"),
        await said(api.write("PUT", kinds.LEASE, "one", version, spec={"holderIdentity": "b"})),
        await said(api.write("PUT", kinds.LEASE, "one", version, spec={"holderIdentity": "b"})),
    ]


async def _events(api: Client) -> list[str]:
    def event(namespace: str) -> Awaitable[dict[str, Any]]:
        about = {"kind": "Service", "apiVersion": "v1", "name": "one", "namespace": namespace}
        return api.write("POST", kinds.EVENT, "one.1", involvedObject=about, reason="Tried", type="Normal")

    return [
        await said(event("elsewhere")),
        await said(event(api.namespace)),
        await why(event(api.namespace), "events", "already exists"),
    ]


async def _patches(api: Client) -> list[str]:
    made = await api.apply(kinds.SERVICE, "one", **_service())

    def patch(uid: str) -> Awaitable[dict[str, Any]]:
        label = {"op": "add", "path": "/metadata/labels", "value": {"a": "b"}}
        test = {"op": "test", "path": "/metadata/uid", "value": uid}
        return api.patch(kinds.SERVICE, "one", [test, label], JSON_PATCH)

    other = {"metadata": {"uid": _NO_UID, "labels": {"a": "c"}}}
    return [
        await said(patch(_NO_UID)),
        await said(patch(made["metadata"]["uid"])),
        await said(api.patch(kinds.SERVICE, "one", other, MERGE_PATCH)),
        await said(api.patch(kinds.SERVICE, "none", other, MERGE_PATCH)),
        await said(api.api.ask("GET", api.path(kinds.SERVICE, "none"))),
    ]


async def _lists_and_watches(api: Client) -> list[str]:
    await api.apply(kinds.SERVICE, "one", **_service(80, mine="yes"))
    await api.apply(kinds.SERVICE, "two", **_service())
    pages = [page async for page in api.api.list(kinds.SERVICE, api.namespace, "mine=yes")]
    listed = [found for page, _ in pages for found in page]
    told = [f"{_short(api, found)} {found.get('kind', 'of no kind')}" for found in listed]
    watch = api.api.watch(kinds.SERVICE, api.namespace, "mine=yes", pages[-1][1], 30)
    async with contextlib.aclosing(_events_of(api, watch)) as events:
        told.append(await anext(events))
        await api.apply(kinds.SERVICE, "one", **_service(80))
        told.append(await anext(events))
        await api.apply(kinds.SERVICE, "two", **_service(80, mine="yes"))
        told.append(await anext(events))
        await api.apply(kinds.SERVICE, "two", **_service(81, mine="yes"))
        told.append(await anext(events))
    return told


async def _events_of(
    api: Client, watch: AsyncIterator[tuple[str, dict[str, Any]]]
) -> AsyncGenerator[str, None]:
    async for kind, found in watch:
        if kind == http.BEGUN:
            yield kind
        elif kind != "BOOKMARK":
            mine = found["metadata"].get("labels", {}).get("mine", "no")
            yield f"{kind} {_short(api, found)} {found['kind']} {mine}"


def _short(api: Client, found: Mapping[str, Any]) -> str:
    return str(found["metadata"]["name"]).removeprefix(api.prefix)


Case = Callable[[Client], Awaitable[list[str]]]
CASES: dict[str, tuple[Case, list[str]]] = {
    "an apply that changes nothing is no write": (_nothing_changes, ["same", "newer"]),
    "generations rise with specs only": (_generations, ["1", "1", "2"]),
    "another manager's value is a conflict": (_conflicts, ["409", "ok", "ok"]),
    "what is applied no more goes": (_what_is_applied_no_more_goes, ["one", "three"]),
    "a uid has to be that of the object": (_uids, ["409", "422 metadata.uid immutable", "ok"]),
    "a version has to be the present one": (_versions, ["409", "409"]),
    "status and all else are apart": (_statuses, ["404", "none:1", "nobody/nothing", "none"]),
    "a path has the last word": (_paths, ["400", "400", "400", "400", "422 fieldManager Required"]),
    "most of a StatefulSet stays as it was made": (
        _what_stays_as_it_was_made,
        ["422 Forbidden updates to statefulset spec 'template'"],
    ),
    "what is to orphan stays for a while": (_orphans, ["orphan", "going"]),
    "a Lease is written at the version that was read": (
        _leases,
        ["409 leases.coordination.k8s.io already exists", "ok", "409"],
    ),
    "an Event is of its object's namespace, once": (
        _events,
        ["422", "ok", "409 events already exists"],
    ),
    "patches may ask who it is": (_patches, ["422", "ok", "422", "404", "404"]),
    "watches with labels": (
        _lists_and_watches,
        [
            "one of no kind",
            "BEGUN",
            "DELETED one Service yes",
            "ADDED two Service yes",
            "MODIFIED two Service yes",
        ],
    ),
}
