"""The status of a set: conditions, models, and the figures that kubectl prints."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from modelset_operator.api import labels, moments, names
from modelset_operator.engines import wording
from modelset_operator.plan import conditions, models, obstacles, replicas, volumes
from modelset_operator.plan import observed as seen
from modelset_operator.plan import proxy as proxies

READY = "Ready"
MODELS_READY = "ModelsReady"
OLLAMA_READY = "OllamaReady"
PROXY_READY = "ProxyReady"
PROGRESSING = "Progressing"
CACHE_READY = "CacheReady"
# The reason when the API server, or an object of somebody else, is in the way.
APPLY_FAILED = "ApplyFailed"
# The reason of OllamaReady and CacheReady, although they are True: what fits into what was asked for may not
# fit.
VOLUMES_TOO_SMALL = "VolumesTooSmall"
# Reasons that stay until somebody acts or something outside the set changes. They are told first.
_STUCK = obstacles.REASONS | {"ModelFailed", "DiskFull"}


@dataclasses.dataclass(frozen=True)
class Leaf:
    """A condition before it has a time."""

    type: str
    true: bool
    reason: str
    message: str


def build(
    observed: seen.Observed,
    judged: Sequence[models.Judged],
    served_names: Sequence[str],
    problems: Sequence[str] = (),
    *,
    applied: bool = True,
) -> dict[str, Any]:
    """Return the whole status.

    `problems` are what the API server refused in this round; `applied`: it holds all that is wanted.
    """
    modelset = observed.modelset
    proxy = proxies.judge(observed)
    ready_pods = sum(pod.ready for pod in observed.pods)
    leaves = [_models_leaf(judged), _ollama_leaf(observed, ready_pods), _proxy_leaf(proxy)]
    moving = _moving(observed, proxy, applied=applied)
    aggregate = _ready_leaf(leaves, problems, moving)
    all_leaves = [aggregate, *leaves, _progressing_leaf(leaves, problems, moving), *_cache_leaves(observed)]
    ready_models = sum(one.phase == models.READY for one in judged)
    return {
        "observedGeneration": modelset.generation,
        "replicas": sum(_replicas(observed.of(pool).stateful_set) for pool in modelset.pools),
        "selector": names.selector_text(names.ollama_selector(modelset.name)),
        "endpoint": names.endpoint(modelset.name, modelset.namespace),
        "modelNames": labels.model_names_text(served_names),
        "modelsReady": f"{ready_models}/{len(judged)}",
        "ollamaReady": f"{ready_pods}/{replicas.of_all(observed)}",
        "desiredReplicas": replicas.of_all(observed),
        "conditions": [
            _condition(leaf, observed.status, modelset.generation, observed.now) for leaf in all_leaves
        ],
        "models": [_model(one, observed) for one in judged],
    }


def unusable(resource: Mapping[str, Any], now: str, problem: str) -> dict[str, Any]:
    """Return the status of a set whose spec cannot be read: as it was, but for why it is not Ready."""
    before = resource.get("status") or {}
    others = [one for one in before.get("conditions") or () if one.get("type") != READY]
    leaf = Leaf(READY, False, "InvalidSpec", _cut(problem))
    ready = _condition(leaf, before, resource["metadata"].get("generation", 1), now)
    return {**before, "conditions": [ready, *others]}


def _model(one: models.Judged, observed: seen.Observed) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": one.model.name,
        "servedNames": list(one.model.served_names),
        "phase": one.phase,
        "readyReplicas": f"{one.ready_pods}/{one.pods}",
    }
    if one.model.variant is not None:
        entry["from"] = one.model.variant.named
    previous = observed.previous_model(one.model.name)
    # What is known of a model does not become unknown because its pod restarts.
    kept = ("type", "digest", "size", "memory", "capabilities", "checkedAt")
    known = {key: previous[key] for key in kept if key in previous}
    if one.held is not None:
        known |= {"digest": one.held.digest, "size": one.held.size}
        if one.held.capabilities is not None:
            known["capabilities"] = list(one.held.capabilities)
    if one.kind:
        known["type"] = one.kind
    if one.checked_at:
        known["checkedAt"] = moments.written(one.checked_at)
    if one.memory is not None:
        known["memory"] = one.memory
    optional = {"progress": one.progress, "message": one.message}
    return entry | known | {key: value for key, value in optional.items() if value}


def _models_leaf(judged: Sequence[models.Judged]) -> Leaf:
    failed = [one for one in judged if one.phase == models.FAILED]
    if failed:
        told = "; ".join(f"{one.model.name}: {one.message}" for one in failed)
        full = any(wording.disk_full(one.message) for one in failed)
        return Leaf(MODELS_READY, False, "DiskFull" if full else "ModelFailed", _cut(told))
    waiting = [one for one in judged if one.phase != models.READY]
    outdated = [one for one in judged if one.outdated]
    if outdated and not waiting:
        told = "; ".join(f"{one.model.name}: {one.message}" for one in outdated)
        return Leaf(MODELS_READY, False, "VersionsDiffer", _cut(told))
    if not waiting:
        return Leaf(MODELS_READY, True, "AllModelsReady", f"all {len(judged)} models can answer")
    pulling = [one for one in waiting if one.phase == models.PULLING]
    told = ", ".join(
        f"{one.model.name} ({one.phase}{f' {one.progress}' if one.progress else ''})" for one in waiting
    )
    reason = "PullingModels" if pulling else "WaitingForModels"
    return Leaf(MODELS_READY, False, reason, _cut(f"not ready: {told}"))


def _ollama_leaf(observed: seen.Observed, ready: int) -> Leaf:
    wanted = replicas.of_all(observed)
    if replicas.asleep(observed):
        return Leaf(
            OLLAMA_READY, True, "ScaledToZero", "nobody asks for a model: the next request starts a pod"
        )
    if wanted == 0:
        return Leaf(OLLAMA_READY, False, "ScaledToZero", "spec.ollama.replicas is 0")
    told = f"{ready} of {wanted} Ollama pods are ready"
    small = volumes.too_small(observed)
    if ready >= wanted and small:
        return Leaf(OLLAMA_READY, True, VOLUMES_TOO_SMALL, _cut(f"{told}; {small}"))
    if ready >= wanted:
        return Leaf(OLLAMA_READY, True, "AllPodsReady", told)
    obstacle = obstacles.ollama_pods(observed)
    message = _cut("; ".join(filter(None, [told, obstacle.message, small])))
    if ready >= replicas.fewest(observed):
        return Leaf(OLLAMA_READY, True, obstacle.reason or "ScalingUp", message)
    return Leaf(OLLAMA_READY, False, obstacle.reason or "PodsNotReady", message)


def _replicas(stateful_set: seen.Object | None) -> int:
    return int(((stateful_set or {}).get("status") or {}).get("replicas", 0))


def _rolling(stateful_set: seen.Object | None, observed: seen.Observed) -> bool:
    if stateful_set is None:
        return True
    status = stateful_set.get("status") or {}
    behind = status.get("observedGeneration", 0) < stateful_set["metadata"].get("generation", 0)
    # Of a spec that serves already only the number of pods can have changed.
    if behind and not _served(observed):
        return True
    return bool(status.get("updatedReplicas", 0) < status.get("replicas", 0))


def _served(observed: seen.Observed) -> bool:
    """Whether this very generation of the set was Ready before."""
    return observed.same_generation and conditions.is_true(observed.status, READY)


def _proxy_leaf(proxy: proxies.Proxy) -> Leaf:
    return Leaf(PROXY_READY, proxy.ready, proxy.reason, _cut(proxy.message))


def _cache_leaves(observed: seen.Observed) -> list[Leaf]:
    """Tell of the registry cache, where a set has one. What is there goes on being served without it."""
    cache = observed.modelset.cache
    if cache is None:
        return []
    small = volumes.cache_too_small(observed)
    if any(pod.ready for pod in observed.cache.pods):
        told = "models are pulled through the cache"
        if small:
            return [Leaf(CACHE_READY, True, VOLUMES_TOO_SMALL, _cut(f"{told}; {small}"))]
        return [Leaf(CACHE_READY, True, "Serving", told)]
    obstacle = obstacles.cache_pods(cache, observed)
    told = "; ".join(filter(None, [obstacle.message or "its pod is about to start", small]))
    return [
        Leaf(CACHE_READY, False, obstacle.reason or "PodNotReady", _cut(f"nothing can be pulled: {told}"))
    ]


def _moving(observed: seen.Observed, proxy: proxies.Proxy, *, applied: bool) -> tuple[str, str] | None:
    """Return why what serves is not yet all that the spec asks for: reason and message; None when it is."""
    if not applied:
        return "Applying", "a change has not reached the API server yet"
    if any(_rolling(observed.of(pool).stateful_set, observed) for pool in observed.modelset.pools):
        return "RollingOut", "the Ollama pods are being replaced one by one"
    if not proxy.settled:
        return proxy.reason, proxy.message
    return None


def _ready_leaf(leaves: Sequence[Leaf], problems: Sequence[str], moving: tuple[str, str] | None) -> Leaf:
    """Aggregate: what was refused, the first leaf that is not true, or what is not there yet says why.

    Of the leaves those come first that do not only wait for others.
    """
    if problems:
        return Leaf(READY, False, APPLY_FAILED, _cut("; ".join(problems)))
    unready = [leaf for leaf in leaves if not leaf.true]
    if unready:
        first = min(unready, key=lambda leaf: leaf.reason not in _STUCK)
        return Leaf(READY, False, first.reason, first.message)
    if moving is not None:
        return Leaf(READY, False, moving[0], _cut(moving[1]))
    return Leaf(READY, True, "Serving", "every model can answer")


def _progressing_leaf(
    leaves: Sequence[Leaf], problems: Sequence[str], moving: tuple[str, str] | None
) -> Leaf:
    if problems:
        return Leaf(PROGRESSING, False, APPLY_FAILED, _cut("; ".join(problems)))
    unready = [leaf for leaf in leaves if not leaf.true]
    obstacles_met = [leaf for leaf in unready if leaf.reason in obstacles.REASONS]
    idle = _STUCK | {"ScaledToZero"} | ({"WaitingForModels"} if obstacles_met else frozenset())
    under_way = [leaf for leaf in unready if leaf.reason not in idle]
    if under_way:
        return Leaf(PROGRESSING, True, under_way[0].reason, under_way[0].message)
    if obstacles_met:
        return Leaf(PROGRESSING, False, obstacles_met[0].reason, obstacles_met[0].message)
    if moving is not None:
        return Leaf(PROGRESSING, moving[0] not in _STUCK, moving[0], _cut(moving[1]))
    return Leaf(PROGRESSING, False, "Settled", "nothing is left to do")


def _condition(leaf: Leaf, before: Mapping[str, Any], generation: int, now: str) -> dict[str, Any]:
    status = "True" if leaf.true else "False"
    changed = now
    for previous in before.get("conditions") or ():
        if previous.get("type") == leaf.type and previous.get("status") == status:
            changed = previous.get("lastTransitionTime", changed)
    return {
        "type": leaf.type,
        "status": status,
        "reason": leaf.reason,
        "message": leaf.message,
        "observedGeneration": generation,
        "lastTransitionTime": changed,
    }


def _cut(text: str, limit: int = 1000) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
