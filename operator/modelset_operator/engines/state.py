"""What pods hold and what they are fetching, as values that engines produce and plans are made from."""

import dataclasses
import enum
from collections.abc import Mapping

from modelset_operator.api import sources

# (namespace, name) of a set
Set = tuple[str, str]


@dataclasses.dataclass(frozen=True)
class Held:
    """One model on a pod's disk: its size in bytes, and when it was fetched, in Unix seconds.

    `capabilities` are None until they have been asked for.
    """

    digest: str
    size: int
    capabilities: tuple[str, ...] | None = None
    problem: str = ""
    changed: float = 0.0


@dataclasses.dataclass(frozen=True)
class Store:
    """What a pod holds, by reference key, and the keys of what it has in memory.

    `names` are the same models as the pod spells them.
    """

    held: Mapping[str, Held]
    names: Mapping[str, str]
    loaded: frozenset[str] = frozenset()


class PullPhase(enum.Enum):
    """What became of a wanted download so far."""

    WAITING = "Waiting"
    RUNNING = "Running"
    FAILED = "Failed"
    INTERRUPTED = "Interrupted"


@dataclasses.dataclass(frozen=True)
class Pull:
    """A download onto one pod.

    `fraction` is 0..1 over all layers and never falls; `moving` tells that this attempt has got as far as
    layers; `failures` counts the attempts that the engine reported as failed, since the last success.
    """

    phase: PullPhase
    fraction: float = 0.0
    moving: bool = False
    failures: int = 0
    message: str = ""
    unknown_model: bool = False


@dataclasses.dataclass(frozen=True)
class WantedPull:
    """A model that a pod should hold and does not; the pod by name, uid and address."""

    pod: str
    uid: str
    ip: str
    reference: str
    key: str
    source: sources.Source


@dataclasses.dataclass(frozen=True)
class Removal:
    """A model that a pod holds and nobody wants, as it is named there; the pod by name, uid and address."""

    pod: str
    uid: str
    ip: str
    reference: str
    loaded: bool


@dataclasses.dataclass(frozen=True)
class Place:
    """A pod to be looked at: its uid and address; `busy` while what it holds is about to change.

    `described` are the keys of the models of which is to be known what they can do.
    """

    uid: str
    ip: str
    busy: bool
    described: frozenset[str]
