"""What each model of a set has come to: its phase, its progress, and whether clients may ask for it."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from modelset_operator.api import names, spec
from modelset_operator.engines import state
from modelset_operator.manifests import ray
from modelset_operator.plan import (
    disk,
    needs,
    obstacles,
    placement,
    refreshing,
    replicas,
    variants,
    versions,
)
from modelset_operator.plan import observed as seen

PENDING, PULLING, LOADING, READY, FAILED = "Pending", "Pulling", "Loading", "Ready", "Failed"
# Of a variant whose base is there.
CREATING = "Creating"

# Pods wait for a model that Ollama has refused less often, in case it was a passing fault of the registry.
FAILURES_UNTIL_GIVEN_UP = 3
# A model that volumes hold, of a set without pods.
ASLEEP = "asleep: the next request for any model of the set starts a pod"
# How the message of a model begins that answers, and of which nobody knows whether its tag has moved.
NOT_REFRESHED = "its registry could not be asked again: "
# A variant where the spec has a model of a registry now, or the other way round.
_IN_THE_WAY = "waiting for what had this name before to be deleted"


@dataclasses.dataclass(frozen=True)
class Judged:
    """One model as the status tells it: `ready_pods` of `pods` that should hold it.

    `kind` is Chat or Embedding, empty while not known. `outdated` are the pods that hold another version than
    the newest, which is the one that counts. `memory` are the bytes that it takes, None while not known;
    `checked_at` is when its registry was asked last, in Unix seconds, 0 while not known.
    """

    model: spec.Model
    phase: str
    ready_pods: int
    pods: int
    message: str = ""
    progress: str = ""
    kind: str = ""
    held: state.Held | None = None
    memory: int | None = None
    outdated: tuple[str, ...] = ()
    checked_at: float = 0.0


def judge_all(observed: seen.Observed) -> tuple[Judged, ...]:
    """Judge every model, in the order of the spec."""
    return tuple(judge(model, observed) for model in observed.modelset.models)


def judge(model: spec.Model, observed: seen.Observed) -> Judged:
    """Tell what one model has come to over all pods that should hold it."""
    key = model.reference.key
    pods = placement.pods_for(model, observed)
    holding = [pod for pod in pods if pod.store is not None and key in pod.store.held]
    # A variant that was made otherwise is none of those that the spec asks for.
    holders = [pod for pod in holding if not variants.differs(model, pod)]
    ready = [pod for pod in holders if pod.ready and not _to_be_loaded(model, pod, observed)]
    held = _best(holders, key)
    outdated = tuple(pod.name for pod in versions.outdated(model, holding))
    kind = _kind(model, held)
    phase, message = _phase(model, observed, holders, ready, kind)
    if phase == READY:
        message = _looking_again(model, observed) or message
    message = message or _unmet(model, observed) or _note(model, held)
    return Judged(
        model=model,
        phase=phase,
        ready_pods=sum(pod.name not in outdated for pod in ready),
        pods=placement.copies(model, observed),
        message="; ".join(filter(None, [_outdated(model, outdated, held), message])),
        progress=_progress(model, observed, phase),
        kind=kind,
        held=held or versions.newest(observed.pods, key),
        memory=needs.of(model, observed).memory,
        outdated=outdated,
        checked_at=refreshing.looked_at(model, observed),
    )


def _looking_again(model: spec.Model, observed: seen.Observed) -> str:
    """Tell of a look at a registry that has found another version, or nothing; "" where it is soon over."""
    looking = refreshing.due(model, observed)
    pulls = [(pod, observed.pull(pod, model.reference.key)) for pod in looking]
    for pod, pull in pulls:
        # Where nothing has moved, all that Ollama names is there at once.
        if pull is not None and pull.moving and pull.fraction < 1:
            return f"the tag has moved: {pod.name} has {int(pull.fraction * 100)}% of its new version"
    failures = _failures(model, observed) if looking else ""
    return f"{NOT_REFRESHED}{failures}" if failures else ""


def _to_be_loaded(model: spec.Model, pod: seen.Pod, observed: seen.Observed) -> bool:
    """Whether a pod has not had a model in memory that it is to preload.

    One that was told to be ready on all pods was there before this run of the operator; whether it stays is
    for the proxy to say.
    """
    key = model.reference.key
    if not model.preload or (pod.store is not None and key in pod.store.loaded):
        return False
    load = observed.loads.get((pod.uid, key))
    if load is not None and load.done:
        return False
    copies = placement.copies(model, observed)
    everywhere = observed.previous_model(model.name).get("readyReplicas") == f"{copies}/{copies}"
    return not (observed.same_generation and everywhere)


def _why_not_loaded(model: spec.Model, pods: Sequence[seen.Pod], observed: seen.Observed) -> str:
    loads = [(pod, observed.loads.get((pod.uid, model.reference.key))) for pod in pods]
    failed = [f"{pod.name}: {load.message}" for pod, load in loads if load is not None and load.message]
    return "; ".join(failed) or f"being loaded into memory on {', '.join(pod.name for pod in pods)}"


def _unmet(model: spec.Model, observed: seen.Observed) -> str:
    """Return why some of a model's copies have found no pod, in bytes."""
    return placement.placed(observed).unmet.get(model.reference.key, "")


def _best(holders: Sequence[seen.Pod], key: str) -> state.Held | None:
    """Of what pods hold under one name, take the newest; what it can do, from one that has told."""
    newest = versions.newest(holders, key)
    if newest is None or newest.capabilities is not None:
        return newest
    found = [pod.store.held[key] for pod in holders if pod.store is not None]
    telling = (one for one in found if one.capabilities is not None)
    told = max(telling, key=lambda one: one.changed, default=None)
    return newest if told is None else dataclasses.replace(newest, facts=told.facts)


def _outdated(model: spec.Model, pods: Sequence[str], newest: state.Held | None) -> str:
    if not pods or newest is None:
        return ""
    if model.variant is not None:
        return f"{', '.join(pods)}: not as the spec says; it is made anew"
    return f"{', '.join(pods)}: not the newest version, {newest.digest[:19]}; it is pulled again"


def _kind(model: spec.Model, held: state.Held | None) -> str:
    if model.type != spec.AUTO:
        return model.type
    if held is None or held.capabilities is None:
        return ""
    embeds_only = "embedding" in held.capabilities and "completion" not in held.capabilities
    return spec.EMBEDDING if embeds_only else spec.CHAT


def _phase(
    model: spec.Model,
    observed: seen.Observed,
    holders: Sequence[seen.Pod],
    ready: Sequence[seen.Pod],
    kind: str,
) -> tuple[str, str]:
    if ready and kind:
        return READY, _failures(model, observed)
    if holders:
        return LOADING, _why_loading(model, observed, holders, kind)
    wanting = placement.pods_for(model, observed)
    if not wanting and _unmet(model, observed):
        return PENDING, _unmet(model, observed)
    if model.variant is not None:
        return _phase_of_variant(model, observed)
    pulls = [(pod, observed.pull(pod, model.reference.key)) for pod in wanting]
    running = [pull for _, pull in pulls if pull is not None and pull.phase is state.PullPhase.RUNNING]
    if any(pull.moving for pull in running):
        return PULLING, ""
    if stays := _failed_or_asleep(model, observed):
        return stays
    previous = observed.previous_model(model.name)
    if _had_failed(model, observed):
        return FAILED, str(previous.get("message", ""))
    if running or _resumes(previous, pulls):
        return PULLING, ""
    return PENDING, _why_pending(model, observed)


def _phase_of_variant(model: spec.Model, observed: seen.Observed) -> tuple[str, str]:
    """Tell how far a variant is that no pod holds as it should be: no further than what it is made of."""
    if stays := _failed_or_asleep(model, observed):
        return stays
    previous = observed.previous_model(model.name)
    behind = _behind(model, observed)
    if behind is not None and behind[0] in (PULLING, FAILED):
        return behind
    if problem := variants.problem(model, placement.pods_for(model, observed)):
        return FAILED, problem
    if _had_failed(model, observed):
        return FAILED, str(previous.get("message", ""))
    if behind is not None:
        return behind
    return (PENDING, _IN_THE_WAY) if _is_in_the_way(model, observed) else (CREATING, "")


def _failed_or_asleep(model: spec.Model, observed: seen.Observed) -> tuple[str, str] | None:
    """Tell of a model that no pod holds what stays so until it is tried again, or a request comes."""
    failures = _failures(model, observed)
    if failures:
        return FAILED, failures
    asleep = replicas.asleep(observed) and observed.previous_model(model.name).get("phase") == READY
    return (READY, ASLEEP) if asleep else None


def _behind(model: spec.Model, observed: seen.Observed) -> tuple[str, str] | None:
    """Return phase and message of what a variant waits for: its base, then its adapter; None when not."""
    for what, source in zip(("base", "adapter"), _sources(model, observed), strict=False):
        judged = judge(source, observed)
        if judged.phase in (PULLING, FAILED, PENDING):
            return judged.phase, f"its {what}, {source.name}: {judged.message or judged.phase}"
    return None


def _sources(model: spec.Model, observed: seen.Observed) -> list[spec.Model]:
    """Return what a variant is made of: its base, and its adapter where it has one. None for other models."""
    keys = () if model.variant is None else model.variant.sources
    return [observed.modelset.by_key[key] for key in keys]


def _is_in_the_way(model: spec.Model, observed: seen.Observed) -> bool:
    """Whether all pods that should hold a model hold another one of its name."""
    key = model.reference.key
    found = [pod.store.held.get(key) for pod in placement.pods_for(model, observed) if pod.store is not None]
    return bool(found) and all(held is not None and variants.is_another(model, held) for held in found)


def _why_loading(model: spec.Model, observed: seen.Observed, holders: Sequence[seen.Pod], kind: str) -> str:
    if not kind:
        problem = _problem(holders, model.reference.key)
        return problem or "Ollama has not told yet what the model can do"
    loading = [pod for pod in holders if pod.ready]
    if loading:
        return _why_not_loaded(model, loading, observed)
    return f"on disk, waiting for {', '.join(pod.name for pod in holders)} to become ready"


def _had_failed(model: spec.Model, observed: seen.Observed) -> bool:
    """Whether the same spec's model was told as failed, perhaps by an earlier run of the operator.

    Of a base that is not served its variants are told as failed in its place.
    """
    told = (model,) if model in observed.modelset.models else observed.modelset.variants_of(model)
    failed = any(observed.previous_model(one.name).get("phase") == FAILED for one in told)
    return observed.same_generation and failed


def _resumes(previous: Mapping[str, Any], pulls: Sequence[tuple[seen.Pod, state.Pull | None]]) -> bool:
    """Whether a restart of the operator has interrupted a download, which this look begins again."""
    begins = any(pull is None and pod.store is not None for pod, pull in pulls)
    return begins and previous.get("phase") == PULLING


def _problem(holders: Sequence[seen.Pod], key: str) -> str:
    problems = [pod.store.held[key].problem for pod in holders if pod.store is not None]
    return next((problem for problem in problems if problem), "")


def _failures(model: spec.Model, observed: seen.Observed) -> str:
    """Return what Ollama said on the pods that failed to pull, each reason once with its pods."""
    reasons: dict[str, list[str]] = {}
    for pod in placement.pods_for(model, observed):
        pull = observed.pull(pod, model.reference.key)
        if pull is not None and pull.failures and pull.message:
            reasons.setdefault(disk.explained(pull.message, pod, observed), []).append(pod.name)
    return "; ".join(f"{', '.join(pods)}: {reason}" for reason, pods in reasons.items())


def _why_pending(model: spec.Model, observed: seen.Observed) -> str:
    if not replicas.of_all(observed):
        return "spec.ollama.replicas is 0"
    pods = placement.pods_for(model, observed)
    if not pods:
        return "no Ollama pod has been created yet"
    for pod in pods:
        pull = observed.pull(pod, model.reference.key)
        if pull is not None and pull.message:
            return f"{pod.name}: {pull.message}"
        if pod.store is None:
            return f"{pod.name} does not run yet: {obstacles.ollama_pod(pod, observed)}"
    if _is_in_the_way(model, observed):
        return _IN_THE_WAY
    return "waiting for other downloads onto the same pods"


def _note(model: spec.Model, held: state.Held | None) -> str:
    """Say when the declared type is not what Ollama reports: clients will get errors for it."""
    if held is None or not held.capabilities or model.type == spec.AUTO:
        return ""
    needed = "embedding" if model.type == spec.EMBEDDING else "completion"
    if needed in held.capabilities:
        return ""
    return f"type is {model.type}, but Ollama reports only: {', '.join(held.capabilities)}"


def _progress(model: spec.Model, observed: seen.Observed, phase: str) -> str:
    """Return how much of the model the pods that should hold it have, as `42%`.

    It stays below 100% until every one of them holds it. A variant that waits for its base, or its adapter,
    is as far as that.
    """
    if phase in (PENDING, CREATING):
        return ""
    if phase == PULLING:
        model = next(
            (one for one in _sources(model, observed) if judge(one, observed).phase == PULLING), model
        )
    key = model.reference.key
    parts = []
    pods = placement.pods_for(model, observed)
    outdated = versions.outdated(model, pods)
    for pod in pods:
        pull = observed.pull(pod, key)
        if pod.store is not None and key in pod.store.held and pod not in outdated:
            parts.append(1.0)
        else:
            # All bytes are there before Ollama has verified them.
            parts.append(min(pull.fraction, 0.99) if pull is not None else 0.0)
    if not parts or (phase == FAILED and not any(parts)):
        return ""
    done = sum(parts) / max(len(parts), placement.copies(model, observed))
    if done >= 1:
        return "100%"
    return f"{max(min(int(done * 100), 99), _told_before(model, observed, phase))}%"


def _told_before(model: spec.Model, observed: seen.Observed, phase: str) -> int:
    """Return the percentage told last for the same download; a restart begins to count layers anew."""
    previous = observed.previous_model(model.name)
    copies = placement.copies(model, observed)
    same_pods = str(previous.get("readyReplicas", "")).endswith(f"/{copies}")
    if phase != PULLING or previous.get("phase") != PULLING or not same_pods:
        return 0
    told = str(previous.get("progress", "")).removesuffix("%")
    return min(int(told), 99) if told.isdigit() else 0


def listed_entries(judged: Sequence[Judged], observed: seen.Observed) -> list[dict[str, Any]]:
    """Return the models that clients may ask for, as user_config lists them.

    A model that was listed stays while it is wanted and has not failed: when its pod restarts, clients are
    told to come again (503), not that there is no such model (404). A variant that cannot be made as the spec
    says now goes on as it was.
    """
    entries = []
    for one in judged:
        previous = observed.previous_model(one.model.name)
        if one.phase == READY and one.held is not None:
            capabilities = one.held.capabilities or ()
            kind = one.kind
        elif _was_listed(previous, observed) and (one.phase != FAILED or one.outdated):
            capabilities = tuple(previous.get("capabilities") or ())
            kind = one.kind or str(previous.get("type", spec.CHAT))
        else:
            continue
        entries.append(ray.model_entry(one.model, kind, capabilities, observed.modelset.created))
    return sorted(entries, key=lambda entry: (entry["model"], entry["servedNames"]))


def _was_listed(previous: Mapping[str, Any], observed: seen.Observed) -> bool:
    listed = str(observed.status.get("modelNames", "")).split(";")
    served = previous.get("servedNames") or ()
    return bool(served) and set(served) <= set(listed)


def required(pool: spec.Pool, observed: seen.Observed) -> Mapping[str, tuple[spec.Model, ...]]:
    """Return the models without which a pool's pods, by name, are not ready: all but those not to be had.

    One that has failed does not hold the others back; a pod that starts meanwhile is ready without it.
    """
    by_key = observed.modelset.by_key
    missing = {key for key, model in by_key.items() if _cannot_be_had(model, observed)}
    return {
        pod: tuple(model for key, model in by_key.items() if key in keys - missing)
        for pod, keys in placement.placed(observed).keys.items()
        if names.pool_of(pod) == pool.name
    }


def _cannot_be_had(model: spec.Model, observed: seen.Observed) -> bool:
    pods = placement.pods_for(model, observed)
    if any(_cannot_be_had(source, observed) for source in _sources(model, observed)):
        return True
    if variants.problem(model, pods):
        return True
    lacking = [pod for pod in pods if pod.store is None or model.reference.key not in pod.store.held]
    pulls = [observed.pull(pod, model.reference.key) for pod in lacking]
    # One that was only begun tells nothing better than what is known from an earlier run of the operator.
    telling = [pull for pull in pulls if pull is not None and (pull.failures or pull.moving)]
    if any(pull.unknown_model or pull.failures >= FAILURES_UNTIL_GIVEN_UP for pull in telling):
        return True
    held = any(pod.store is not None and model.reference.key in pod.store.held for pod in pods)
    return not telling and not held and _had_failed(model, observed)
