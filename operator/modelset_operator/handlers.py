"""kopf's part: credentials, probes, start and stop.

It watches nothing: what ends its watches ends the process, and a kind that comes late it never sees.
"""

import asyncio
import contextlib
import dataclasses
import os
import uuid
from collections.abc import AsyncIterator
from typing import Any

import kopf
from kubernetes.aio import client, config

from modelset_operator import acting, monitor
from modelset_operator.api import names, neighbours, spec
from modelset_operator.cluster import http, leading
from modelset_operator.plan import claims

# Beyond this the process is taken for stuck and restarted. Every request ends within 20 s (60 to delete).
STUCK_SECONDS = 180.0


@dataclasses.dataclass(frozen=True)
class Options:
    """What the command line sets. No namespace to watch means all of them.

    `instance` names the operator, all its replicas together, in the `namespace` where it runs.
    """

    images: spec.Images
    namespaces: tuple[str, ...] = ()
    around: neighbours.Neighbours = neighbours.UNKNOWN
    namespace: str = "default"
    instance: str = "modelset-operator"
    adopts: tuple[str, ...] = ()
    replica: str = ""
    metrics_port: int = 8081

    @property
    def identity(self) -> claims.Identity:
        """The name by which it claims sets."""
        return claims.Identity(f"{self.namespace}/{self.instance}", self.adopts)


@dataclasses.dataclass
class _Running:
    """What runs between start and stop."""

    actor: acting.Acting
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
        options = self._options
        stack = contextlib.AsyncExitStack()
        api = http.Http(await stack.enter_async_context(api_client()))
        actor = acting.Acting(api, options.images, options.namespaces, options.identity, options.around)
        # A pod that is started anew is another candidate.
        replica = f"{options.replica}_{uuid.uuid4()}"
        leads = leading.Leading(api, options.namespace, options.instance, replica)
        await stack.enter_async_context(monitor.serving(options.metrics_port, actor, leads))
        self._running = _Running(actor, run(actor, leads), stack)

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
        queue = self._running.actor.queue
        stuck = queue.stuck_seconds() if queue is not None else 0.0
        if stuck > STUCK_SECONDS:
            raise kopf.PermanentError(f"reconciling has been stuck for {stuck:.0f} s")
        return {"stuckSeconds": round(stuck, 1)}


def run(actor: acting.Acting, leads: leading.Leading) -> tuple[asyncio.Task[None], ...]:
    """Start watching, and acting whenever this replica leads."""
    watching = asyncio.create_task(actor.cached.run(), name="watches")
    return watching, asyncio.create_task(leads.run(lambda: actor.run(leads)), name="leading")


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
