"""The API server: reading objects, server-side apply, and Events."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp
from kubernetes.aio import client

from modelset_operator.api import names

REQUEST_SECONDS = 20


class KindMissingError(Exception):
    """The API server does not know the kind: its CustomResourceDefinition is not installed."""


class UnreachableError(Exception):
    """The API server did not answer."""


class RefusedError(Exception):
    """The API server refused a request; the message is its own, `status` the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclasses.dataclass(frozen=True)
class Kind:
    """Where the API server keeps objects of a kind."""

    api_version: str
    kind: str
    plural: str

    def path(self, namespace: str, name: str = "", subresource: str = "") -> str:
        """Return the URL path of a collection, an object or a subresource."""
        root = "/apis" if "/" in self.api_version else "/api"
        parts = [root, self.api_version, "namespaces", namespace, self.plural, name, subresource]
        return "/".join(part for part in parts if part)


MODEL_SET = Kind(names.API_VERSION, names.KIND, names.PLURAL)
STATEFUL_SET = Kind("apps/v1", "StatefulSet", "statefulsets")
SERVICE = Kind("v1", "Service", "services")
POD = Kind("v1", "Pod", "pods")
EVENT = Kind("v1", "Event", "events")
RAY_SERVICE = Kind("ray.io/v1", "RayService", "rayservices")
RAY_CLUSTER = Kind("ray.io/v1", "RayCluster", "rayclusters")
_BY_KIND = {kind.kind: kind for kind in (MODEL_SET, STATEFUL_SET, SERVICE, POD, EVENT, RAY_SERVICE)}


class Cluster:
    """The API server, through the official asyncio client; objects are plain dictionaries."""

    def __init__(self, api: client.ApiClient) -> None:
        self._api = api

    async def get(self, kind: Kind, namespace: str, name: str) -> dict[str, Any] | None:
        """Return an object, or None when there is none. Raises KindMissingError."""
        try:
            return await self._request("GET", kind.path(namespace, name))
        except RefusedError as error:
            if error.status == 404:
                return None
            raise

    async def list(self, kind: Kind, namespace: str, labels: Mapping[str, str]) -> list[dict[str, Any]]:
        """Return the objects that carry all these labels."""
        query = {"labelSelector": names.selector_text(dict(labels))}
        found = await self._request("GET", kind.path(namespace), query=query)
        return list(found.get("items") or ())

    async def apply(self, manifest: Mapping[str, Any], subresource: str = "") -> dict[str, Any]:
        """Apply a manifest on the server and return the object as it is afterwards."""
        kind, metadata = _BY_KIND[manifest["kind"]], manifest["metadata"]
        return await self._request(
            "PATCH",
            kind.path(metadata["namespace"], metadata["name"], subresource),
            query={"fieldManager": names.FIELD_MANAGER, "force": "true"},
            body=manifest,
            content_type="application/apply-patch+yaml",
        )

    async def open_readiness_gate(self, namespace: str, pod: str, uid: str, now: str) -> None:
        """Set the readiness gate of a pod to True. `now` is RFC 3339."""
        condition = {
            "type": names.READINESS_GATE,
            "status": "True",
            "reason": "ModelsHeld",
            "message": "the pod holds every model of its set that can be pulled",
            "lastTransitionTime": now,
        }
        await self._request(
            "PATCH",
            POD.path(namespace, pod, "status"),
            query={"fieldManager": names.FIELD_MANAGER},
            body={"metadata": {"uid": uid}, "status": {"conditions": [condition]}},
            content_type="application/strategic-merge-patch+json",
        )

    async def scale_workers(
        self, namespace: str, cluster: str, uid: str, replicas: int, remove: Sequence[str]
    ) -> None:
        """Set the number of workers in the only worker group of a RayCluster, and which are to go."""
        group = "/spec/workerGroupSpecs/0"
        await self._request(
            "PATCH",
            RAY_CLUSTER.path(namespace, cluster),
            query={"fieldManager": names.FIELD_MANAGER},
            body=[
                {"op": "test", "path": "/metadata/uid", "value": uid},
                {"op": "add", "path": f"{group}/replicas", "value": replicas},
                {"op": "add", "path": f"{group}/scaleStrategy", "value": {"workersToDelete": list(remove)}},
            ],
            content_type="application/json-patch+json",
        )

    async def create_event(self, event: Mapping[str, Any]) -> None:
        """Create an Event."""
        await self._request("POST", EVENT.path(event["metadata"]["namespace"]), body=event)

    async def _request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | Sequence[Any] | None = None,
        content_type: str = "application/json",
    ) -> dict[str, Any]:
        request = await self._api.param_serialize(
            method,
            path,
            query_params=list((query or {}).items()),
            header_params={"Accept": "application/json", "Content-Type": content_type},
            body=body,
            auth_settings=["BearerToken"],
        )
        timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS)
        try:
            response = await self._api.call_api(*request, _request_timeout=timeout)
            data = await response.read()  # type: ignore[no-untyped-call]
        except (aiohttp.ClientError, TimeoutError) as error:
            reason = str(error) or type(error).__name__
            raise UnreachableError(f"the API server does not answer ({reason})") from error
        if 200 <= response.status <= 299:
            result: dict[str, Any] = json.loads(data)
            return result
        raise _error(response.status, path, data)


def _error(status: int, path: str, data: bytes) -> Exception:
    """Tell an object that is not there from a kind that is not there: only the first gets a Status object."""
    try:
        message = str(json.loads(data)["message"])
    except (ValueError, KeyError, TypeError):
        text = data.decode(errors="replace").strip()
        if status == 404:
            return KindMissingError(f"the API server has nothing at {path}")
        message = f"HTTP {status}: {text[:200]}"
    return RefusedError(status, message)
