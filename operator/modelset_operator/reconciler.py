"""The reconcile: look, plan, do. Level-triggered: it depends on nothing but what it sees."""

import dataclasses
import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from modelset_operator import observer
from modelset_operator.api import names, spec
from modelset_operator.cluster import http, writes
from modelset_operator.engines import ollama, pulls
from modelset_operator.manifests import compare
from modelset_operator.plan import decide, events, proxy, workers
from modelset_operator.plan import observed as seen

log = logging.getLogger(__name__)

# (namespace, name) of a set
Set = tuple[str, str]

# Nobody tells when Ollama gains or loses a model behind our back, so it is asked this often.
RESYNC_SECONDS = 20.0
# While something is under way that no watch reports, such as a drain.
SOON_SECONDS = 5.0


class ReconcileError(Exception):
    """Part of a reconcile was refused; the status tells what, and it is to be tried again."""


class Reconciler:
    """Brings one set at a time to what its spec says."""

    def __init__(
        self,
        api: writes.Writes,
        client: ollama.Ollama,
        looker: observer.Observer,
        downloads: pulls.Pulls,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._client = client
        self._observer = looker
        self._pulls = downloads
        # By set: what the API server changed in what was applied, so that it is not applied over and over.
        self._tolerated: dict[Set, dict[tuple[str, str], seen.Tolerated]] = {}
        self._clock = clock
        # By set: the generation of the RayService that is running, and since when that is known.
        self._settled: dict[Set, tuple[int, float]] = {}

    async def reconcile(self, owner: Set) -> float | None:
        """Do what one look at a set calls for.

        Returns in how many seconds to look again, None when the set is gone. Raises ReconcileError when the
        API server refused something, and what the cluster module raises when looking failed.
        """
        tolerated = self._tolerated.setdefault(owner, {})
        try:
            observed = await self._observer.look(owner, self._pulls.view(owner), tolerated)
        except spec.SpecError as error:
            # Only a set that was stored before the present rules gets here; the next edit will be refused.
            log.warning("%s/%s: %s", *owner, error)
            return RESYNC_SECONDS
        if observed is None:
            self._forget(owner)
            return None
        observed = self._with_settled(owner, observed)
        plan = decide.plan(observed)
        problems = await self._apply_all(owner, plan.applies)
        problems += await self._open_gates(observed, plan.gates)
        problems += await self._scale_workers(observed, plan.scalings)
        if problems:
            plan = decide.with_problems(plan, observed, problems)
        removed = await self._remove(plan.removals)
        retry = self._pulls.sync(owner, plan.pulls, plan.unseen)
        await self._tell(observed, plan, removed)
        if problems:
            raise ReconcileError("; ".join(problems))
        return self._next_look(plan, retry)

    def _forget(self, owner: Set) -> None:
        self._pulls.forget(owner)
        self._observer.forget(owner)
        self._tolerated.pop(owner, None)
        self._settled.pop(owner, None)

    def _with_settled(self, owner: Set, observed: seen.Observed) -> seen.Observed:
        service = observed.ray_service
        if service is None or not proxy.judge(observed).settled:
            self._settled.pop(owner, None)
            return observed
        generation = int(service["metadata"].get("generation", 0))
        known, since = self._settled.get(owner, (None, 0.0))
        if known != generation:
            since = self._clock()
            self._settled[owner] = (generation, since)
        return dataclasses.replace(observed, settled_seconds=self._clock() - since)

    def _next_look(self, plan: decide.Plan, retry: float | None) -> float:
        busy = plan.waits_for_drain or plan.removals or plan.scalings
        seconds = SOON_SECONDS if busy else RESYNC_SECONDS
        return seconds if retry is None else min(seconds, retry)

    async def _apply_all(self, owner: Set, manifests: Sequence[dict[str, Any]]) -> list[str]:
        problems = []
        for manifest in manifests:
            what = f"{manifest['kind']} {manifest['metadata']['name']}"
            try:
                result = await self._api.apply(manifest)
            except (http.RefusedError, http.KindMissingError) as error:
                problems.append(f"{what}: {error}")
                continue
            log.info("%s/%s: applied %s", *owner, what)
            self._tolerate(owner, manifest, result)
        return problems

    def _tolerate(self, owner: Set, manifest: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        """Remember what did not stick: unknown to this API server, or changed by a webhook."""
        key = (manifest["kind"], manifest["metadata"]["name"])
        paths = compare.drift(manifest, result)
        if paths:
            log.warning("the API server changed %s of %s %s", ", ".join(sorted(paths)), *key)
            self._tolerated[owner][key] = seen.Tolerated(compare.hash_of(manifest), paths)
        else:
            self._tolerated[owner].pop(key, None)

    async def _open_gates(self, observed: seen.Observed, pods: Sequence[seen.Pod]) -> list[str]:
        problems = []
        for pod in pods:
            try:
                await self._api.open_readiness_gate(
                    observed.modelset.namespace, pod.name, pod.uid, observed.now
                )
            except http.RefusedError as error:
                # Gone or replaced since the look: the next look sees the new one.
                if error.status not in (404, 409):
                    problems.append(f"Pod {pod.name}: {error}")
        return problems

    async def _scale_workers(self, observed: seen.Observed, scalings: Sequence[workers.Scaling]) -> list[str]:
        problems = []
        for scaling in scalings:
            what = f"RayCluster {scaling.cluster}"
            try:
                await self._api.scale_workers(
                    observed.modelset.namespace,
                    scaling.cluster,
                    scaling.uid,
                    scaling.replicas,
                    scaling.remove,
                )
            except http.RefusedError as error:
                # 422: the test of the uid failed, so it is another one by now.
                if error.status not in (404, 409, 422):
                    problems.append(f"{what}: {error}")
            else:
                log.info("%s: %d workers", what, scaling.replicas)
        return problems

    async def _remove(self, removals: Sequence[decide.Removal]) -> dict[str, list[str]]:
        """Delete garbage; returns the names of the pods by what was deleted from them."""
        removed: dict[str, list[str]] = {}
        for removal in removals:
            url = ollama.base_url(removal.pod.ip)
            try:
                await self._client.delete(url, removal.reference, unload=removal.loaded)
            except (ollama.OllamaError, ollama.UnreachableError) as error:
                # It is still there on the next look, which tries again.
                log.warning("deleting %s from %s: %s", removal.reference, removal.pod.name, error)
            else:
                removed.setdefault(removal.reference, []).append(removal.pod.name)
        return removed

    async def _tell(
        self, observed: seen.Observed, plan: decide.Plan, removed: Mapping[str, Sequence[str]]
    ) -> None:
        told = [
            events.Event(events.NORMAL, "Removed", f"deleted {reference} from {', '.join(pods)}")
            for reference, pods in removed.items()
        ]
        if plan.status != observed.status:
            await self._write_status(observed, plan.status)
            told = [*plan.events, *told]
        for event in told:
            await self._emit(observed, event)

    async def _write_status(self, observed: seen.Observed, status: Mapping[str, Any]) -> None:
        metadata = observed.resource["metadata"]
        manifest = {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {key: metadata[key] for key in ("name", "namespace", "uid")},
            "status": status,
        }
        try:
            await self._api.apply(manifest, "status")
        except http.RefusedError as error:
            if error.status not in (404, 409):
                raise

    async def _emit(self, observed: seen.Observed, event: events.Event) -> None:
        try:
            await self._api.create_event(event_manifest(observed, event))
        except http.RefusedError as error:
            # An Event is only told; a namespace on its way out takes none, and nothing depends on it.
            log.warning("could not record the event %s: %s", event.reason, error)


def event_manifest(observed: seen.Observed, event: events.Event) -> dict[str, Any]:
    """Return the core/v1 Event. The same event at the same second has the same name."""
    metadata = observed.resource["metadata"]
    text = json.dumps([metadata["uid"], observed.now, event.type, event.reason, event.message])
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{metadata['name']}.{digest}", "namespace": metadata["namespace"]},
        "involvedObject": {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
            "resourceVersion": metadata.get("resourceVersion", ""),
        },
        "type": event.type,
        "reason": event.reason,
        "message": event.message[:1000],
        "source": {"component": names.FIELD_MANAGER},
        "reportingComponent": names.FIELD_MANAGER,
        "firstTimestamp": observed.now,
        "lastTimestamp": observed.now,
        "count": 1,
    }
