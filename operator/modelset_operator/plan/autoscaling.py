"""How many Ollama pods demand calls for.

Up at once, to as many pods as have ``targetInFlight`` requests each: who waits is waiting now. Down only to
what was the highest need of a while, as the HorizontalPodAutoscaler does it: a pod that comes back costs its
clients a start and a load, which is more than the pod costs meanwhile. What is not known, because the proxy
cannot be asked or the operator has just started, counts as needing what there is.
"""

import dataclasses
import math

from modelset_operator.api import spec
from modelset_operator.demand import feed

# How long a pod beyond the first is kept that nobody needs; no longer than ``idleSeconds``. It is several
# times what a start and a load take. In the bursts of `make bench-dispatch` five minutes, as the
# HorizontalPodAutoscaler has, cost a seventh more for a p95 that is 5 % less; with one minute pods come and
# go nearly twice as often.
DOWN_SECONDS = 180.0


@dataclasses.dataclass(frozen=True)
class State:
    """What was decided, and what it needs to decide again. Times are monotonic seconds.

    `need` is what was needed from the last decision on. `needed` are earlier needs, each with when it was
    last so, only those that are higher than all later ones. `idle_since` is None while it is not known.
    """

    replicas: int
    need: int
    needed: tuple[tuple[float, int], ...] = ()
    idle_since: float | None = None

    @classmethod
    def begin(cls, replicas: int) -> "State":
        """Return the state of a set with so many pods of whose past nothing is known."""
        return cls(replicas, need=replicas)


def decide(
    policy: spec.Autoscaling, state: State, asked: feed.Asked | None, now: float, floor: int = 0
) -> State:
    """Return how many pods there are to be from now on.

    `asked` is None where it is not known; `floor` are pods that are needed for something else.
    """
    need = max(floor, state.replicas if asked is None else _need(policy, asked))
    idle_since = None if asked is None else now - asked.idle_seconds
    needed = _with(state.needed, now, state.need, policy.idle_seconds)
    wanted = max([need, *(one for at, one in needed if now < at + _down_seconds(policy))])
    if wanted == 0 and state.replicas and not _may_sleep(policy, needed, idle_since, now):
        wanted = 1
    replicas = min(max(wanted, policy.min_replicas), policy.max_replicas)
    return State(replicas, need, needed, idle_since)


def due(policy: spec.Autoscaling, state: State, now: float) -> float | None:
    """Return in how many seconds another decision may be due although nothing happens; None for never."""
    ends = [
        at + seconds for at, _ in state.needed for seconds in (_down_seconds(policy), policy.idle_seconds)
    ]
    if state.idle_since is not None:
        ends.append(state.idle_since + policy.idle_seconds)
    # What is needed now is needed until now; if it ended, that would be told.
    left = [end - now for end in ends if end > now]
    return min(left) if left and state.replicas > max(state.need, policy.min_replicas) else None


def _need(policy: spec.Autoscaling, asked: feed.Asked) -> int:
    needed = math.ceil((asked.in_flight + asked.queued) / policy.target_in_flight)
    return min(needed, policy.max_replicas)


def _down_seconds(policy: spec.Autoscaling) -> float:
    return min(DOWN_SECONDS, policy.idle_seconds)


def _with(
    needed: tuple[tuple[float, int], ...], now: float, need: int, seconds: float
) -> tuple[tuple[float, int], ...]:
    higher = tuple((at, one) for at, one in needed if one > need and now < at + seconds)
    return (*higher, (now, need)) if need else higher


def _may_sleep(
    policy: spec.Autoscaling, needed: tuple[tuple[float, int], ...], idle_since: float | None, now: float
) -> bool:
    """Whether nobody has needed anything, and nobody has asked anything, for long enough."""
    return not needed and idle_since is not None and now >= idle_since + policy.idle_seconds
