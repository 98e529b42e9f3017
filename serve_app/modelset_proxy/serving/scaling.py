"""How many proxies there are to be, where Serve decides it (``autoscaling_config`` in its configuration).

Serve counts requests at places that ours go around (see ``ingress``), so each proxy tells how many run and
wait at it, as a metric of its own, and ``policy`` decides by those. Serve keeps its bounds and its delays.
"""

import math
from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Any, NamedTuple

# What a proxy tells, and how it is called there.
ONGOING = "modelset_ongoing"
# A proxy tells it every two seconds. One that has been silent for so long is stuck, or has just begun.
STALE_SECONDS = 15.0


class Reading(NamedTuple):
    """What a proxy has told: requests, and when, in Unix seconds."""

    timestamp: float
    value: float


def desired(
    told: Mapping[Hashable, Sequence[Reading]],
    proxies: Collection[Hashable],
    *,
    target: float,
    now: float,
    wanted: int,
) -> int:
    """Return how many proxies there are to be, for ``target`` requests each; so far it is ``wanted``.

    Of a proxy that has told nothing lately nobody knows what it does: that is no reason for more of them, and
    there are not to be fewer meanwhile.
    """
    known = [series[-1] for proxy, series in told.items() if proxy in proxies and series]
    fresh = [reading.value for reading in known if now - reading.timestamp <= STALE_SECONDS]
    found = math.ceil(sum(fresh) / target)
    return found if len(fresh) == len(proxies) else max(found, wanted)


def policy(context: Any) -> tuple[int, dict[str, Any]]:
    """Decide for Serve, which gives an ``AutoscalingContext`` and keeps the state that is returned."""
    raw = (context.raw_metrics or {}).get(ONGOING, {})
    told = {
        proxy: [Reading(point.timestamp, point.value) for point in series[-1:]]
        for proxy, series in raw.items()
    }
    count = desired(
        told,
        set(context.running_replicas),
        target=context.config.get_target_ongoing_requests(),
        now=context.current_time,
        wanted=context.target_num_replicas,
    )
    return count, {}
