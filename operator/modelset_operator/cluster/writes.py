"""What is asked of the API server: server-side apply, patches, and Events."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from modelset_operator.api import names
from modelset_operator.cluster import http, kinds


class Writes:
    """Writes to the API server; `wrote` takes what each object is afterwards. Errors are those of `Http`."""

    def __init__(self, api: http.Http, wrote: Callable[[Mapping[str, Any]], None]) -> None:
        self._api = api
        self._wrote = wrote

    async def find(self, manifest: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the object that a manifest names as the API server has it, or None."""
        kind, metadata = kinds.BY_NAME[manifest["kind"]], manifest["metadata"]
        try:
            return await self._api.ask("GET", kind.path(metadata["namespace"], metadata["name"]))
        except http.RefusedError as error:
            if error.status == 404:
                return None
            raise

    async def orphan(self, manifest: Mapping[str, Any]) -> None:
        """Delete the object that a manifest names; what it owns stays."""
        kind, metadata = kinds.BY_NAME[manifest["kind"]], manifest["metadata"]
        options = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Orphan"}
        await self._api.ask("DELETE", kind.path(metadata["namespace"], metadata["name"]), body=options)

    async def delete(self, kind: kinds.Kind, namespace: str, name: str, uid: str) -> None:
        """Delete the very object of this uid, and then what it owns."""
        options = {
            "kind": "DeleteOptions",
            "apiVersion": "v1",
            "propagationPolicy": "Background",
            "preconditions": {"uid": uid},
        }
        await self._api.ask("DELETE", kind.path(namespace, name), body=options)

    async def apply(
        self, manifest: Mapping[str, Any], subresource: str = "", *, force: bool = True
    ) -> dict[str, Any]:
        """Apply a manifest on the server and return the object as it is afterwards.

        With `force`, fields that others own become ours; without, they are a conflict.
        """
        kind, metadata = kinds.BY_NAME[manifest["kind"]], manifest["metadata"]
        return await self._write(
            "PATCH",
            kind.path(metadata["namespace"], metadata["name"], subresource),
            query={"force": "true" if force else "false"},
            body=manifest,
            content_type="application/apply-patch+yaml",
        )

    async def scale_workers(
        self, namespace: str, cluster: str, uid: str, replicas: int, remove: Sequence[str]
    ) -> None:
        """Set the number of workers in the only worker group of a RayCluster, and which are to go."""
        group = "/spec/workerGroupSpecs/0"
        await self._write(
            "PATCH",
            kinds.RAY_CLUSTER.path(namespace, cluster),
            body=[
                {"op": "test", "path": "/metadata/uid", "value": uid},
                {"op": "add", "path": f"{group}/replicas", "value": replicas},
                {"op": "add", "path": f"{group}/scaleStrategy", "value": {"workersToDelete": list(remove)}},
            ],
            content_type="application/json-patch+json",
        )

    async def grow(self, namespace: str, claim: str, uid: str, size: str) -> None:
        """Have a PersistentVolumeClaim ask for so much; another one of the name is a conflict."""
        await self._write(
            "PATCH",
            kinds.VOLUME_CLAIM.path(namespace, claim),
            body={"metadata": {"uid": uid}, "spec": {"resources": {"requests": {"storage": size}}}},
            content_type="application/merge-patch+json",
        )

    async def annotate(self, found: Mapping[str, Any], annotation: str, value: str) -> dict[str, Any]:
        """Set an annotation of a set; what was changed since it was `found` is a conflict."""
        metadata = found["metadata"]
        kind = kinds.BY_NAME[found["kind"]]
        return await self._write(
            "PATCH",
            kind.path(metadata["namespace"], metadata["name"]),
            body={
                "metadata": {
                    "uid": metadata["uid"],
                    "resourceVersion": metadata["resourceVersion"],
                    "annotations": {annotation: value},
                }
            },
            content_type="application/merge-patch+json",
        )

    async def create_event(self, event: Mapping[str, Any]) -> None:
        """Create an Event."""
        await self._api.ask("POST", kinds.EVENT.path(event["metadata"]["namespace"]), body=event)

    async def _write(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | Sequence[Any],
        content_type: str,
        query: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        written = await self._api.ask(
            method,
            path,
            query={"fieldManager": names.FIELD_MANAGER, **(query or {})},
            body=body,
            content_type=content_type,
        )
        self._wrote(written)
        return written
