"""Pods that hold different versions of one model, as when its tag has moved between two pulls. Pure.

The version that was fetched last counts, and pods with another one fetch it again: then all hold what the
registry has now. Of a variant the one counts that is made as the spec says.
"""

from collections.abc import Sequence

from modelset_operator.api import spec
from modelset_operator.engines import state
from modelset_operator.plan import observed as seen
from modelset_operator.plan import variants


def newest(pods: Sequence[seen.Pod], key: str) -> state.Held | None:
    """Return what was fetched last of what pods hold under a key; a ready pod's, where that is the same."""
    found = [
        (pod.store.held[key], pod.ready) for pod in pods if pod.store is not None and key in pod.store.held
    ]
    if not found:
        return None
    digest = max((held for held, _ in found), key=lambda held: held.changed).digest
    same = [one for one in found if one[0].digest == digest]
    return min(same, key=lambda one: (one[0].capabilities is None, not one[1]))[0]


def outdated(model: spec.Model, pods: Sequence[seen.Pod]) -> tuple[seen.Pod, ...]:
    """Return which of these pods hold another version of a model than they should."""
    key = model.reference.key
    others = tuple(pod for pod in pods if variants.differs(model, pod))
    if model.variant is not None:
        return others
    same = [pod for pod in pods if pod not in others]
    best = newest(same, key)
    return others + tuple(
        pod
        for pod in same
        if best is not None and pod.store is not None and pod.store.held.get(key, best).digest != best.digest
    )
