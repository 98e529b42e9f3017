"""Stands in for the StatefulSet controller, the kubelets and KubeRay: what the operator applies runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from benchmarks.operator import manifests
from benchmarks.operator.api import Api, Object
from benchmarks.operator.ollamas import Ollamas

STATEFUL_SETS = "/apis/apps/v1/statefulsets"
RAY_SERVICES = "/apis/ray.io/v1/rayservices"
# A container's start from an image that the node has; Ray's start, and that of Serve's application.
_POD_SECONDS = 1.0
_RAY_SECONDS = 5.0
_SERVE_SECONDS = 5.0
_PROXY_ADDRESS = "127.0.0.1"


class Controllers:
    """Plays all controllers and kubelets of a cluster."""

    def __init__(self, api: Api, ollamas: Ollamas) -> None:
        self._api = api
        self._ollamas = ollamas
        # By uid: what was begun, and what runs since.
        self._begun: set[str] = set()
        self._running: set[str] = set()

    async def run(self) -> None:
        """Go on until cancelled; what goes wrong ends it."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._each(tasks, STATEFUL_SETS, self._start_pod, self._roll))
            tasks.create_task(self._each(tasks, RAY_SERVICES, self._start_ray, self._reconfigure))

    async def _each(
        self,
        tasks: asyncio.TaskGroup,
        path: str,
        begin: Callable[[dict[str, Any]], Coroutine[Any, Any, None]],
        follow: Callable[[dict[str, Any]], Coroutine[Any, Any, None]],
    ) -> None:
        """Begin what is new, once; follow what has changed after it runs."""
        async for found in self._api.follow(path):
            uid = found["metadata"]["uid"]
            if uid not in self._begun:
                self._begun.add(uid)
                tasks.create_task(begin(found))
            elif uid in self._running and _is_behind(found):
                tasks.create_task(follow(found))

    async def _start_pod(self, found: dict[str, Any]) -> None:
        number = manifests.number(found["metadata"]["name"].removesuffix("-ollama"))
        pod = manifests.pod(found, found["spec"]["template"], f"{found['metadata']['name']}-0", {})
        await self._create_pod(found, pod)
        await asyncio.sleep(_POD_SECONDS)
        address = manifests.address(number)
        await self._report_pod(found, pod, address, ready=False)
        await self._report(STATEFUL_SETS, found, manifests.stateful_set_status(found, 0))
        # The startup probe of the pod: it holds what its ConfigMap asks for.
        await self._ollamas.until_holds(address, len(manifests.MODELS))
        await self._report_pod(found, pod, address, ready=True)
        self._running.add(found["metadata"]["uid"])
        await self._report(STATEFUL_SETS, found, manifests.stateful_set_status(found, 1))

    async def _roll(self, found: dict[str, Any]) -> None:
        await self._report(STATEFUL_SETS, found, manifests.stateful_set_status(found, 1))

    async def _start_ray(self, found: dict[str, Any]) -> None:
        cluster = manifests.ray_cluster(found)
        namespace = found["metadata"]["namespace"]
        made = await self._api.create(f"/apis/ray.io/v1/namespaces/{namespace}/rayclusters", cluster)
        labels = manifests.head_labels(made["metadata"]["name"])
        template = found["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]
        head = manifests.pod(made, template, f"{made['metadata']['name']}-head", labels)
        await self._create_pod(found, head)
        await self._report(RAY_SERVICES, found, manifests.ray_service_status(found, ""))
        await asyncio.sleep(_RAY_SECONDS)
        await self._report_pod(found, head, _PROXY_ADDRESS, ready=True)
        await self._report(RAY_SERVICES, found, manifests.ray_service_status(found, "DEPLOYING"))
        await asyncio.sleep(_SERVE_SECONDS)
        await self._api.create(f"/api/v1/namespaces/{namespace}/services", manifests.serve_service(found))
        self._running.add(found["metadata"]["uid"])
        await self._report(RAY_SERVICES, found, manifests.ray_service_status(found, "RUNNING"))

    async def _reconfigure(self, found: dict[str, Any]) -> None:
        await self._report(RAY_SERVICES, found, manifests.ray_service_status(found, "RUNNING"))

    async def _create_pod(self, owner: Object, pod: Object) -> None:
        await self._api.create(f"/api/v1/namespaces/{owner['metadata']['namespace']}/pods", pod)

    async def _report_pod(self, owner: Object, pod: Object, address: str, *, ready: bool) -> None:
        names = [container["name"] for container in pod["spec"]["containers"]]
        status = manifests.pod_status(address, ready=ready, containers=names)
        path = f"/api/v1/namespaces/{owner['metadata']['namespace']}/pods/{pod['metadata']['name']}/status"
        await self._api.merge(path, {"status": status})

    async def _report(self, collection: str, found: Object, status: Object) -> None:
        root, _, plural = collection.rpartition("/")
        metadata = found["metadata"]
        path = f"{root}/namespaces/{metadata['namespace']}/{plural}/{metadata['name']}/status"
        await self._api.merge(path, {"status": status})


def _is_behind(found: Object) -> bool:
    observed = (found.get("status") or {}).get("observedGeneration", 0)
    return bool(observed < found["metadata"]["generation"])
