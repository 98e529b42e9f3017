"""What is counted and timed. The names are OpenTelemetry's for generative AI where these fit.

This module knows no metrics library; ``ray_metrics`` hands the numbers to Ray's.
"""

from typing import Protocol


class Metrics(Protocol):
    """Takes numbers; times in seconds. ``model`` is a first served name, ``client`` "" without keys."""

    def request(self, route: str, model: str, client: str, status: int, seconds: float) -> None:
        """Count a request that has ended."""

    def tokens(self, model: str, client: str, prompt: int, completion: int) -> None:
        """Count tokens in and out."""

    def first_token(self, model: str, seconds: float) -> None:
        """Time the first token of a stream, from the arrival of the request."""

    def per_token(self, model: str, seconds: float) -> None:
        """Time a token after the first, on average over a stream."""

    def load(self, model: str, seconds: float) -> None:
        """Time the loading of a model that a request had to wait for."""

    def in_flight(self, model: str, running: int, queued: int) -> None:
        """Tell how many requests of a model run and wait now; called every few seconds."""

    def upstream_failure(self, model: str, reason: str) -> None:
        """Count an attempt that failed at a server."""

    def upstream_retry(self, model: str) -> None:
        """Count an attempt after the first."""

    def stream_continued(self, model: str) -> None:
        """Count an answer that goes on at another server than it began at."""

    def flush(self) -> None:
        """Hand over what was held back; called every few seconds."""


class Nothing:
    """Measures nothing."""

    def request(self, route: str, model: str, client: str, status: int, seconds: float) -> None:
        """Do nothing."""

    def tokens(self, model: str, client: str, prompt: int, completion: int) -> None:
        """Do nothing."""

    def first_token(self, model: str, seconds: float) -> None:
        """Do nothing."""

    def per_token(self, model: str, seconds: float) -> None:
        """Do nothing."""

    def load(self, model: str, seconds: float) -> None:
        """Do nothing."""

    def in_flight(self, model: str, running: int, queued: int) -> None:
        """Do nothing."""

    def upstream_failure(self, model: str, reason: str) -> None:
        """Do nothing."""

    def upstream_retry(self, model: str) -> None:
        """Do nothing."""

    def stream_continued(self, model: str) -> None:
        """Do nothing."""

    def flush(self) -> None:
        """Do nothing."""
