"""The spec of an OllamaModelSet, with the defaults that the CRD's schema carries too."""

import dataclasses
import datetime
import functools
from collections.abc import Mapping, Sequence
from typing import Any

from modelset_operator.api import moments, names, quantities, references, sources

AUTO, CHAT, EMBEDDING = "Auto", "Chat", "Embedding"
NEVER, ALWAYS = "Never", "Always"

# The CRD's schema has the same defaults; a chart test compares them.
DEFAULT_KEEP_ALIVE = "-1"
DEFAULT_REFRESH = NEVER
DEFAULT_PARALLEL = 4
DEFAULT_MAX_LOADED_MODELS = 3
DEFAULT_STORAGE_SIZE = "20Gi"
DEFAULT_CACHE_SIZE = "50Gi"
DEFAULT_DRAIN_SECONDS = 30
DEFAULT_MIN_REPLICAS = 1
DEFAULT_TARGET_IN_FLIGHT = 4
DEFAULT_IDLE_SECONDS = 900
DEFAULT_FEWEST_PROXIES = 1
DEFAULT_REQUESTS_A_PROXY = 100
DEFAULT_PULL_POLICY = "IfNotPresent"
DEFAULT_OLLAMA_RESOURCES: Mapping[str, Any] = {"requests": {"cpu": "100m", "memory": "512Mi"}}
DEFAULT_CACHE_RESOURCES: Mapping[str, Any] = {"requests": {"cpu": "50m", "memory": "128Mi"}}
DEFAULT_PROXY_RESOURCES: Mapping[str, Any] = {"requests": {"cpu": "100m", "memory": "1Gi"}}


# How often a tag is looked at that is `Always` looked at, besides when pods start.
ALWAYS_SECONDS = 300.0

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
    """Images for sets that do not choose their own, and of their caches; they come with the chart."""

    ollama: str
    proxy: str
    cache: str


@dataclasses.dataclass(frozen=True)
class Variant:
    """What is put around the weights of a base, `named` as in the spec; what is empty is the base's own.

    `adapter` is the model of which the LoRA is taken, `adapter_named` as in the spec; None for no such.
    """

    base: references.Reference
    named: str
    system: str = ""
    template: str = ""
    parameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    adapter: references.Reference | None = None
    adapter_named: str = ""

    @property
    def sources(self) -> Mapping[str, str]:
        """What it is made of as named in the spec, by reference key: the base, then the adapter."""
        adapter = {} if self.adapter is None else {self.adapter.key: self.adapter_named}
        return {self.base.key: self.named, **adapter}


@dataclasses.dataclass(frozen=True)
class Refresh:
    """When a model's registry is asked whether its tag has moved: so often, and when a pod starts."""

    seconds: float | None = None
    at_starts: bool = False


@dataclasses.dataclass(frozen=True)
class Model:
    """One entry of spec.models. `replicas` is on how many pods it is kept, None for all of them, 0 for none
    but those that keep a variant with it as its adapter.

    `context_length` is None where the model's own, or Ollama's default, holds. One with a `variant` is made
    on each pod out of its base, and comes from no registry.
    """

    name: str
    reference: references.Reference
    source: sources.Source
    served_names: tuple[str, ...]
    type: str
    keep_alive: str
    replicas: int | None
    preload: bool
    context_length: int | None
    variant: Variant | None = None
    refresh: Refresh = Refresh()


@dataclasses.dataclass(frozen=True)
class Storage:
    """The volume of each Ollama pod: a claim, or where it is `ephemeral` a folder that goes with its pod."""

    size: str
    class_name: str | None
    retain: bool
    ephemeral: bool


@dataclasses.dataclass(frozen=True)
class Volume:
    """A claim that all Ollama pods mount; `claim_read_only` is of the claim, `read_only` of the mount."""

    name: str
    claim: str
    claim_read_only: bool
    mount_path: str
    read_only: bool


@dataclasses.dataclass(frozen=True)
class Autoscaling:
    """spec.ollama.autoscaling: bounds on the pods, requests a pod, and when one may go that nobody needs."""

    min_replicas: int
    max_replicas: int
    target_in_flight: int
    idle_seconds: float


@dataclasses.dataclass(frozen=True)
class Pod:
    """What spec.ollama and spec.proxy both say of their pods; `fields` are those of POD_FIELDS that are said.

    `labels` and `annotations` are what pods have beside our own.
    """

    fields: Mapping[str, Any]
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    image_pull_policy: str


@dataclasses.dataclass(frozen=True)
class Ollama:
    """spec.ollama. `env` are further variables as a Pod has them.

    `autoscaling` decides in place of `replicas`; `flash_attention` and `kv_cache_type` are None where Ollama
    decides.
    """

    image: str
    replicas: int
    autoscaling: Autoscaling | None
    parallel: int
    max_loaded_models: int
    flash_attention: bool | None
    kv_cache_type: str | None
    env: tuple[Mapping[str, Any], ...]
    keep_alive: str
    storage: Storage
    volumes: tuple[Volume, ...]
    resources: Mapping[str, Any]
    supplemental_groups: tuple[int, ...]
    drain_seconds: int
    pod: Pod

    @property
    def most(self) -> int:
        """How many pods there may be."""
        return self.replicas if self.autoscaling is None else self.autoscaling.max_replicas


@dataclasses.dataclass(frozen=True)
class Pool:
    """Ollama pods that are alike: a StatefulSet, its headless Service and its ConfigMap, all of this name.

    `selector` are labels that its pods have and no others.
    """

    name: str
    selector: Mapping[str, str]
    ollama: Ollama


@dataclasses.dataclass(frozen=True)
class ProxyAutoscaling:
    """spec.proxy.autoscaling: from so many pods to so many, with so many requests open or waiting at each."""

    min_replicas: int
    max_replicas: int
    target_ongoing_requests: int


@dataclasses.dataclass(frozen=True)
class Proxy:
    """spec.proxy. `limits` has the field names of the CRD, which are those of user_config too.

    `replicas` are as many as there are at least; more only where `autoscaling` is asked for.
    `allowed_from` are peers as a NetworkPolicy has them; none means everybody.
    """

    image: str
    replicas: int
    autoscaling: ProxyAutoscaling | None
    resources: Mapping[str, Any]
    api_keys_secret: str | None
    allow_origins: tuple[str, ...]
    allowed_from: tuple[Mapping[str, Any], ...]
    limits: Mapping[str, Any]
    pod: Pod


@dataclasses.dataclass(frozen=True)
class Cache:
    """spec.registry.cache: through which a set's pods pull; `fields` are those of POD_FIELDS that are said.

    `credentials_secret` is who the set is to registries, `insecure` is asked over plain HTTP; None for none.
    """

    image: str
    size: str
    class_name: str | None
    resources: Mapping[str, Any]
    fields: Mapping[str, Any]
    credentials_secret: str | None
    insecure: str | None


@dataclasses.dataclass(frozen=True)
class ModelSet:
    """An OllamaModelSet, defaults filled in. `created` is in Unix seconds.

    `bases` are kept for the variants of them, adapters included, and not served: they are no entries of
    spec.models.
    `refresh_at` is when all tags are to be looked at once, None where nobody has asked for it.
    """

    namespace: str
    name: str
    uid: str
    generation: int
    created: int
    models: tuple[Model, ...]
    bases: tuple[Model, ...]
    ollama: Ollama
    proxy: Proxy
    refresh_at: float | None = None
    cache: Cache | None = None

    @functools.cached_property
    def pools(self) -> tuple[Pool, ...]:
        """All pools of the set: so far one, of all its Ollama pods."""
        return (Pool(names.ollama(self.name), names.ollama_selector(self.name), self.ollama),)

    @functools.cached_property
    def by_key(self) -> Mapping[str, Model]:
        """All models that pods keep by the key of their reference; entries may mean the same model."""
        return {model.reference.key: model for model in (*self.bases, *self.models)}

    def variants_of(self, base: Model) -> tuple[Model, ...]:
        """Return the models that are made of this one, or have it as their adapter."""
        key = base.reference.key
        return tuple(one for one in self.models if one.variant is not None and key in one.variant.sources)


def parse(resource: Mapping[str, Any], images: Images) -> ModelSet:
    """Read an OllamaModelSet as the API server returns it. Raises SpecError."""
    metadata, spec = resource["metadata"], resource.get("spec") or {}
    registry = _registry(spec.get("registry") or {})
    ollama = _ollama(spec.get("ollama") or {}, images.ollama)
    created = datetime.datetime.fromisoformat(metadata["creationTimestamp"])
    entries = [_model(entry, registry, ollama.keep_alive) for entry in spec.get("models") or ()]
    models, bases = _with_bases(entries, registry, ollama.keep_alive)
    return ModelSet(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        generation=metadata.get("generation", 1),
        created=int(created.timestamp()),
        models=tuple(models),
        bases=tuple(bases),
        ollama=ollama,
        proxy=_proxy(spec.get("proxy") or {}, images.proxy),
        cache=_cache(spec.get("registry") or {}, registry, images.cache),
        refresh_at=moments.parse((metadata.get("annotations") or {}).get(names.REFRESH_ANNOTATION, "")),
    )


def _registry(entry: Mapping[str, Any]) -> sources.Registry:
    return sources.Registry(
        host=entry.get("host") or None,
        insecure=bool(entry.get("insecure", False)),
        cached=entry.get("cache") is not None,
    )


def _cache(entry: Mapping[str, Any], registry: sources.Registry, image: str) -> Cache | None:
    if not registry.cached:
        return None
    cache = entry["cache"]
    return Cache(
        image=image,
        size=_size(str(cache.get("size", DEFAULT_CACHE_SIZE)), "spec.registry.cache.size"),
        class_name=cache.get("storageClassName"),
        resources=cache.get("resources", DEFAULT_CACHE_RESOURCES),
        fields={field: cache[field] for field in POD_FIELDS if cache.get(field)},
        credentials_secret=(entry.get("credentialsSecret") or {}).get("name"),
        insecure=registry.host if registry.insecure else None,
    )


def _model(entry: Mapping[str, Any], registry: sources.Registry, keep_alive: str) -> Model:
    name, variant = entry["name"], _variant(entry, registry)
    # Nobody pulls a variant, so spec.registry says nothing of where it comes from.
    reference, source = _reference(name, sources.Registry() if variant is not None else registry)
    return Model(
        name=name,
        reference=reference,
        source=source,
        served_names=tuple(entry.get("servedNames") or references.default_served_names(name)),
        type=entry.get("type", AUTO),
        keep_alive=entry.get("keepAlive") or keep_alive,
        replicas=entry.get("replicas"),
        preload=bool(entry.get("preload", False)),
        context_length=entry.get("contextLength"),
        variant=variant,
        refresh=_refresh(entry.get("refresh", DEFAULT_REFRESH)),
    )


def _refresh(text: str) -> Refresh:
    if text == NEVER:
        return Refresh()
    if text == ALWAYS:
        return Refresh(ALWAYS_SECONDS, at_starts=True)
    try:
        return Refresh(moments.duration(text))
    except ValueError as error:
        raise SpecError(f"spec.models: refresh: {error}") from error


def _reference(name: str, registry: sources.Registry) -> tuple[references.Reference, sources.Source]:
    try:
        return sources.parse(name, registry)
    except ValueError as error:
        raise SpecError(f"spec.models: {error}") from error


def _variant(entry: Mapping[str, Any], registry: sources.Registry) -> Variant | None:
    if not entry.get("from"):
        return None
    base, _ = _reference(entry["from"], registry)
    adapter = entry.get("adapter", "")
    return Variant(
        base=base,
        named=entry["from"],
        system=entry.get("system", ""),
        template=entry.get("template", ""),
        parameters=dict(entry.get("parameters") or {}),
        adapter=_reference(adapter, registry)[0] if adapter else None,
        adapter_named=adapter,
    )


def _with_bases(
    models: Sequence[Model], registry: sources.Registry, keep_alive: str
) -> tuple[list[Model], list[Model]]:
    """Return the entries, and the bases and adapters that are none.

    Raises SpecError for variants that cannot be made.
    """
    variants = {model.reference.key: model for model in models if model.variant is not None}
    bases = {model.reference.key: model for model in models if model.variant is None}
    listed = frozenset(bases)
    kept: dict[str, list[int | None]] = {}
    for model in models:
        same = variants.get(model.reference.key, model)
        if same.variant != model.variant:
            raise SpecError(f"spec.models: {model.name} and {same.name} are one name on Ollama: rename one")
        if model.variant is not None:
            _check_sources(model, model.variant, variants)
            key = model.variant.base.key
            for source, named in model.variant.sources.items():
                if source not in bases:
                    base = _model({"name": named}, registry, keep_alive)
                    # An adapter goes where its variants go.
                    bases[source] = dataclasses.replace(base, served_names=(), replicas=0)
            kept.setdefault(key, [bases[key].replicas] if key in listed else []).append(model.replicas)
    # A base is kept wherever a variant of it is.
    most = {key: _most(counts) for key, counts in kept.items()}
    entries = [_with_replicas(_like_its_base(model, bases), most) for model in models]
    return entries, [_with_replicas(base, most) for key, base in bases.items() if key not in listed]


def _check_sources(model: Model, variant: Variant, variants: Mapping[str, Model]) -> None:
    for field, (source, named) in zip(("from", "adapter"), variant.sources.items(), strict=False):
        # No registry knows a variant: its name is the same whatever spec.registry says.
        for key in (source, references.parse(named).key):
            if key in variants:
                of = variants[key].name
                told = "itself" if key == model.reference.key else f"{of}, which is a variant itself"
                raise SpecError(
                    f"spec.models: {field} of {model.name} names {told}; it has to name what is pulled"
                )
    if variant.adapter is not None and variant.adapter.key == variant.base.key:
        raise SpecError(
            f"spec.models: adapter of {model.name} names the base, which has it already: leave it out"
        )


def _like_its_base(model: Model, bases: Mapping[str, Model]) -> Model:
    """Return a model, with the context of its base unless it has one of its own.

    Another length is another runner, and the two would make each other's way out of memory.
    """
    variant = model.variant
    if variant is None or model.context_length is not None or "num_ctx" in variant.parameters:
        return model
    return dataclasses.replace(model, context_length=bases[variant.base.key].context_length)


def _with_replicas(model: Model, most: Mapping[str, int | None]) -> Model:
    return dataclasses.replace(model, replicas=most.get(model.reference.key, model.replicas))


def _most(replicas: Sequence[int | None]) -> int | None:
    counts = [count for count in replicas if count is not None]
    return max(counts) if len(counts) == len(replicas) else None


def _ollama(entry: Mapping[str, Any], image: str) -> Ollama:
    storage = entry.get("storage") or {}
    return Ollama(
        image=entry.get("image") or image,
        replicas=entry.get("replicas", 1),
        autoscaling=_autoscaling(entry.get("autoscaling")),
        parallel=entry.get("parallel", DEFAULT_PARALLEL),
        max_loaded_models=entry.get("maxLoadedModels", DEFAULT_MAX_LOADED_MODELS),
        flash_attention=entry.get("flashAttention"),
        kv_cache_type=entry.get("kvCacheType"),
        env=tuple(entry.get("env") or ()),
        keep_alive=entry.get("keepAlive", DEFAULT_KEEP_ALIVE),
        storage=Storage(
            size=_size(str(storage.get("size", DEFAULT_STORAGE_SIZE)), "spec.ollama.storage.size"),
            class_name=storage.get("storageClassName"),
            retain=bool(storage.get("retain", False)),
            ephemeral=bool(storage.get("ephemeral", False)),
        ),
        volumes=tuple(_volume(one) for one in entry.get("volumes") or ()),
        resources=entry.get("resources", DEFAULT_OLLAMA_RESOURCES),
        supplemental_groups=tuple(entry.get("supplementalGroups") or ()),
        drain_seconds=entry.get("drainSeconds", DEFAULT_DRAIN_SECONDS),
        pod=_pod(entry),
    )


def _volume(entry: Mapping[str, Any]) -> Volume:
    claim = entry["persistentVolumeClaim"]
    return Volume(
        name=entry["name"],
        claim=claim["claimName"],
        claim_read_only=bool(claim.get("readOnly", False)),
        mount_path=entry["mountPath"],
        read_only=bool(entry.get("readOnly", False)),
    )


def _autoscaling(entry: Mapping[str, Any] | None) -> Autoscaling | None:
    if entry is None:
        return None
    return Autoscaling(
        min_replicas=entry.get("minReplicas", DEFAULT_MIN_REPLICAS),
        max_replicas=entry["maxReplicas"],
        target_in_flight=entry.get("targetInFlight", DEFAULT_TARGET_IN_FLIGHT),
        idle_seconds=float(entry.get("idleSeconds", DEFAULT_IDLE_SECONDS)),
    )


def _size(text: str, field: str) -> str:
    try:
        quantities.parse(text)
    except ValueError as error:
        raise SpecError(f"{field}: {error}") from error
    return text


def _proxy(entry: Mapping[str, Any], image: str) -> Proxy:
    autoscaling = _proxy_autoscaling(entry.get("autoscaling"))
    return Proxy(
        image=entry.get("image") or image,
        replicas=entry.get("replicas", 1) if autoscaling is None else autoscaling.min_replicas,
        autoscaling=autoscaling,
        resources=entry.get("resources", DEFAULT_PROXY_RESOURCES),
        api_keys_secret=((entry.get("auth") or {}).get("apiKeysSecret") or {}).get("name"),
        allow_origins=tuple((entry.get("cors") or {}).get("allowOrigins") or ()),
        allowed_from=tuple(entry.get("allowedFrom") or ()),
        limits=dict(entry.get("limits") or {}),
        pod=_pod(entry),
    )


def _proxy_autoscaling(entry: Mapping[str, Any] | None) -> ProxyAutoscaling | None:
    if entry is None:
        return None
    return ProxyAutoscaling(
        min_replicas=entry.get("minReplicas", DEFAULT_FEWEST_PROXIES),
        max_replicas=entry["maxReplicas"],
        target_ongoing_requests=entry.get("targetOngoingRequests", DEFAULT_REQUESTS_A_PROXY),
    )


def _pod(entry: Mapping[str, Any]) -> Pod:
    return Pod(
        fields={field: entry[field] for field in POD_FIELDS if entry.get(field)},
        labels=dict(entry.get("podLabels") or {}),
        annotations=dict(entry.get("podAnnotations") or {}),
        image_pull_policy=entry.get("imagePullPolicy", DEFAULT_PULL_POLICY),
    )
