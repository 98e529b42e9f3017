"""The reconcile: look, plan, do. Level-triggered: it depends on nothing but what it sees."""

import contextlib
import dataclasses
import hashlib
import json
import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from modelset_operator import observer
from modelset_operator.api import names, spec
from modelset_operator.cluster import http, writes
from modelset_operator.engines import state, work
from modelset_operator.manifests import compare
from modelset_operator.plan import decide, events, ownership, proxy, status, workers
from modelset_operator.plan import observed as seen

log = logging.getLogger(__name__)

# (namespace, name) of a set
Set = tuple[str, str]

# All that matters is told; this is for what should not happen.
RESYNC_SECONDS = 300.0
# While something is under way that no watch reports, such as a drain.
SOON_SECONDS = 5.0


class ReconcileError(Exception):
    """Part of a reconcile was not done, and is to be tried again: the status tells what was refused for good.

    `retry_after` are the seconds that the API server asks to wait, None where it does not.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class _Attempts:
    """What came of the requests of one reconcile.

    `refused` are those that the API server will not take as they are, in its words; `failures` those and what
    may pass: too many requests, a conflict, a server that is away.
    """

    def __init__(self) -> None:
        self.refused: list[str] = []
        self.failures: list[str] = []
        self.retry_after: float | None = None

    def refuse(self, problems: Collection[str]) -> None:
        """Note what cannot be done until somebody changes something."""
        self.failures += problems
        self.refused += problems

    @contextlib.contextmanager
    def at(self, what: str, *, but: Collection[int] = ()) -> Iterator[None]:
        """Note what the API server refuses of the body; statuses in `but` mean that nothing is to be done."""
        try:
            yield
        except http.RefusedError as error:
            if error.status in but:
                return
            self.failures.append(f"{what}: {error}")
            if error.passing:
                self.retry_after = max(self.retry_after or 0.0, error.retry_after or 0.0) or None
            else:
                self.refused.append(f"{what}: {error}")
        except http.KindMissingError as error:
            self.refuse([f"{what}: {error}"])
        except http.UnreachableError as error:
            self.failures.append(f"{what}: {error}")


class Reconciler:
    """Brings one set at a time to what its spec says."""

    def __init__(
        self,
        api: writes.Writes,
        looker: observer.Observer,
        doing: work.Work,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._observer = looker
        self._work = doing
        # By set: what the API server changed in what was applied, so that it is not applied over and over.
        # After a restart it is applied once more, which changes nothing.
        self._tolerated: dict[Set, dict[tuple[str, str], seen.Tolerated]] = {}
        self._clock = clock
        # By set: the generation of the RayService that is running, and since when that is known.
        # After a restart what waits for it waits anew.
        self._settled: dict[Set, tuple[int, float]] = {}

    async def reconcile(self, owner: Set) -> float | None:
        """Do what one look at a set calls for.

        Returns in how many seconds to look again, None when the set is gone or nothing is left to do. Raises
        ReconcileError when the API server refused something.
        """
        try:
            observed = self._look(owner)
        except spec.SpecError as error:
            # Only a set that was stored before the present rules gets here; the next edit will be refused.
            log.warning("%s/%s: %s", *owner, error)
            await self._tell_unusable(owner, str(error))
            return RESYNC_SECONDS
        if observed is None:
            self.forget(owner)
            return None
        plan = decide.plan(observed)
        attempts = _Attempts()
        attempts.refuse(plan.foreign)
        await self._apply_all(observed, plan.applies, attempts)
        await self._scale_workers(observed, plan.scalings, attempts)
        retry = self._work.sync(owner, plan.places, plan.pulls, plan.removals, plan.unseen)
        # The status tells of what is there now, not of what was there before all this.
        after = self._look(owner)
        if after is not None and after.whole:
            await self._tell(owner, after, decide.told(after, attempts.refused))
        if attempts.failures:
            raise ReconcileError("; ".join(attempts.failures), attempts.retry_after)
        return self._next_look(plan, retry)

    def _look(self, owner: Set) -> seen.Observed | None:
        tolerated = self._tolerated.setdefault(owner, {})
        observed = self._observer.look(
            owner, self._work.sights(owner), self._work.downloads(owner), tolerated
        )
        return None if observed is None else self._with_settled(owner, observed)

    def forget(self, owner: Set) -> None:
        """Stop all that goes on for a set that is gone, or another operator's."""
        self._work.forget(owner)
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
        busy = plan.waits or plan.removals or plan.scalings
        seconds = SOON_SECONDS if busy else RESYNC_SECONDS
        return seconds if retry is None else min(seconds, retry)

    async def _apply_all(
        self, observed: seen.Observed, applies: Sequence[decide.Apply], attempts: _Attempts
    ) -> None:
        owner = (observed.modelset.namespace, observed.modelset.name)
        for wanted in applies:
            manifest = wanted.manifest
            what = f"{manifest['kind']} {manifest['metadata']['name']}"
            with attempts.at(what):
                found = await self._api.find(manifest) if wanted.new else None
                if found is not None and (stranger := ownership.stranger(found, observed.modelset)):
                    attempts.refuse([stranger])
                    continue
                result = await self._apply(manifest, new=wanted.new)
                log.info("%s/%s: applied %s", *owner, what)
                self._tolerate(owner, manifest, result)

    async def _apply(self, manifest: Mapping[str, Any], *, new: bool) -> dict[str, Any]:
        try:
            # What somebody else made since it was looked for is a conflict, and stays as it is.
            return await self._api.apply(manifest, force=not new)
        except http.RefusedError as error:
            if not (error.status == 422 and manifest["kind"] == "StatefulSet" and "Forbidden" in str(error)):
                raise
            # Some fields of a StatefulSet stay as they were made. Its pods and volumes outlive it, and the
            # next one of the name takes them over, as soon as the garbage collector has let go of this one.
            log.info("making StatefulSet %s anew: %s", manifest["metadata"]["name"], error)
            await self._api.orphan(manifest)
            raise http.RefusedError(409, "it is being deleted, to be made anew around its pods") from error

    def _tolerate(self, owner: Set, manifest: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        """Remember what did not stick: unknown to this API server, or changed by a webhook."""
        key = (manifest["kind"], manifest["metadata"]["name"])
        paths = compare.drift(manifest, result)
        if paths:
            log.warning("the API server changed %s of %s %s", ", ".join(sorted(paths)), *key)
            self._tolerated[owner][key] = seen.Tolerated(compare.hash_of(manifest), paths)
        else:
            self._tolerated[owner].pop(key, None)

    async def _scale_workers(
        self, observed: seen.Observed, scalings: Sequence[workers.Scaling], attempts: _Attempts
    ) -> None:
        namespace = observed.modelset.namespace
        for scaling in scalings:
            what = f"RayCluster {scaling.cluster}"
            # 422: the test of the uid failed, so it is another one by now.
            with attempts.at(what, but=(404, 409, 422)):
                await self._api.scale_workers(
                    namespace, scaling.cluster, scaling.uid, scaling.replicas, scaling.remove
                )
                log.info("%s: %d workers", what, scaling.replicas)

    async def _tell(self, owner: Set, observed: seen.Observed, told: decide.Told) -> None:
        removed = _removed(self._work.take_removed(owner))
        if told.status != observed.status and await self._write_status(observed.resource, told.status):
            removed = [*told.events, *removed]
        for event in removed:
            await self._emit(observed, event)

    async def _tell_unusable(self, owner: Set, problem: str) -> None:
        resource = self._observer.resource(owner)
        if resource is None:
            return
        told = status.unusable(resource, observer.now(), problem)
        if told != resource.get("status"):
            await self._write_status(resource, told)

    async def _write_status(self, resource: Mapping[str, Any], told: Mapping[str, Any]) -> bool:
        """Write a status onto the very set that was looked at; tell whether it was taken.

        Where the set has changed meanwhile, or is another one of the name, its next look writes its own.
        """
        metadata = resource["metadata"]
        manifest = {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {key: metadata[key] for key in ("name", "namespace", "resourceVersion")},
            "status": told,
        }
        try:
            await self._api.apply(manifest, "status")
        except http.RefusedError as error:
            if error.status not in (404, 409):
                raise
            return False
        return True

    async def _emit(self, observed: seen.Observed, event: events.Event) -> None:
        try:
            await self._api.create_event(event_manifest(observed, event))
        except http.RefusedError as error:
            # An Event is only told; a namespace on its way out takes none, and nothing depends on it.
            log.warning("could not record the event %s: %s", event.reason, error)


def _removed(removals: Sequence[state.Removal]) -> list[events.Event]:
    pods: dict[str, list[str]] = {}
    for removal in removals:
        pods.setdefault(removal.reference, []).append(removal.pod)
    return [
        events.Event(events.NORMAL, "Removed", f"deleted {reference} from {', '.join(those)}")
        for reference, those in pods.items()
    ]


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
