"""Who decides how many pods there are: the operator's own policy, nobody, or averages as KubeAI does."""

import collections
import math
from collections.abc import Mapping
from typing import Protocol

from modelset_operator.api import spec
from modelset_operator.demand import feed
from modelset_operator.plan import autoscaling
from modelset_proxy.dispatch import facts


class Scaler(Protocol):
    """A way to decide; asked every second."""

    def decide(self, now: float, asked: Mapping[str, facts.Demand], /) -> Mapping[str, int]:
        """Return how many pods each pool is to have, from what is asked of each model."""


class Fixed:
    """Always as many."""

    def __init__(self, pool: str, pods: int) -> None:
        self._wanted = {pool: pods}

    def decide(self, _now: float, _asked: Mapping[str, facts.Demand]) -> Mapping[str, int]:
        """Never change."""
        return self._wanted


class ByPolicy:
    """One pool for all models, by the operator's own policy."""

    def __init__(self, pool: str, policy: spec.Autoscaling) -> None:
        self._pool = pool
        self._policy = policy
        self._state = autoscaling.State.begin(policy.min_replicas)

    def decide(self, now: float, asked: Mapping[str, facts.Demand]) -> Mapping[str, int]:
        """Ask it."""
        together = feed.Asked(
            in_flight=sum(one.in_flight for one in asked.values()),
            queued=sum(one.queued for one in asked.values()),
            idle_seconds=min((one.idle_seconds for one in asked.values()), default=now),
        )
        self._state = autoscaling.decide(self._policy, self._state, together, now)
        return {self._pool: self._state.replicas}


class Averages:
    """A pool a model, as KubeAI does it: the first request makes one pod; all else goes by the average of
    active requests over a window, and down only when that was said several times in a row.

    The defaults are those of KubeAI as it is installed.
    """

    def __init__(
        self,
        models: list[str],
        *,
        target: int,
        most: int,
        interval: float = 10.0,
        window: float = 600.0,
        down_delay: float = 30.0,
    ) -> None:
        self._target = target
        self._most = most
        self._interval = interval
        self._delays = math.ceil(down_delay / interval)
        count = math.ceil(window / interval)
        self._active = {model: collections.deque([0] * count, maxlen=count) for model in models}
        self._wanted = dict.fromkeys(models, 0)
        self._downs = dict.fromkeys(models, 0)
        self._next = 0.0

    def decide(self, now: float, asked: Mapping[str, facts.Demand]) -> Mapping[str, int]:
        """Wake what is asked for; look at averages when it is time."""
        active = {model: one.in_flight + one.queued for model, one in asked.items()}
        for model, count in active.items():
            if count and not self._wanted[model]:
                self._wanted[model] = 1
        if now >= self._next:
            self._next = now + self._interval
            for model in self._wanted:
                self._average(model, active.get(model, 0))
        return dict(self._wanted)

    def _average(self, model: str, active: int) -> None:
        window = self._active[model]
        window.append(active)
        wanted = min(math.ceil(sum(window) / len(window) / self._target), self._most)
        if wanted >= self._wanted[model]:
            self._downs[model] = 0
        elif self._downs[model] < self._delays:
            self._downs[model] += 1
            return
        self._wanted[model] = wanted
