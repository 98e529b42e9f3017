"""What an engine is: a server on each pod that fetches models and runs them.

All that works on pods knows this and no engine by name. A server is named by its pod's address in each call.
"""

import dataclasses
from collections.abc import AsyncIterator
from typing import Protocol

from modelset_operator.api import sources
from modelset_operator.engines import state


class RefusedError(Exception):
    """The engine answered with an error; the message is its own.

    `unknown_model` tells that the registry has no such model, so that asking again is of little use.
    """

    def __init__(self, message: str, *, unknown_model: bool = False) -> None:
        super().__init__(message)
        self.unknown_model = unknown_model


class UnreachableError(Exception):
    """No complete answer came: the pod, or its set's cache, is starting, stopping, or cut off."""


@dataclasses.dataclass(frozen=True)
class Progress:
    """One step of fetching a model: sizes in bytes, for one layer; an empty digest for steps without one."""

    status: str
    digest: str = ""
    total: int = 0
    completed: int = 0


class Engine(Protocol):
    """The engine of any number of pods. All calls raise RefusedError or UnreachableError."""

    async def inspect(self, address: str) -> state.Store:
        """Return what a pod holds and what it has in memory. What models can do is left open."""

    async def describe(self, address: str, reference: str) -> state.Facts:
        """Return what a model that the pod holds can do, and what it needs."""

    def ensure(
        self, address: str, reference: str, source: sources.Source, *, again: bool = False
    ) -> AsyncIterator[Progress]:
        """Have a pod hold the model that the source has now; when the iteration ends by itself, it does.

        `again`: in place of a version that it holds, whose files stay under a name that nobody wants.
        """

    def create(self, address: str, reference: str, recipe: state.Recipe) -> AsyncIterator[Progress]:
        """Have a pod make a variant of a base that it holds, in place of what has its name; see `ensure`.

        Answers that are under way go on as they began.
        """

    async def load(
        self, address: str, reference: str, *, keep_alive: str, context_length: int | None = None
    ) -> None:
        """Have a pod take a model that it holds into memory, as the spec's keepAlive and contextLength say.

        It stays as it is where it is there already.
        """

    async def remove(self, address: str, reference: str, *, loaded: bool) -> None:
        """Have a pod hold a model no longer; one in memory goes when its answers are complete."""
