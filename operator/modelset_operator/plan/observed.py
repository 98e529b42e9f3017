"""What one look at a set and everything around it has found."""

import dataclasses
import enum
from collections.abc import Mapping
from typing import Any

from modelset_operator.api import spec

Object = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Held:
    """One model on a pod's disk: size in bytes; capabilities are None until /api/show has told them."""

    digest: str
    size: int
    capabilities: tuple[str, ...] | None = None
    problem: str = ""


@dataclasses.dataclass(frozen=True)
class Store:
    """What a pod's Ollama holds, by reference key, and the keys of what it has in memory.

    `names` are the same models as /api/tags spells them.
    """

    held: Mapping[str, Held]
    names: Mapping[str, str]
    loaded: frozenset[str] = frozenset()


@dataclasses.dataclass(frozen=True)
class Pod:
    """An Ollama pod. `gate`: its readiness gate is open; `store` is None while Ollama does not answer."""

    name: str
    uid: str
    ip: str
    ready: bool = False
    gate: bool = False
    waiting: str = ""
    store: Store | None = None


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
    layers; `failures` counts the attempts that Ollama reported as failed, since the last success.
    """

    phase: PullPhase
    fraction: float = 0.0
    moving: bool = False
    failures: int = 0
    message: str = ""
    unknown_model: bool = False


@dataclasses.dataclass(frozen=True)
class Tolerated:
    """Paths which the API server did not keep as applied, for the manifest with this hash."""

    digest: str
    paths: frozenset[str]


@dataclasses.dataclass(frozen=True)
class Observed:
    """One look. `pulls` by (pod uid, reference key); `tolerated` by (kind, name).

    `settled_seconds` is for how long the proxy has been running the present RayService, 0 when it is not;
    `now` is RFC 3339 in UTC.
    """

    modelset: spec.ModelSet
    resource: Object
    now: str
    stateful_set: Object | None = None
    headless: Object | None = None
    ray_service: Object | None = None
    serve_service: Object | None = None
    kuberay_installed: bool = True
    pods: tuple[Pod, ...] = ()
    pulls: Mapping[tuple[str, str], Pull] = dataclasses.field(default_factory=dict)
    settled_seconds: float = 0.0
    tolerated: Mapping[tuple[str, str], Tolerated] = dataclasses.field(default_factory=dict)

    @property
    def status(self) -> Object:
        """The status that the API server holds."""
        status: Object = self.resource.get("status") or {}
        return status

    def previous_model(self, name: str) -> Object:
        """Return the entry of one model in the status that the API server holds, or an empty one."""
        for entry in self.status.get("models") or ():
            if entry.get("name") == name:
                return dict(entry)
        return {}

    def pull(self, pod: Pod, key: str) -> Pull | None:
        """Return the download of a model onto a pod, if one was begun."""
        return self.pulls.get((pod.uid, key))
