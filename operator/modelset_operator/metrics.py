"""What the operator counts, for Prometheus. Every label has a bounded number of values."""

import contextlib
import time
from collections.abc import Iterator

import prometheus_client

REGISTRY = prometheus_client.CollectorRegistry()

_RECONCILES = prometheus_client.Counter(
    "modelset_operator_reconciles",
    "Looks at sets that have ended, by result",
    ["result"],
    registry=REGISTRY,
)
_RECONCILE_SECONDS = prometheus_client.Histogram(
    "modelset_operator_reconcile_seconds",
    "How long looks at sets took",
    buckets=(0.005, 0.02, 0.05, 0.2, 0.5, 1, 2, 5, 20, 60),
    registry=REGISTRY,
)
_REQUESTS = prometheus_client.Counter(
    "modelset_operator_api_requests",
    "Requests to the API server; code is 'none' where no answer came",
    ["verb", "resource", "code"],
    registry=REGISTRY,
)
_WATCHES_ENDED = prometheus_client.Counter(
    "modelset_operator_watches_ended",
    "Lists and watches that did not end as they should, by reason",
    ["resource", "reason"],
    registry=REGISTRY,
)
_PULLS = prometheus_client.Counter(
    "modelset_operator_pulls",
    "Downloads onto pods that have ended, by result",
    ["result"],
    registry=REGISTRY,
)
_PULLS_STARTED = prometheus_client.Counter(
    "modelset_operator_pulls_started", "Downloads onto pods that were begun", registry=REGISTRY
)
_PULLS_RUNNING = prometheus_client.Gauge(
    "modelset_operator_pulls_running", "Downloads onto pods under way", registry=REGISTRY
)
_PULLED_BYTES = prometheus_client.Counter(
    "modelset_operator_pulled_bytes", "Bytes that pods have downloaded", registry=REGISTRY
)


@contextlib.contextmanager
def reconcile(results: dict[type[Exception], str]) -> Iterator[None]:
    """Count a look; `results` names what the errors mean, all others are defects."""
    began = time.monotonic()
    result = "Defect"
    try:
        yield
        result = "Done"
    except tuple(results) as error:
        result = results[type(error)]
        raise
    finally:
        _RECONCILES.labels(result).inc()
        _RECONCILE_SECONDS.observe(time.monotonic() - began)


def requested(verb: str, resource: str, code: int | None) -> None:
    """Count a request to the API server, None being no answer."""
    _REQUESTS.labels(verb, resource, code or "none").inc()


def watch_ended(resource: str, reason: str) -> None:
    """Count a list or a watch that failed."""
    _WATCHES_ENDED.labels(resource, reason).inc()


@contextlib.contextmanager
def pull(results: dict[type[Exception], str]) -> Iterator[None]:
    """Count a download; `results` names what the errors mean, whatever else ends it stops it."""
    _PULLS_STARTED.inc()
    result = "Stopped"
    try:
        with _PULLS_RUNNING.track_inprogress():
            yield
        result = "Done"
    except tuple(results) as error:
        result = results[type(error)]
        raise
    finally:
        _PULLS.labels(result).inc()


def pulled(count: int) -> None:
    """Count bytes that a pod has downloaded."""
    _PULLED_BYTES.inc(count)
