"""The board of all proxies of a Ray cluster, as an actor of its own: see ``dispatch.board``."""

import asyncio
from typing import Any

import ray
import ray.exceptions

from modelset_proxy.dispatch import board, sharing

_NAME = "modelset-board"
_NAMESPACE = "modelset"
# Any other node may have to go, and Ray's autoscaler lets none go that an actor is on.
_AT_THE_HEAD = {"node:__internal_head__": 0.001}


class RayBoard:
    """Implements ``sharing.Reach``; whoever comes first starts the actor."""

    def __init__(self) -> None:
        self._actor: Any = None

    async def exchange(
        self, member: str, told: board.Told, known: board.Heard | None, hold_seconds: float
    ) -> board.Heard:
        """See ``board.Board``; raises BoardLost."""
        actor = await self._reach()
        try:
            heard: board.Heard = await actor.exchange.remote(member, told, known, hold_seconds)
        except ray.exceptions.RayError as problem:
            raise self._lost(problem) from None
        return heard

    async def leave(self, member: str) -> None:
        """See ``board.Board``; raises BoardLost."""
        actor = await self._reach()
        try:
            await actor.leave.remote(member)
        except ray.exceptions.RayError as problem:
            raise self._lost(problem) from None

    async def _reach(self) -> Any:
        if self._actor is None:
            try:
                # Asks Ray's head, and blocks while that is away.
                self._actor = await asyncio.to_thread(_actor)
            except (ray.exceptions.RayError, ValueError) as problem:
                raise self._lost(problem) from None
        return self._actor

    def _lost(self, problem: Exception) -> sharing.BoardLost:
        self._actor = None
        return sharing.BoardLost(str(problem).partition("\n")[0])


def _actor() -> Any:
    # Detached: it outlives the replica that started it; where its node is lost, Ray starts it again.
    remote: Any = ray.remote(num_cpus=0, max_restarts=-1)(board.Board)
    options = remote.options(
        name=_NAME, namespace=_NAMESPACE, lifetime="detached", get_if_exists=True, resources=_AT_THE_HEAD
    )
    return options.remote()
