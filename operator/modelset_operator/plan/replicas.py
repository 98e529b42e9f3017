"""How many pods there are to be. Whatever makes, counts or waits for pods asks here. Pure."""

from modelset_operator.api import spec
from modelset_operator.plan import observed as seen


def of(pool: spec.Pool, observed: seen.Observed) -> int:
    """Return how many pods a pool is to have: by its spec, or by demand."""
    if pool.ollama.autoscaling is None:
        return pool.ollama.replicas
    return present(pool, observed) if observed.demanded is None else observed.demanded


def of_all(observed: seen.Observed) -> int:
    """Return how many Ollama pods a set is to have."""
    return sum(of(pool, observed) for pool in observed.modelset.pools)


def present(pool: spec.Pool, observed: seen.Observed) -> int:
    """Return how many pods a pool was made to have; before it is made, as many as fetch the models.

    So it goes on after a restart of the operator, which forgets what was asked before.
    """
    stateful_set = observed.of(pool).stateful_set
    if stateful_set is not None:
        return int(stateful_set["spec"].get("replicas", 1))
    autoscaling = pool.ollama.autoscaling
    return pool.ollama.replicas if autoscaling is None else max(autoscaling.min_replicas, 1)


def fewest(observed: seen.Observed) -> int:
    """Return how many pods have to be ready for a set to serve; those that demand adds come as they come."""
    autoscaling = observed.modelset.ollama.autoscaling
    wanted = of_all(observed)
    return wanted if autoscaling is None else min(wanted, max(autoscaling.min_replicas, 1))


def asleep(observed: seen.Observed) -> bool:
    """Whether a set has no pods because nobody asks for any, so that a request starts one."""
    return observed.modelset.ollama.autoscaling is not None and not of_all(observed)
