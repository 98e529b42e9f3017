"""Metrics through Ray, which exports them for Prometheus with the prefix ``ray_``.

Recording one number costs Ray some 10 us, so counters are added up here until ``flush``.
"""

import collections

from ray.util import metrics

_SECONDS = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84]
_TOKEN_SECONDS = [
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.075,
    0.1,
    0.15,
    0.2,
    0.3,
    0.4,
    0.5,
    0.75,
    1.0,
    2.5,
]
_MODEL = "gen_ai_request_model"


class _Tally:
    """A counter whose counts are kept here until ``flush``; values of tags come in the order of ``tags``."""

    def __init__(self, name: str, description: str, tags: tuple[str, ...]) -> None:
        self._counter = metrics.Counter(name, description, tags)
        self._tags = tags
        self._counts: collections.Counter[tuple[str, ...]] = collections.Counter()

    def add(self, *values: str, count: int = 1) -> None:
        self._counts[values] += count

    def flush(self) -> None:
        counts, self._counts = self._counts, collections.Counter()
        for values, count in counts.items():
            self._counter.inc(count, dict(zip(self._tags, values, strict=True)))


class RayMetrics:
    """Implements ``metrics.Metrics``; to be made in a Ray worker."""

    def __init__(self) -> None:
        self._requests = _Tally(
            "modelset_requests",
            "Requests that have ended, by HTTP status; 499 is a client that left.",
            ("route", _MODEL, "client", "status"),
        )
        self._duration = metrics.Histogram(
            "gen_ai_server_request_duration_seconds",
            "Time from a request's arrival to the end of its reply.",
            _SECONDS,
            ("route", _MODEL),
        )
        self._tokens = _Tally(
            "gen_ai_token_usage",
            "Tokens of prompts (input) and answers (output).",
            (_MODEL, "client", "gen_ai_token_type"),
        )
        self._first = metrics.Histogram(
            "gen_ai_server_time_to_first_token_seconds",
            "Time from a request's arrival to the first token of its stream.",
            _SECONDS,
            (_MODEL,),
        )
        self._each = metrics.Histogram(
            "gen_ai_server_time_per_output_token_seconds",
            "Time a token after the first, averaged over a stream.",
            _TOKEN_SECONDS,
            (_MODEL,),
        )
        self._load = metrics.Histogram(
            "modelset_model_load_seconds",
            "Time that requests waited for a model to load.",
            _SECONDS,
            (_MODEL,),
        )
        self._running = metrics.Gauge("modelset_requests_in_flight", "Requests at Ollama now.", (_MODEL,))
        self._queued = metrics.Gauge("modelset_requests_queued", "Requests that wait for a turn.", (_MODEL,))
        self._failures = _Tally(
            "modelset_upstream_failures", "Attempts that failed at an Ollama server.", (_MODEL, "reason")
        )
        self._retries = _Tally(
            "modelset_upstream_retries", "Attempts at another Ollama server after a failure.", (_MODEL,)
        )
        self._continued = _Tally(
            "modelset_streams_continued", "Answers that went on at another Ollama server.", (_MODEL,)
        )

    def flush(self) -> None:
        """Hand over what was counted since the last time."""
        for tally in (self._requests, self._tokens, self._failures, self._retries, self._continued):
            tally.flush()

    def request(self, route: str, model: str, client: str, status: int, seconds: float) -> None:
        """See ``metrics.Metrics``."""
        self._requests.add(route, model, client, str(status))
        self._duration.observe(seconds, {"route": route, _MODEL: model})

    def tokens(self, model: str, client: str, prompt: int, completion: int) -> None:
        """See ``metrics.Metrics``."""
        for kind, count in (("input", prompt), ("output", completion)):
            if count > 0:
                self._tokens.add(model, client, kind, count=count)

    def first_token(self, model: str, seconds: float) -> None:
        """See ``metrics.Metrics``."""
        self._first.observe(seconds, {_MODEL: model})

    def per_token(self, model: str, seconds: float) -> None:
        """See ``metrics.Metrics``."""
        self._each.observe(seconds, {_MODEL: model})

    def load(self, model: str, seconds: float) -> None:
        """See ``metrics.Metrics``."""
        self._load.observe(seconds, {_MODEL: model})

    def in_flight(self, model: str, running: int, queued: int) -> None:
        """See ``metrics.Metrics``."""
        self._running.set(running, {_MODEL: model})
        self._queued.set(queued, {_MODEL: model})

    def upstream_failure(self, model: str, reason: str) -> None:
        """See ``metrics.Metrics``."""
        self._failures.add(model, reason)

    def upstream_retry(self, model: str) -> None:
        """See ``metrics.Metrics``."""
        self._retries.add(model)

    def stream_continued(self, model: str) -> None:
        """See ``metrics.Metrics``."""
        self._continued.add(model)
