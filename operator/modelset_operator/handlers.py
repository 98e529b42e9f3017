"""kopf's part: credentials, probes, start and stop.

It watches nothing: what ends its watches ends the process, and a kind that comes late it never sees.
"""

import asyncio
import contextlib
import dataclasses
import logging
import os
from collections.abc import AsyncIterator
from typing import Any

import httpx
import kopf
from kubernetes.aio import client, config

from modelset_operator import observer, reconciler, workqueue
from modelset_operator.api import names, neighbours, spec
from modelset_operator.cluster import caches, http, writes
from modelset_operator.engines import ollama, work

log = logging.getLogger(__name__)

# Events come in bursts, one look serves them all.
GATHER_SECONDS = 0.2
# Beyond this the process is taken for stuck and restarted. Every request ends within 20 s (60 to delete).
STUCK_SECONDS = 180.0

# So long is a connection to a pod kept that nothing is asked on.
IDLE_CONNECTION_SECONDS = 0.5


@dataclasses.dataclass(frozen=True)
class Options:
    """What the command line sets. No namespace means all of them."""

    images: spec.Images
    namespaces: tuple[str, ...] = ()
    around: neighbours.Neighbours = neighbours.UNKNOWN


@dataclasses.dataclass
class _Running:
    """What runs between start and stop."""

    queue: workqueue.WorkQueue[reconciler.Set]
    tasks: tuple[asyncio.Task[None], ...]
    stack: contextlib.AsyncExitStack


def register(registry: kopf.OperatorRegistry, options: Options) -> None:
    """Register everything that kopf is to call."""
    operator = Operator(options)
    kopf.on.startup(registry=registry)(operator.start)
    kopf.on.login(registry=registry)(login)
    kopf.on.cleanup(registry=registry)(operator.stop)
    kopf.on.probe(registry=registry, id="reconciling")(operator.probe)


class Operator:
    """Bodies of the handlers, and what they share."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._running: _Running | None = None

    async def start(self, settings: kopf.OperatorSettings, **_: Any) -> None:
        """Configure kopf and start reconciling."""
        configure(settings)
        stack = contextlib.AsyncExitStack()
        api = http.Http(await stack.enter_async_context(api_client()))
        looking = await stack.enter_async_context(_pods_client())
        loading = await stack.enter_async_context(_pods_client())
        doing = work.Work(ollama.Ollama(looking), ollama.Ollama(loading), self._look_at)
        stack.push_async_callback(doing.close)
        cached = caches.Caches(api, self._options.namespaces, self._look_at)
        looker = observer.Observer(cached, self._options.images, self._options.around)
        worker = reconciler.Reconciler(writes.Writes(api, cached.wrote), looker, doing)
        expected = (reconciler.ReconcileError, http.RefusedError, http.UnreachableError)
        queue = workqueue.WorkQueue(worker.reconcile, expected=expected)
        self._running = _Running(queue, _start(cached, queue), stack)

    async def stop(self, **_: Any) -> None:
        """Stop reconciling, let go of connections."""
        running, self._running = self._running, None
        if running is not None:
            for task in running.tasks:
                task.cancel()
            await asyncio.wait(running.tasks)
            await running.stack.aclose()

    async def probe(self, **_: Any) -> dict[str, float]:
        """Fail when reconciling does not get on. Only a PermanentError makes kopf answer with a failure."""
        if self._running is None or any(task.done() for task in self._running.tasks):
            raise kopf.PermanentError("reconciling does not run")
        stuck = self._running.queue.stuck_seconds()
        if stuck > STUCK_SECONDS:
            raise kopf.PermanentError(f"reconciling has been stuck for {stuck:.0f} s")
        return {"stuckSeconds": round(stuck, 1)}

    def _look_at(self, owner: reconciler.Set) -> None:
        if self._running is not None:
            self._running.queue.add(owner, GATHER_SECONDS)


def _pods_client() -> httpx.AsyncClient:
    # Pods are asked at their own addresses; a proxy of the environment has no business in between. How many
    # are asked at once is bounded for each set, so that no set keeps others waiting. A request takes time for
    # each connection that is open: only those of one look share one.
    limits = httpx.Limits(max_connections=None, keepalive_expiry=IDLE_CONNECTION_SECONDS)
    return httpx.AsyncClient(trust_env=False, limits=limits)


def _start(
    cached: caches.Caches, queue: workqueue.WorkQueue[reconciler.Set]
) -> tuple[asyncio.Task[None], ...]:
    async def work() -> None:
        # Before everything was listed once, what is not known would look as if it were not there.
        await cached.synced()
        await queue.run()

    return asyncio.create_task(cached.run(), name="watches"), asyncio.create_task(work(), name="work queue")


def configure(settings: kopf.OperatorSettings) -> None:
    """Set kopf so that it asks the API server for nothing: no annotation, no Event, no list of kinds."""
    prefix = f"operator.{names.GROUP}"
    settings.persistence.finalizer = f"{prefix}/finalizer"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=prefix)
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=prefix)
    settings.posting.enabled = False
    settings.scanning.disabled = True


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
