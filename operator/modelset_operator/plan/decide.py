"""The plan: everything that one look at a set calls for."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

from modelset_operator.api import names
from modelset_operator.engines import state
from modelset_operator.manifests import cache, common, compare, disruption, network, ollama, ray
from modelset_operator.plan import (
    events,
    models,
    obstacles,
    ownership,
    placement,
    refreshing,
    replicas,
    status,
    variants,
    versions,
    volumes,
    workers,
)
from modelset_operator.plan import observed as seen

# Requests that left the proxy before it took over a shorter list have reached Ollama by then.
DRAIN_SECONDS = 20.0


@dataclasses.dataclass(frozen=True)
class Apply:
    """A manifest for server-side apply; `new` where no such object is known.

    One that is not known may be there all the same: what is watched has the labels of a set.
    """

    manifest: dict[str, Any]
    new: bool


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to do. An empty plan with an unchanged status is the steady state: it causes no write.

    `applies` are none before all pods that run were looked at: what they hold decides what clients may ask
    for, and nothing is to be taken back only because it is not known yet.
    `foreign` says what cannot be applied, because it is somebody else's; `places` are the pods to
    be looked at, `unseen` the uids of those that did not tell what they hold, so that nothing is known to be
    missing there; `deletions` are objects of the set's own that it needs no more; `waits` tells that garbage
    or a worker will be due to go, or a pod without a node to be told, although nothing else happens;
    `refresh_in` are the seconds until a tag is to be looked at, None where that is never or now.
    """

    applies: tuple[Apply, ...]
    foreign: tuple[str, ...]
    places: tuple[state.Place, ...]
    pulls: tuple[state.WantedPull, ...]
    loads: tuple[state.WantedLoad, ...]
    unseen: frozenset[str]
    removals: tuple[state.Removal, ...]
    scalings: tuple[workers.Scaling, ...]
    growths: tuple[volumes.Growth, ...]
    deletions: tuple[seen.Object, ...]
    waits: bool
    refresh_in: float | None


@dataclasses.dataclass(frozen=True)
class Told:
    """What a look is told as: the status, and what has changed in it as events."""

    status: dict[str, Any]
    events: tuple[events.Event, ...]


def plan(observed: seen.Observed) -> Plan:
    """Return what the observed state calls for."""
    entries = models.listed_entries(models.judge_all(observed), observed)
    served_names = tuple(name for entry in entries for name in entry["servedNames"])
    pulls = _pulls(observed)
    garbage = _garbage(observed, pulls)
    applies, foreign = _applies(observed, entries, served_names)
    asked = not foreign and "RayService" not in [apply.manifest["kind"] for apply in applies]
    drained = asked and observed.settled_seconds >= DRAIN_SECONDS
    changing = {pull.uid for pull in pulls} | {removal.uid for removal in garbage}
    return Plan(
        applies=tuple(applies) if observed.whole else (),
        foreign=tuple(foreign),
        places=_places(observed, changing),
        pulls=pulls,
        loads=_loads(observed),
        unseen=frozenset(pod.uid for pod in observed.pods if pod.store is None),
        removals=garbage if drained else (),
        scalings=workers.scalings(observed, asked=asked),
        growths=volumes.growths(observed),
        deletions=_deletions(observed),
        waits=(bool(garbage) and not drained)
        or workers.waits(observed, asked=asked)
        or obstacles.unsettled(observed),
        refresh_in=refreshing.due_in(observed),
    )


def told(observed: seen.Observed, problems: Sequence[str] = ()) -> Told:
    """Return what to tell of a look; `problems` are what the API server refused for good."""
    judged = models.judge_all(observed)
    entries = models.listed_entries(judged, observed)
    served_names = tuple(name for entry in entries for name in entry["servedNames"])
    applies, _ = _applies(observed, entries, served_names)
    applied = not applies and not volumes.growths(observed)
    built = status.build(observed, judged, served_names, problems, applied=applied)
    return Told(built, events.transitions(observed.status, built))


def _places(observed: seen.Observed, changing: Set[str]) -> tuple[state.Place, ...]:
    """Look at pods that run; often while what they hold is about to change, or nobody knows it."""
    return tuple(
        state.Place(
            uid=pod.uid,
            ip=pod.ip,
            busy=pod.store is None or not pod.ready or pod.uid in changing,
            # Also what it has no room for: what that needs is to be known when there is more.
            described=frozenset(observed.modelset.by_key),
        )
        for pod in observed.pods
        if pod.runs
    )


def _applies(
    observed: seen.Observed, entries: Sequence[Mapping[str, Any]], served_names: Sequence[str]
) -> tuple[list[Apply], list[str]]:
    """Return what is to be applied, and what cannot be, because it is somebody else's."""
    modelset = observed.modelset
    discovery = common.discovery(served_names)
    # Policies first: no pod is to run without them.
    guards = [*network.policies(modelset, observed.around), *disruption.budgets(modelset)]
    children: list[tuple[dict[str, Any], seen.Object | None]] = [
        (guard, observed.guards.get((guard["kind"], guard["metadata"]["name"]))) for guard in guards
    ]
    if modelset.cache is not None:
        children += [
            (cache.service(modelset), observed.cache.service),
            (cache.stateful_set(modelset, modelset.cache), observed.cache.stateful_set),
        ]
    for pool in modelset.pools:
        held, required = observed.of(pool), models.required(pool, observed)
        children += [
            (ollama.service(modelset, pool), held.headless),
            (ollama.config_map(modelset, pool, required), held.config_map),
            (ollama.stateful_set(modelset, pool, replicas.of(pool, observed)), held.stateful_set),
        ]
    if observed.kuberay_installed:
        children.append(
            (
                ray.ray_service(modelset, entries, discovery, observed.demand_token_hash),
                observed.ray_service,
            )
        )
    foreign: list[str] = []
    wanted: list[tuple[dict[str, Any], seen.Object | None]] = []
    for manifest, current in children:
        if current is not None and (stranger := ownership.stranger(current, modelset)):
            foreign.append(stranger)
        else:
            wanted.append((manifest, current))
    # KubeRay makes it for the RayService; one of the name that somebody else made is not the set's to label.
    if observed.serve_service is not None and ownership.controls(
        observed.ray_service, observed.serve_service
    ):
        patch = common.discovery_patch("v1", "Service", observed.serve_service, discovery, modelset.name)
        wanted.append((patch, observed.serve_service))
    patch = common.discovery_patch(names.API_VERSION, names.KIND, observed.resource, discovery, modelset.name)
    wanted.append((patch, observed.resource))
    hashed = [(compare.with_hash(manifest), current) for manifest, current in wanted]
    applies = [
        Apply(manifest, new=current is None)
        for manifest, current in hashed
        if _differs(manifest, current, observed)
    ]
    return applies, foreign


def _deletions(observed: seen.Observed) -> tuple[seen.Object, ...]:
    """Return the cache that a set no longer wants, once no pod pulls through it any more."""
    found = observed.cache.stateful_set
    wanted = observed.modelset.cache is not None or any(pod.cached for pod in observed.pods)
    if found is None or wanted or found["metadata"].get("deletionTimestamp"):
        return ()
    return () if ownership.stranger(found, observed.modelset) else (found,)


def _differs(manifest: dict[str, Any], current: seen.Object | None, observed: seen.Observed) -> bool:
    paths = compare.drift(manifest, current)
    tolerated = observed.tolerated.get((manifest["kind"], manifest["metadata"]["name"]))
    if tolerated is not None and tolerated.digest == compare.hash_of(manifest):
        paths -= tolerated.paths
    return bool(paths)


def _pulls(observed: seen.Observed) -> tuple[state.WantedPull, ...]:
    pulls: list[state.WantedPull] = []
    outdated, looking = _outdated(observed), _looking(observed)
    for pod in observed.pods:
        if pod.store is None:
            continue
        for key, model in placement.wanted_on(pod, observed).items():
            held, recipe = pod.store.held.get(key), variants.recipe(model, pod)
            lacks = held is None or key in outdated.get(pod.uid, ()) or key in looking.get(pod.uid, ())
            in_the_way = held is not None and variants.is_another(model, held)
            # One that is about to be replaced would ask the registry itself, and over plain HTTP.
            out_of_reach = model.source.cached and not pod.cached and model.variant is None
            if (
                lacks
                and not in_the_way
                and not out_of_reach
                and (recipe is not None or model.variant is None)
            ):
                pulls.append(
                    state.WantedPull(
                        pod=pod.name,
                        uid=pod.uid,
                        ip=pod.ip,
                        reference=str(model.reference),
                        key=key,
                        source=model.source,
                        recipe=recipe,
                        again=held is not None and model.variant is None,
                    )
                )
    return tuple(pulls)


def _loads(observed: seen.Observed) -> tuple[state.WantedLoad, ...]:
    """Return what is to be in memory of what pods hold. What is there already is found to be so at once."""
    return tuple(
        state.WantedLoad(
            pod=pod.name,
            uid=pod.uid,
            started=pod.started,
            ip=pod.ip,
            reference=str(model.reference),
            key=key,
            keep_alive=model.keep_alive,
            context_length=model.context_length,
            version=variants.version(model, pod.store),
        )
        for pod in observed.pods
        for key, model in placement.wanted_on(pod, observed).items()
        if model.preload
        and pod.store is not None
        and key in pod.store.held
        # What is about to be replaced need not be in memory before.
        and not variants.differs(model, pod)
    )


def _outdated(observed: seen.Observed) -> Mapping[str, Set[str]]:
    """Return the keys of models of which pods, by uid, hold another version than the newest."""
    found: dict[str, set[str]] = {}
    for key, model in observed.modelset.by_key.items():
        for pod in versions.outdated(model, placement.pods_for(model, observed)):
            found.setdefault(pod.uid, set()).add(key)
    return found


def _looking(observed: seen.Observed) -> Mapping[str, Set[str]]:
    """Return the keys of models whose tags pods, by uid, are to look at again."""
    found: dict[str, set[str]] = {}
    for key, model in observed.modelset.by_key.items():
        for pod in refreshing.due(model, observed):
            found.setdefault(pod.uid, set()).add(key)
    return found


def _garbage(observed: seen.Observed, pulls: Iterable[state.WantedPull]) -> tuple[state.Removal, ...]:
    """Return what pods hold and should not.

    Not on pods that are downloading what is still wanted: deleting a model can take a layer that the other
    one shares. Nor the base or adapter of a variant that is to be made of another one: its files would be
    nobody's once the variant lets go.
    """
    garbage: list[state.Removal] = []
    downloading = _downloading(observed, pulls)
    for pod in observed.pods:
        if pod.store is None or pod.uid in downloading:
            continue
        store, wanted = pod.store, placement.wanted_on(pod, observed)
        made = (variants.made_of(model, pod) for model in wanted.values() if model.variant is not None)
        needed = frozenset[str]().union(*made)
        in_the_way = {
            key
            for key, model in wanted.items()
            if key in store.held and variants.is_another(model, store.held[key])
        }
        unwanted = {
            key for key in store.held.keys() - wanted.keys() - needed if placement.may_go(key, observed)
        }
        garbage.extend(
            state.Removal(pod.name, pod.uid, pod.ip, store.names[key], key in store.loaded)
            for key in sorted(unwanted | in_the_way)
        )
    return tuple(garbage)


def _downloading(observed: seen.Observed, pulls: Iterable[state.WantedPull]) -> Set[str]:
    """Return the uids of pods onto which a download is under way, and not only yet to be noticed as done."""
    running = {key for key, pull in observed.pulls.items() if pull.phase is state.PullPhase.RUNNING}
    return {pull.uid for pull in pulls if (pull.uid, pull.key) in running}
