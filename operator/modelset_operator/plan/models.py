"""What each model of a set has come to: its phase, its progress, and whether clients may ask for it."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from modelset_operator.api import spec
from modelset_operator.engines import state
from modelset_operator.manifests import ray
from modelset_operator.plan import observed as seen
from modelset_operator.plan import placement, versions

PENDING, PULLING, LOADING, READY, FAILED = "Pending", "Pulling", "Loading", "Ready", "Failed"

# Pods wait for a model that Ollama has refused less often, in case it was a passing fault of the registry.
FAILURES_UNTIL_GIVEN_UP = 3


@dataclasses.dataclass(frozen=True)
class Judged:
    """One model as the status tells it: `ready_pods` of `pods` that should hold it.

    `kind` is Chat or Embedding, empty while not known. `outdated` are the pods that hold another version than
    the newest, which is the one that counts.
    """

    model: spec.Model
    phase: str
    ready_pods: int
    pods: int
    message: str = ""
    progress: str = ""
    kind: str = ""
    held: state.Held | None = None
    outdated: tuple[str, ...] = ()


def judge_all(observed: seen.Observed) -> tuple[Judged, ...]:
    """Judge every model, in the order of the spec."""
    return tuple(judge(model, observed) for model in observed.modelset.models)


def judge(model: spec.Model, observed: seen.Observed) -> Judged:
    """Tell what one model has come to over all pods that should hold it."""
    key = model.reference.key
    pods = placement.pods_for(model, observed)
    holders = [pod for pod in pods if pod.store is not None and key in pod.store.held]
    ready = [pod for pod in holders if pod.ready]
    held = _best(holders, key)
    outdated = tuple(pod.name for pod in versions.outdated(holders, key))
    kind = _kind(model, held)
    phase, message = _phase(model, observed, holders, ready, kind)
    return Judged(
        model=model,
        phase=phase,
        ready_pods=sum(pod.name not in outdated for pod in ready),
        pods=placement.copies(model, observed.modelset),
        message="; ".join(filter(None, [_outdated(outdated, held), message or _note(model, held)])),
        progress=_progress(model, observed, phase),
        kind=kind,
        held=held,
        outdated=outdated,
    )


def _best(holders: Sequence[seen.Pod], key: str) -> state.Held | None:
    """Of what pods hold under one name, take the newest; what it can do, from one that has told."""
    newest = versions.newest(holders, key)
    if newest is None or newest.capabilities is not None:
        return newest
    found = [pod.store.held[key] for pod in holders if pod.store is not None]
    told = sorted((one for one in found if one.capabilities is not None), key=lambda one: one.changed)
    return dataclasses.replace(newest, capabilities=told[-1].capabilities) if told else newest


def _outdated(pods: Sequence[str], newest: state.Held | None) -> str:
    if not pods or newest is None:
        return ""
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
        if not kind:
            problem = _problem(holders, model.reference.key)
            return LOADING, problem or "Ollama has not told yet what the model can do"
        pods = ", ".join(pod.name for pod in holders)
        return LOADING, f"on disk, waiting for {pods} to become ready"
    wanting = placement.pods_for(model, observed)
    pulls = [(pod, observed.pull(pod, model.reference.key)) for pod in wanting]
    running = [pull for _, pull in pulls if pull is not None and pull.phase is state.PullPhase.RUNNING]
    if any(pull.moving for pull in running):
        return PULLING, ""
    failures = _failures(model, observed)
    if failures:
        return FAILED, failures
    previous = observed.previous_model(model.name)
    if _had_failed(model, observed):
        return FAILED, str(previous.get("message", ""))
    if running or _resumes(previous, pulls):
        return PULLING, ""
    return PENDING, _why_pending(model, observed)


def _had_failed(model: spec.Model, observed: seen.Observed) -> bool:
    """Whether the same spec's model was told as failed, perhaps by an earlier run of the operator."""
    same = observed.status.get("observedGeneration") == observed.modelset.generation
    return same and observed.previous_model(model.name).get("phase") == FAILED


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
            reasons.setdefault(pull.message, []).append(pod.name)
    return "; ".join(f"{', '.join(pods)}: {reason}" for reason, pods in reasons.items())


def _why_pending(model: spec.Model, observed: seen.Observed) -> str:
    if not observed.modelset.pods:
        return "spec.ollama.replicas is 0"
    pods = placement.pods_for(model, observed)
    if not pods:
        return "no Ollama pod has been created yet"
    for pod in pods:
        pull = observed.pull(pod, model.reference.key)
        if pull is not None and pull.message:
            return f"{pod.name}: {pull.message}"
        if pod.store is None:
            return f"{pod.name} does not run yet{f': {pod.waiting}' if pod.waiting else ''}"
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

    It stays below 100% until every one of them holds it.
    """
    if phase == PENDING:
        return ""
    key = model.reference.key
    parts = []
    pods = placement.pods_for(model, observed)
    outdated = versions.outdated(pods, key)
    for pod in pods:
        pull = observed.pull(pod, key)
        if pod.store is not None and key in pod.store.held and pod not in outdated:
            parts.append(1.0)
        else:
            # All bytes are there before Ollama has verified them.
            parts.append(min(pull.fraction, 0.99) if pull is not None else 0.0)
    if not parts or (phase == FAILED and not any(parts)):
        return ""
    done = sum(parts) / max(len(parts), placement.copies(model, observed.modelset))
    if done >= 1:
        return "100%"
    return f"{max(min(int(done * 100), 99), _told_before(model, observed, phase))}%"


def _told_before(model: spec.Model, observed: seen.Observed, phase: str) -> int:
    """Return the percentage told last for the same download; a restart begins to count layers anew."""
    previous = observed.previous_model(model.name)
    copies = placement.copies(model, observed.modelset)
    same_pods = str(previous.get("readyReplicas", "")).endswith(f"/{copies}")
    if phase != PULLING or previous.get("phase") != PULLING or not same_pods:
        return 0
    told = str(previous.get("progress", "")).removesuffix("%")
    return min(int(told), 99) if told.isdigit() else 0


def listed_entries(judged: Sequence[Judged], observed: seen.Observed) -> list[dict[str, Any]]:
    """Return the models that clients may ask for, as user_config lists them.

    A model that was listed stays while it is wanted and has not failed: when its pod restarts, clients are
    told to come again (503), not that there is no such model (404).
    """
    entries = []
    for one in judged:
        previous = observed.previous_model(one.model.name)
        if one.phase == READY:
            capabilities = (one.held.capabilities if one.held is not None else None) or ()
            kind = one.kind
        elif _was_listed(previous, observed) and one.phase != FAILED:
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


def required(pool: spec.Pool, observed: seen.Observed) -> tuple[spec.Model, ...]:
    """Return the models without which no pod of a pool is ready: all wanted there but those not to be had.

    One that has failed does not hold the others back; a pod that starts meanwhile is ready without it.
    """
    wanted = placement.wanted_in(pool, observed.modelset).values()
    return tuple(model for model in wanted if not _cannot_be_had(model, observed))


def _cannot_be_had(model: spec.Model, observed: seen.Observed) -> bool:
    pods = placement.pods_for(model, observed)
    lacking = [pod for pod in pods if pod.store is None or model.reference.key not in pod.store.held]
    pulls = [observed.pull(pod, model.reference.key) for pod in lacking]
    # One that was only begun tells nothing better than what is known from an earlier run of the operator.
    telling = [pull for pull in pulls if pull is not None and (pull.failures or pull.moving)]
    if any(pull.unknown_model or pull.failures >= FAILURES_UNTIL_GIVEN_UP for pull in telling):
        return True
    held = any(pod.store is not None and model.reference.key in pod.store.held for pod in pods)
    return not telling and not held and _had_failed(model, observed)
