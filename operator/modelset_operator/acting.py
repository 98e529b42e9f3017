"""What an operator does while it leads: it looks at sets. Watching goes on also while another one leads."""

import contextlib
import logging
import time
from collections.abc import Callable, Sequence

import httpx

from modelset_operator import metrics, observer, pods_http, reconciler, workqueue
from modelset_operator.api import names, neighbours, spec
from modelset_operator.cluster import caches, http, keys, leading, writes
from modelset_operator.demand import proxies, readers
from modelset_operator.engines import ollama, work
from modelset_operator.plan import claims

log = logging.getLogger(__name__)

# Events come in bursts, one look serves them all.
GATHER_SECONDS = 0.2
_RESULTS: dict[type[Exception], str] = {
    reconciler.ReconcileError: "Refused",
    http.RefusedError: "Refused",
    http.UnreachableError: "Unreachable",
}


class Acting:
    """Looks at sets, for as long as `run` runs. `pods_client` makes what pods are asked with."""

    def __init__(
        self,
        api: http.Http,
        images: spec.Images,
        namespaces: Sequence[str],
        identity: claims.Identity,
        around: neighbours.Neighbours = neighbours.UNKNOWN,
        clock: Callable[[], float] = time.monotonic,
        pods_client: Callable[[], httpx.AsyncClient] = pods_http.client,
    ) -> None:
        self.cached = caches.Caches(api, namespaces, self.look_at, clock)
        self.queue: workqueue.WorkQueue[reconciler.Set] | None = None
        self._api = api
        self._images = images
        self._identity = identity
        self._around = around
        self._clock = clock
        self._pods_client = pods_client
        # By set: whose it is, as was told.
        self._others: dict[reconciler.Set, str] = {}

    def look_at(self, owner: reconciler.Set) -> None:
        """Ask for a look at a set; while another one leads, that is the other's business."""
        if self.queue is not None:
            self.queue.add(owner, GATHER_SECONDS)

    async def run(self, leads: leading.Leading) -> None:
        """Look at all sets, and at what changes, until cancelled; then all work on pods has ended."""
        async with contextlib.AsyncExitStack() as stack:
            pods = await stack.enter_async_context(self._pods_client())
            doing = work.Work(ollama.Ollama(pods), self.look_at, self._clock)
            stack.push_async_callback(doing.close)
            reading = readers.Readers(proxies.Proxies(pods), self.look_at, self._clock)
            stack.push_async_callback(reading.close)
            leader = leading.LeadersHttp(self._api, leads)
            written = writes.Writes(leader, self.cached.wrote)
            looker = observer.Observer(self.cached, self._images, self._around)
            token_keys = keys.Keys(leader, *self._identity.home)
            worker = reconciler.Reconciler(written, looker, doing, reading, token_keys, self._clock)

            async def look(owner: reconciler.Set) -> float | None:
                with metrics.reconcile(_RESULTS):
                    return await self._look(owner, worker, written)

            # The one that led before may have acted on edits of which our own watch has not told yet. To act
            # on a set as it was would roll its pods back, and delete models. Other kinds may be behind: an
            # apply that was done already changes nothing, a status and a claim are written only onto the set
            # that was looked at, and before anything is deleted watches have time to catch up.
            await self.cached.renew_sets()
            self.queue = workqueue.WorkQueue(look, expected=tuple(_RESULTS), clock=self._clock)
            stack.callback(self._rest)
            for owner in self.cached.model_sets:
                self.queue.add(owner)
            await self.queue.run()

    def _rest(self) -> None:
        self.queue = None

    async def _look(
        self, owner: reconciler.Set, worker: reconciler.Reconciler, written: writes.Writes
    ) -> float | None:
        # It is looked at when all of its namespace has been listed; other namespaces do not wait for that.
        if not self.cached.synced_in(owner[0]):
            return None
        modelset = self.cached.model_sets.get(*owner)
        if modelset is not None and not claims.may_claim(modelset, self._identity):
            self._leave(owner, claims.owner(modelset))
            worker.forget(owner)
            return None
        self._others.pop(owner, None)
        if (
            modelset is not None
            and not modelset["metadata"].get("deletionTimestamp")
            and claims.owner(modelset) != self._identity.name
        ):
            await written.annotate(modelset, names.OPERATOR_ANNOTATION, self._identity.name)
        return await worker.reconcile(owner)

    def _leave(self, owner: reconciler.Set, other: str) -> None:
        if self._others.get(owner) != other:
            self._others[owner] = other
            log.warning(
                "%s/%s belongs to the operator %s (annotation %s): left alone",
                *owner,
                other,
                names.OPERATOR_ANNOTATION,
            )
