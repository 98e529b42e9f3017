"""What the operator tells of itself over HTTP: metrics, and whether it is ready."""

import collections
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import prometheus_client
from aiohttp import web
from prometheus_client import core, registry

from modelset_operator import acting, metrics
from modelset_operator.cluster import leading
from modelset_operator.plan import status

# A watch that fails for so long makes the operator unready: something is to be done about it.
FAILING_SECONDS = 60.0


def unready(actor: acting.Acting) -> str:
    """Return what keeps the operator from being ready, "" for nothing. A replica that stands by is ready."""
    problems = [
        f"{selection} cannot be watched for {seconds:.0f} s: {problem}"
        for selection, seconds, problem in actor.cached.failing()
        if seconds >= FAILING_SECONDS
    ]
    missing = [f"{one} are not listed yet" for one in actor.cached.unsynced()]
    return "\n".join(problems or missing)


class Now(registry.Collector):
    """What is so at the moment of asking."""

    def __init__(self, actor: acting.Acting, leads: leading.Leading) -> None:
        self._actor = actor
        self._leads = leads

    def collect(self) -> Iterator[core.Metric]:
        """Yield all figures."""
        yield _gauge("leading", "Whether this replica leads (1) or stands by (0)", float(self._leads.leads))
        queue = self._actor.queue
        depth, age = queue.waiting() if queue is not None else (0, 0.0)
        yield _gauge("queue_depth", "Sets that are due to be looked at", depth)
        yield _gauge("queue_age_seconds", "For how long the first of them has been due", age)
        yield self._watches()
        yield self._sets()

    def _watches(self) -> core.Metric:
        name = "modelset_operator_watch_failing_seconds"
        found = core.GaugeMetricFamily(
            name, "For how long a watch has not worked, 0 when it does", labels=["resource", "namespace"]
        )
        longest: dict[tuple[str, str], float] = collections.defaultdict(float)
        for selection, seconds in self._actor.cached.selections():
            key = (selection.kind.plural, selection.namespace)
            longest[key] = max(longest[key], seconds)
        for labels, seconds in longest.items():
            found.add_metric(labels, seconds)
        return found

    def _sets(self) -> core.Metric:
        found = core.GaugeMetricFamily(
            "modelset_operator_sets", "Sets, by condition Ready and its reason", labels=["ready", "reason"]
        )
        counted = collections.Counter(
            _readiness(modelset.get("status") or {}) for modelset in self._actor.cached.model_sets.values()
        )
        for labels, count in counted.items():
            found.add_metric(labels, count)
        return found


def _readiness(told: dict[str, object]) -> tuple[str, str]:
    conditions = told.get("conditions")
    for condition in conditions if isinstance(conditions, list) else ():
        if condition.get("type") == status.READY:
            return str(condition["status"]), str(condition["reason"])
    return "Unknown", "New"


def _gauge(name: str, documentation: str, value: float) -> core.Metric:
    return core.GaugeMetricFamily(f"modelset_operator_{name}", documentation, value=value)


@asynccontextmanager
async def serving(port: int, actor: acting.Acting, leads: leading.Leading) -> AsyncIterator[None]:
    """Answer at /metrics and /readyz."""
    now = Now(actor, leads)

    async def tell_metrics(_: web.Request) -> web.Response:
        text = prometheus_client.generate_latest(metrics.REGISTRY)
        return web.Response(body=text, headers={"Content-Type": prometheus_client.CONTENT_TYPE_LATEST})

    async def tell_readiness(_: web.Request) -> web.Response:
        problem = unready(actor)
        return web.Response(status=503 if problem else 200, text=problem or "ready")

    app = web.Application()
    app.add_routes([web.get("/metrics", tell_metrics), web.get("/readyz", tell_readiness)])
    runner = web.AppRunner(app, access_log=None)
    metrics.REGISTRY.register(now)
    try:
        await runner.setup()
        await web.TCPSite(runner, None, port).start()
        yield
    finally:
        metrics.REGISTRY.unregister(now)
        await runner.cleanup()
