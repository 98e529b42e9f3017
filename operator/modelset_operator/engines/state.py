"""What pods hold and what they are fetching, as values that engines produce and plans are made from."""

import dataclasses
import enum
from collections.abc import Mapping
from typing import Any

from modelset_operator.api import sources

# (namespace, name) of a set
Set = tuple[str, str]


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a model says of itself: what it can do, sorted, and what its cache takes in memory.

    `cache_values` are the numbers that it keeps for each token of a conversation, None where it does not say;
    `context_length` is what it was made for and `pinned_context_length` what its Modelfile asks for, 0 where
    they do not say. Models of the same `weights` are variants: other words around the same files; "" is
    unknown. `adapters` are those of the files that are adapters. `mark` is what a variant was given when it
    was made, see `Recipe`; "" for all others.
    """

    capabilities: tuple[str, ...]
    cache_values: int | None = None
    context_length: int = 0
    pinned_context_length: int = 0
    weights: str = ""
    adapters: tuple[str, ...] = ()
    mark: str = ""


@dataclasses.dataclass(frozen=True)
class Held:
    """One model on a pod's disk: its size in bytes, and when it was fetched, in Unix seconds.

    `facts` are None until they have been asked for; `problem` is why there are none, and `broken` tells that
    the engine itself says so.
    """

    digest: str
    size: int
    facts: Facts | None = None
    problem: str = ""
    changed: float = 0.0
    broken: bool = False

    @property
    def capabilities(self) -> tuple[str, ...] | None:
        """What the model can do; None while it was not asked."""
        return None if self.facts is None else self.facts.capabilities


@dataclasses.dataclass(frozen=True)
class Store:
    """What a pod holds, by reference key, and how many bytes what it has in memory takes there.

    `names` are the same models as the pod spells them.
    """

    held: Mapping[str, Held]
    names: Mapping[str, str]
    loaded: Mapping[str, int] = dataclasses.field(default_factory=dict)


class PullPhase(enum.Enum):
    """What became of a wanted download so far."""

    WAITING = "Waiting"
    RUNNING = "Running"
    FAILED = "Failed"
    INTERRUPTED = "Interrupted"


@dataclasses.dataclass(frozen=True)
class Pull:
    """A download onto one pod.

    `fraction` is 0..1 over all layers and never falls, `total` the bytes of those that are known so far;
    `moving` tells that this attempt has got as far as layers, and further than a full disk has let the one
    before; `failures` counts the attempts that the engine reported as failed, since the last success.
    """

    phase: PullPhase
    fraction: float = 0.0
    moving: bool = False
    failures: int = 0
    message: str = ""
    unknown_model: bool = False
    total: int = 0


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a variant is made: of which base, as the pod spells it, and what is put around its weights.

    What is empty is the base's own. `adapter` is a file that the pod holds, as in `Facts`; "" for none.
    `mark` is a line that the model keeps, and tells when it is described.
    """

    base: str
    system: str
    template: str
    parameters: Mapping[str, Any]
    mark: str
    adapter: str = ""


@dataclasses.dataclass(frozen=True)
class WantedPull:
    """A model that a pod should hold and does not; the pod by name, uid and address.

    With a `recipe` it is made of what the pod holds, and its source is asked for nothing. `again`: the pod
    holds a version of it, which goes on answering until it has the one that the source has now.
    """

    pod: str
    uid: str
    ip: str
    reference: str
    key: str
    source: sources.Source
    recipe: Recipe | None = None
    again: bool = False


@dataclasses.dataclass(frozen=True)
class Removal:
    """A model that a pod holds and nobody wants, as it is named there; the pod by name, uid and address."""

    pod: str
    uid: str
    ip: str
    reference: str
    loaded: bool


@dataclasses.dataclass(frozen=True)
class WantedLoad:
    """A model that a pod should have in memory once.

    `started` tells one run of its server from the next, and `version` other weights under the same name.
    """

    pod: str
    uid: str
    started: str
    ip: str
    reference: str
    key: str
    keep_alive: str
    context_length: int | None
    version: str = ""


@dataclasses.dataclass(frozen=True)
class Load:
    """What became of a wanted load: it is in memory, or has been; `message` is why it is not."""

    done: bool = False
    message: str = ""


@dataclasses.dataclass(frozen=True)
class Place:
    """A pod to be looked at: its uid and address; `busy` while what it holds is about to change.

    `described` are the keys of the models of which is to be known what they can do.
    """

    uid: str
    ip: str
    busy: bool
    described: frozenset[str]
