"""The spec of an OllamaModelSet, with the defaults that the CRD's schema carries too."""

import dataclasses
import datetime
import functools
from collections.abc import Mapping
from typing import Any

from modelset_operator.api import names, quantities, references, sources

AUTO, CHAT, EMBEDDING = "Auto", "Chat", "Embedding"

# The CRD's schema has the same defaults; a chart test compares them.
DEFAULT_KEEP_ALIVE = "-1"
DEFAULT_PARALLEL = 4
DEFAULT_MAX_LOADED_MODELS = 3
DEFAULT_STORAGE_SIZE = "20Gi"
DEFAULT_DRAIN_SECONDS = 30
DEFAULT_OLLAMA_RESOURCES: Mapping[str, Any] = {"requests": {"cpu": "100m", "memory": "512Mi"}}
DEFAULT_PROXY_RESOURCES: Mapping[str, Any] = {"requests": {"cpu": "100m", "memory": "1Gi"}}


# Fields of a pod that sets hand on as they are: where it runs, and with which rights to pull its image.
POD_FIELDS = (
    "affinity",
    "imagePullSecrets",
    "nodeSelector",
    "priorityClassName",
    "runtimeClassName",
    "tolerations",
    "topologySpreadConstraints",
)


class SpecError(ValueError):
    """A spec that the API server should have refused; the message says which field."""


@dataclasses.dataclass(frozen=True)
class Images:
    """Images for sets that do not choose their own; they come with the chart."""

    ollama: str
    proxy: str


@dataclasses.dataclass(frozen=True)
class Model:
    """One entry of spec.models."""

    name: str
    reference: references.Reference
    source: sources.Source
    served_names: tuple[str, ...]
    type: str
    keep_alive: str


@dataclasses.dataclass(frozen=True)
class Storage:
    """The claim of each Ollama pod."""

    size: str
    class_name: str | None
    retain: bool


@dataclasses.dataclass(frozen=True)
class Ollama:
    """spec.ollama. `pod` has what it says of POD_FIELDS."""

    image: str
    replicas: int
    parallel: int
    max_loaded_models: int
    keep_alive: str
    storage: Storage
    resources: Mapping[str, Any]
    drain_seconds: int
    pod: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Pool:
    """Ollama pods that are alike: a StatefulSet, its headless Service and its ConfigMap, all of this name.

    `selector` are labels that its pods have and no others.
    """

    name: str
    selector: Mapping[str, str]
    ollama: Ollama


@dataclasses.dataclass(frozen=True)
class Proxy:
    """spec.proxy. `limits` has the field names of the CRD, which are those of user_config too.

    `allowed_from` are peers as a NetworkPolicy has them; none means everybody. `pod` as in Ollama.
    """

    image: str
    replicas: int
    resources: Mapping[str, Any]
    api_keys_secret: str | None
    allow_origins: tuple[str, ...]
    allowed_from: tuple[Mapping[str, Any], ...]
    limits: Mapping[str, Any]
    pod: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class ModelSet:
    """An OllamaModelSet, defaults filled in. `created` is in Unix seconds."""

    namespace: str
    name: str
    uid: str
    generation: int
    created: int
    models: tuple[Model, ...]
    ollama: Ollama
    proxy: Proxy

    @functools.cached_property
    def pools(self) -> tuple[Pool, ...]:
        """All pools of the set: so far one, of all its Ollama pods."""
        return (Pool(names.ollama(self.name), names.ollama_selector(self.name), self.ollama),)

    @property
    def pods(self) -> int:
        """How many Ollama pods the set is to have."""
        return sum(pool.ollama.replicas for pool in self.pools)

    @functools.cached_property
    def by_key(self) -> Mapping[str, Model]:
        """The models by the key of their reference; entries may mean the same model."""
        return {model.reference.key: model for model in self.models}


def parse(resource: Mapping[str, Any], images: Images) -> ModelSet:
    """Read an OllamaModelSet as the API server returns it. Raises SpecError."""
    metadata, spec = resource["metadata"], resource.get("spec") or {}
    registry = _registry(spec.get("registry") or {})
    ollama = _ollama(spec.get("ollama") or {}, images.ollama)
    created = datetime.datetime.fromisoformat(metadata["creationTimestamp"])
    return ModelSet(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        generation=metadata.get("generation", 1),
        created=int(created.timestamp()),
        models=tuple(_model(entry, registry, ollama.keep_alive) for entry in spec.get("models") or ()),
        ollama=ollama,
        proxy=_proxy(spec.get("proxy") or {}, images.proxy),
    )


def _registry(entry: Mapping[str, Any]) -> sources.Registry:
    return sources.Registry(entry.get("host") or None, bool(entry.get("insecure", False)))


def _model(entry: Mapping[str, Any], registry: sources.Registry, keep_alive: str) -> Model:
    name = entry["name"]
    try:
        reference, source = sources.parse(name, registry)
    except ValueError as error:
        raise SpecError(f"spec.models: {error}") from error
    return Model(
        name=name,
        reference=reference,
        source=source,
        served_names=tuple(entry.get("servedNames") or references.default_served_names(name)),
        type=entry.get("type", AUTO),
        keep_alive=entry.get("keepAlive") or keep_alive,
    )


def _ollama(entry: Mapping[str, Any], image: str) -> Ollama:
    storage = entry.get("storage") or {}
    return Ollama(
        image=entry.get("image") or image,
        replicas=entry.get("replicas", 1),
        parallel=entry.get("parallel", DEFAULT_PARALLEL),
        max_loaded_models=entry.get("maxLoadedModels", DEFAULT_MAX_LOADED_MODELS),
        keep_alive=entry.get("keepAlive", DEFAULT_KEEP_ALIVE),
        storage=Storage(
            size=_size(str(storage.get("size", DEFAULT_STORAGE_SIZE))),
            class_name=storage.get("storageClassName"),
            retain=bool(storage.get("retain", False)),
        ),
        resources=entry.get("resources", DEFAULT_OLLAMA_RESOURCES),
        drain_seconds=entry.get("drainSeconds", DEFAULT_DRAIN_SECONDS),
        pod=_pod_fields(entry),
    )


def _size(text: str) -> str:
    try:
        quantities.parse(text)
    except ValueError as error:
        raise SpecError(f"spec.ollama.storage.size: {error}") from error
    return text


def _proxy(entry: Mapping[str, Any], image: str) -> Proxy:
    return Proxy(
        image=entry.get("image") or image,
        replicas=entry.get("replicas", 1),
        resources=entry.get("resources", DEFAULT_PROXY_RESOURCES),
        api_keys_secret=((entry.get("auth") or {}).get("apiKeysSecret") or {}).get("name"),
        allow_origins=tuple((entry.get("cors") or {}).get("allowOrigins") or ()),
        allowed_from=tuple(entry.get("allowedFrom") or ()),
        limits=dict(entry.get("limits") or {}),
        pod=_pod_fields(entry),
    )


def _pod_fields(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {field: entry[field] for field in POD_FIELDS if entry.get(field)}
