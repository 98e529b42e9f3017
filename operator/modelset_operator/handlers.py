"""kopf's part: watches, credentials, probes, start and stop. Every event only says which set to look at."""

import asyncio
import contextlib
import dataclasses
import logging
import os
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import kopf
from kubernetes.aio import client, config

from modelset_operator import cluster, observer, reconciler, workqueue
from modelset_operator.api import names, spec
from modelset_operator.engines import ollama, pulls

log = logging.getLogger(__name__)

# Events come in bursts, one look serves them all.
GATHER_SECONDS = 0.2
# Beyond this the process is taken for stuck and restarted. Every request ends within 20 s (60 to delete).
STUCK_SECONDS = 180.0
# A watch is renewed this often; a connection that died silently is noticed by then.
WATCH_SECONDS = 240


@dataclasses.dataclass(frozen=True)
class Options:
    """What the command line sets. No namespace means all of them."""

    images: spec.Images
    namespaces: tuple[str, ...] = ()


@dataclasses.dataclass
class _Running:
    """What runs between start and stop."""

    queue: workqueue.WorkQueue[reconciler.Set]
    task: asyncio.Task[None]
    stack: contextlib.AsyncExitStack


def register(registry: kopf.OperatorRegistry, options: Options) -> None:
    """Register everything that kopf is to call."""
    operator = Operator(options)
    kopf.on.startup(registry=registry)(operator.start)
    kopf.on.login(registry=registry)(login)
    kopf.on.cleanup(registry=registry)(operator.stop)
    kopf.on.probe(registry=registry, id="reconciling")(operator.probe)
    kopf.on.event(names.GROUP, names.VERSION, names.PLURAL, registry=registry)(operator.set_event)
    # The watches are filtered by the same labels on the server, see configure().
    owned: dict[str, Any] = {names.SET_LABEL: kopf.PRESENT}
    ollama_pods = {**owned, names.COMPONENT_LABEL: names.OLLAMA_COMPONENT}
    kopf.on.event("apps", "v1", "statefulsets", labels=owned, registry=registry)(operator.child_event)
    kopf.on.event("", "v1", "services", labels=owned, registry=registry)(operator.child_event)
    kopf.on.event("", "v1", "pods", labels=ollama_pods, registry=registry)(operator.child_event)
    kopf.on.event("ray.io", "v1", "rayservices", labels=owned, registry=registry)(operator.child_event)


class Operator:
    """Bodies of the handlers, and what they share."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._running: _Running | None = None

    async def start(self, settings: kopf.OperatorSettings, **_: Any) -> None:
        """Configure kopf and start reconciling."""
        configure(settings, self._options)
        stack = contextlib.AsyncExitStack()
        api = await stack.enter_async_context(api_client())
        # Pods are asked at their own addresses; a proxy of the environment has no business in between.
        http = await stack.enter_async_context(httpx.AsyncClient(trust_env=False))
        ollamas, access = ollama.Ollama(http), cluster.Cluster(api)
        downloads = pulls.Pulls(ollamas, self._look_at)
        stack.push_async_callback(downloads.close)
        looker = observer.Observer(access, ollamas, self._options.images)
        worker = reconciler.Reconciler(access, ollamas, looker, downloads)
        expected = (reconciler.ReconcileError, cluster.RefusedError, cluster.UnreachableError)
        queue = workqueue.WorkQueue(worker.reconcile, expected=expected)
        task = asyncio.create_task(queue.run(), name="work queue")
        self._running = _Running(queue, task, stack)

    async def stop(self, **_: Any) -> None:
        """Stop reconciling, let go of connections."""
        running, self._running = self._running, None
        if running is not None:
            running.task.cancel()
            await asyncio.wait([running.task])
            await running.stack.aclose()

    async def probe(self, **_: Any) -> dict[str, float]:
        """Fail when reconciling does not get on. Only a PermanentError makes kopf answer with a failure."""
        if self._running is None or self._running.task.done():
            raise kopf.PermanentError("the work queue does not run")
        stuck = self._running.queue.stuck_seconds()
        if stuck > STUCK_SECONDS:
            raise kopf.PermanentError(f"reconciling has been stuck for {stuck:.0f} s")
        return {"stuckSeconds": round(stuck, 1)}

    async def set_event(self, namespace: str | None, name: str | None, **_: Any) -> None:
        """Look at a set that came, changed or went."""
        if namespace and name:
            self._look_at((namespace, name))

    async def child_event(self, namespace: str | None, labels: Mapping[str, str], **_: Any) -> None:
        """Look at the set that something belongs to."""
        if namespace:
            self._look_at((namespace, labels[names.SET_LABEL]))

    def _look_at(self, owner: reconciler.Set) -> None:
        if self._running is not None:
            self._running.queue.add(owner, GATHER_SECONDS)


def configure(settings: kopf.OperatorSettings, options: Options) -> None:
    """Set kopf so that it only watches: it writes nothing to any object, no annotation and no Event."""
    prefix = f"operator.{names.GROUP}"
    settings.persistence.finalizer = f"{prefix}/finalizer"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=prefix)
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=prefix)
    settings.posting.enabled = False
    settings.watching.server_timeout = WATCH_SECONDS
    settings.watching.client_timeout = WATCH_SECONDS + 20
    settings.watching.connect_timeout = 10
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 10
    # Namespaces that are listed are known; watching CRDs and namespaces would need rights beyond them.
    settings.scanning.disabled = bool(options.namespaces)
    ollama_pods = f"{names.SET_LABEL},{names.COMPONENT_LABEL}={names.OLLAMA_COMPONENT}"
    settings.watching.label_selectors["", "v1", "pods"] = ollama_pods
    settings.watching.label_selectors["", "v1", "services"] = names.SET_LABEL
    settings.watching.label_selectors["apps", "v1", "statefulsets"] = names.SET_LABEL
    settings.watching.label_selectors["ray.io", "v1", "rayservices"] = names.SET_LABEL


def login(settings: kopf.OperatorSettings, **kwargs: Any) -> kopf.ConnectionInfo | None:
    """Take the pod's service account, or a kubeconfig when run outside a cluster."""
    found = kopf.login_with_service_account(settings=settings, **kwargs)
    return found or kopf.login_with_kubeconfig(settings=settings, **kwargs)


@contextlib.asynccontextmanager
async def api_client() -> AsyncIterator[client.ApiClient]:
    """Open the client of the API server with the same credentials that kopf takes."""
    configuration = client.Configuration()
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    else:
        await config.load_kube_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    async with client.ApiClient(configuration) as api:
        yield api
