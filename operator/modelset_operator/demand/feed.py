"""What a proxy's demand feed says, and who can be asked for it."""

import dataclasses
from typing import Protocol


class UnreachableError(Exception):
    """The proxy did not answer, or not as proxies do; the message says why."""


@dataclasses.dataclass(frozen=True)
class Asked:
    """What is asked of all models of a set now: requests that run and that wait.

    For `idle_seconds` nobody has asked anything.
    """

    in_flight: int
    queued: int
    idle_seconds: float


@dataclasses.dataclass(frozen=True)
class Source:
    """Where the feed of a set is, what opens it, and the Ray cluster that answers there now."""

    url: str
    token: str
    cluster: str


@dataclasses.dataclass(frozen=True)
class Answer:
    """One answer. `idle_seconds` is None where the proxy serves no model yet."""

    version: str
    in_flight: int
    queued: int
    idle_seconds: float | None


class Port(Protocol):
    """A way to ask."""

    async def ask(self, source: Source, version: str, wait_seconds: float) -> Answer:
        """Ask what is asked; where that is `version`, the answer waits for a change, for so long at most.

        Raises UnreachableError.
        """
