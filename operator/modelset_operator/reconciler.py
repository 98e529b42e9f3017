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
from modelset_operator.api import names, references, spec
from modelset_operator.cluster import http, keys, kinds, writes
from modelset_operator.demand import readers
from modelset_operator.engines import state, work
from modelset_operator.manifests import compare
from modelset_operator.plan import (
    autoscaling,
    decide,
    demand,
    events,
    ownership,
    proxy,
    status,
    volumes,
    workers,
)
from modelset_operator.plan import observed as seen

log = logging.getLogger(__name__)

# (namespace, name) of a set
Set = tuple[str, str]

# All that matters is told; this is for what should not happen.
RESYNC_SECONDS = 300.0
# For how long it is believed that a claim cannot grow: its StorageClass may come to allow it.
UNGROWN_SECONDS = 300.0
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

    def error(self) -> ReconcileError:
        """Return what to raise for the failures."""
        return ReconcileError("; ".join(self.failures), self.retry_after)

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
        reading: readers.Readers,
        token_keys: keys.Keys,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._observer = looker
        self._work = doing
        self._reading = reading
        self._keys = token_keys
        # By set that is scaled by demand: what was decided last.
        self._scaling: dict[Set, autoscaling.State] = {}
        self._tokens: dict[Set, str] = {}
        # By set: what the API server changed in what was applied, so that it is not applied over and over.
        # After a restart it is applied once more, which changes nothing.
        self._tolerated: dict[Set, dict[tuple[str, str], seen.Tolerated]] = {}
        # By set and uid: claims that could not be made larger, and when that was tried.
        self._ungrown: dict[Set, dict[str, tuple[seen.Ungrown, float]]] = {}
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
        attempts = _Attempts()
        due = await self._scale(owner, observed, attempts)
        if attempts.failures and not attempts.refused:
            # Without its token the proxy would close the feed, to open it again a moment later.
            raise attempts.error()
        plan = decide.plan(self._with_demand(owner, observed))
        attempts.refuse(plan.foreign)
        await self._apply_all(observed, plan.applies, attempts)
        await self._scale_workers(observed, plan.scalings, attempts)
        await self._grow(observed, plan.growths, attempts)
        await self._delete(observed, plan.deletions, attempts)
        retry = self._work.sync(owner, plan.places, plan.pulls, plan.loads, plan.removals, plan.unseen)
        # The status tells of what is there now, not of what was there before all this.
        after = self._look(owner)
        if after is not None and after.whole:
            await self._tell(owner, after, decide.told(after, attempts.refused))
        if attempts.failures:
            raise attempts.error()
        return self._next_look(plan, retry, due, plan.refresh_in)

    async def _scale(self, owner: Set, observed: seen.Observed, attempts: _Attempts) -> float | None:
        """Decide by demand how many pods there are to be; return in how many seconds to decide again."""
        policy = observed.modelset.ollama.autoscaling
        if policy is None:
            self._forget_demand(owner)
            return None
        with attempts.at(f"Secret {self._keys.secret}"):
            token = keys.token(await self._keys.key(), observed.modelset.uid)
            self._tokens[owner] = token
            self._reading.sync(owner, demand.source(observed, token))
        if not observed.whole:
            # What pods hold decides whether one is needed, and is not known yet.
            return None
        now = self._clock()
        before = self._scaling.get(owner) or demand.begin(observed)
        after = demand.decide(observed, before, self._reading.asked(owner), now)
        self._scaling[owner] = after
        return autoscaling.due(policy, after, now)

    def _with_demand(self, owner: Set, observed: seen.Observed) -> seen.Observed:
        decided, token = self._scaling.get(owner), self._tokens.get(owner)
        return dataclasses.replace(
            observed,
            demanded=None if decided is None else decided.replicas,
            demand_token_hash="" if token is None else keys.token_hash(token),
        )

    def _look(self, owner: Set) -> seen.Observed | None:
        work = self._work
        tolerated = self._tolerated.setdefault(owner, {})
        now = self._clock()
        ungrown = {
            uid: one for uid, (one, at) in self._ungrown.get(owner, {}).items() if now - at < UNGROWN_SECONDS
        }
        observed = self._observer.look(
            owner, work.sights(owner), work.downloads(owner), work.loads(owner), tolerated, ungrown
        )
        if observed is None:
            return None
        return self._with_demand(owner, self._with_settled(owner, observed))

    def forget(self, owner: Set) -> None:
        """Stop all that goes on for a set that is gone, or another operator's."""
        self._work.forget(owner)
        self._forget_demand(owner)
        self._tolerated.pop(owner, None)
        self._ungrown.pop(owner, None)
        self._settled.pop(owner, None)

    def _forget_demand(self, owner: Set) -> None:
        self._reading.forget(owner)
        self._scaling.pop(owner, None)
        self._tokens.pop(owner, None)

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

    def _next_look(self, plan: decide.Plan, *due: float | None) -> float:
        busy = plan.waits or plan.removals or plan.scalings
        return min([SOON_SECONDS if busy else RESYNC_SECONDS, *(one for one in due if one is not None)])

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

    async def _grow(
        self, observed: seen.Observed, growths: Sequence[volumes.Growth], attempts: _Attempts
    ) -> None:
        """Have claims ask for more. Where they cannot, the set serves all the same; its status says why."""
        owner = (observed.modelset.namespace, observed.modelset.name)
        for growth in growths:
            what = f"PersistentVolumeClaim {growth.claim}"
            # 404: it is gone, and its pod will get one that is large enough.
            with attempts.at(what, but=(404,)):
                try:
                    await self._api.grow(owner[0], growth.claim, growth.uid, growth.size)
                except http.RefusedError as error:
                    if error.passing or error.status == 404:
                        raise
                    log.warning("%s/%s: %s cannot be made larger: %s", *owner, what, error)
                    refused = seen.Ungrown(growth.size, str(error))
                    self._ungrown.setdefault(owner, {})[growth.uid] = (refused, self._clock())
                else:
                    log.info("%s/%s: %s is to have %s", *owner, what, growth.size)

    async def _delete(
        self, observed: seen.Observed, deletions: Sequence[seen.Object], attempts: _Attempts
    ) -> None:
        namespace = observed.modelset.namespace
        for found in deletions:
            name, uid = found["metadata"]["name"], found["metadata"]["uid"]
            what = f"{found['kind']} {name}"
            # 404, 409: it is gone, or another one by now.
            with attempts.at(what, but=(404, 409)):
                await self._api.delete(kinds.BY_NAME[found["kind"]], namespace, name, uid)
                log.info("%s/%s: deleted %s", namespace, observed.modelset.name, what)

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
        # What an older version left is told of by the newer one.
        if references.is_aside(removal.reference):
            continue
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
