"""Where models are to be. Whatever pulls, deletes, looks at or counts models on pods asks here. Pure."""

from collections.abc import Mapping

from modelset_operator.api import spec
from modelset_operator.plan import observed as seen


def wanted_in(pool: spec.Pool, modelset: spec.ModelSet) -> Mapping[str, spec.Model]:
    """Return the models that pods of a pool should hold, by reference key: so far, in each all of the set."""
    return modelset.by_key if pool in modelset.pools else {}


def wanted_on(pod: seen.Pod, modelset: spec.ModelSet) -> Mapping[str, spec.Model]:
    """Return the models that one pod should hold, by reference key: all that are wanted in its pool."""
    for pool in modelset.pools:
        if pool.name == pod.pool:
            return wanted_in(pool, modelset)
    return {}


def pods_for(model: spec.Model, observed: seen.Observed) -> tuple[seen.Pod, ...]:
    """Return the pods that should hold a model."""
    key = model.reference.key
    return tuple(pod for pod in observed.pods if key in wanted_on(pod, observed.modelset))


def copies(model: spec.Model, modelset: spec.ModelSet) -> int:
    """Return how many pods are to hold a model, those that are not there yet included."""
    key = model.reference.key
    return sum(pool.ollama.replicas for pool in modelset.pools if key in wanted_in(pool, modelset))
