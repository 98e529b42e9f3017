"""When pods ask a registry again for what they hold already, in case its tag has moved. Pure.

To ask is to pull: where nothing has moved Ollama fetches the manifest alone, and writes it anew. So the time
at which a pod changed a model last is when it looked last, and nothing has to be remembered. Ollama writes
manifests in its own way, so that no digest of a registry's could be compared with those of pods.

One pod looks for all. Where it comes back with another version, that is the newest, and the others pull it
anew: see `versions`. A set that is asleep looks when it wakes up.
"""

from collections.abc import Iterator, Sequence

from modelset_operator.api import moments, spec
from modelset_operator.engines import state
from modelset_operator.plan import observed as seen
from modelset_operator.plan import placement, variants, versions


def due(model: spec.Model, observed: seen.Observed) -> tuple[seen.Pod, ...]:
    """Return the pods that are to look now: one for all where it is time, and those that have started."""
    if not _is_ever_due(model, observed):
        return ()
    holders = _holders(model, observed)
    if not holders or versions.outdated(model, [pod for pod, _ in holders]):
        # What the newest version is, is known from the pod that has it.
        return ()
    looking = {pod.uid for pod, held in holders if model.refresh.at_starts and _is_before_start(held, pod)}
    now = moments.parse(observed.now) or 0.0
    if any(moment <= now for moment in _moments(model, observed, holders)):
        looking.add(_scout(model, observed, holders).uid)
    return tuple(pod for pod, _ in holders if pod.uid in looking)


def due_in(observed: seen.Observed) -> float | None:
    """Return in how many seconds the next look is due, None where none is to come."""
    now = moments.parse(observed.now) or 0.0
    coming = [
        moment - now
        for model in observed.modelset.by_key.values()
        if _is_ever_due(model, observed)
        for moment in _moments(model, observed, _holders(model, observed))
        if moment > now
    ]
    return min(coming, default=None)


def looked_at(model: spec.Model, observed: seen.Observed) -> float:
    """Return when a pod looked last, in Unix seconds; 0 where that is not known."""
    return max((held.changed for _, held in _holders(model, observed)), default=0.0)


def _is_ever_due(model: spec.Model, observed: seen.Observed) -> bool:
    """Whether anybody wants looks at all: of most models nobody does, and there may be many pods."""
    return model.refresh != spec.Refresh() or observed.modelset.refresh_at is not None


def _holders(model: spec.Model, observed: seen.Observed) -> Sequence[tuple[seen.Pod, state.Held]]:
    """Return the pods that hold a model which comes from a registry, and what they hold."""
    key = model.reference.key
    if model.variant is not None:
        return ()
    found = [
        (pod, pod.store.held[key])
        for pod in placement.pods_for(model, observed)
        if pod.store is not None and key in pod.store.held
    ]
    return [(pod, held) for pod, held in found if held.changed and not variants.is_another(model, held)]


def _moments(
    model: spec.Model, observed: seen.Observed, holders: Sequence[tuple[seen.Pod, state.Held]]
) -> Iterator[float]:
    """Yield when one pod is to look for all: some time after the last look, and when somebody asked to."""
    last = max((held.changed for _, held in holders), default=0.0)
    if last and model.refresh.seconds is not None:
        yield last + model.refresh.seconds
    asked = observed.modelset.refresh_at
    # People write whole seconds: of what happened within one it is not known which came first.
    if last and asked is not None and asked >= int(last):
        yield asked


def _scout(
    model: spec.Model, observed: seen.Observed, holders: Sequence[tuple[seen.Pod, state.Held]]
) -> seen.Pod:
    """Choose who looks: who has begun to, so that it goes on, then one that serves."""
    key = model.reference.key
    return min(holders, key=lambda one: (observed.pull(one[0], key) is None, not one[0].ready))[0]


def _is_before_start(held: state.Held, pod: seen.Pod) -> bool:
    started = moments.parse(pod.started)
    return started is not None and held.changed < started
