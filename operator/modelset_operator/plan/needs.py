"""What models need of a pod, and what a pod has: bytes of memory and of disk. Pure.

Nothing is guessed: what a model needs is None until Ollama has told.
"""

import dataclasses
import functools
from collections.abc import Mapping

from modelset_operator.api import quantities, spec
from modelset_operator.engines import state
from modelset_operator.manifests import ray
from modelset_operator.plan import observed as seen
from modelset_operator.plan import variants, versions

# What Ollama gives a model where nobody asks for a length (OLLAMA_CONTEXT_LENGTH, on pods without a device).
DEFAULT_CONTEXT = 4096
# Bytes of a number in the cache, by spec.ollama.kvCacheType; blocks of 32 share a scale of 2 bytes.
_CACHE_BYTES = {None: 2.0, "f16": 2.0, "q8_0": 34 / 32, "q4_0": 18 / 32}


@dataclasses.dataclass(frozen=True)
class Needs:
    """Bytes that a model takes, None where they are not known; its memory is that of all of one `runner`."""

    memory: int | None = None
    disk: int | None = None
    runner: str = ""


UNKNOWN = Needs()


def of(model: spec.Model, observed: seen.Observed) -> Needs:
    """Return what a model needs: as measured in memory, else as told before, else by its own numbers.

    Of what was measured the most counts: a request may ask for a shorter context than the next one does.
    Variants share a runner, which Ollama lists as the one that it was loaded as, and the disk that their base
    and their adapter take. A base that nobody asks for is in memory only as what its variants are.
    """
    key = model.reference.key
    held = _known(model, observed)
    if model in observed.modelset.bases:
        return Needs(disk=None if held is None else _beside_bases(model, held, observed))
    told = observed.previous_model(model.name)
    same = (held is None or told.get("digest") == held.digest) and observed.same_generation
    before = told.get("memory") if same else None
    by_numbers = None if held is None else calculated(model, held, observed.modelset.ollama)
    runner = runner_of(model, held)
    alike = {key} | {other for other, its in _runners(observed).items() if runner and its == runner}
    stores = [pod.store for pod in observed.pods if pod.store is not None]
    measured = [store.loaded.get(one, 0) for store in stores for one in alike]
    if before is not None and before != by_numbers:
        measured.append(before)
    memory = max(measured, default=0) or by_numbers
    if model.variant is not None:
        # Until more is known it takes no more runners than its base, unless it has an adapter.
        alone = model.variant.adapter is not None
        return Needs(memory, 0, runner or (key if alone else model.variant.base.key))
    return Needs(memory, held.size if held is not None else told.get("size"), runner)


def _known(model: spec.Model, observed: seen.Observed) -> state.Held | None:
    """Return what is known of a model: what pods hold of it, or of a variant what it will be."""
    held = versions.newest(observed.pods, model.reference.key)
    if held is not None or model.variant is None:
        return held
    made_of = [versions.newest(observed.pods, source) for source in model.variant.sources]
    return variants.expected(model, *made_of)


def _beside_bases(model: spec.Model, held: state.Held, observed: seen.Observed) -> int:
    """Return the bytes that a model takes on disk which is kept for variants, beside what they have too.

    One with an adapter has the weights that this was made for, most often those of the variants' base.
    """
    adapted = [one.variant for one in observed.modelset.variants_of(model) if one.variant is not None]
    others = [one.base.key for one in adapted if one.base.key != model.reference.key]
    bases = [versions.newest(observed.pods, key) for key in others]
    return min((variants.adds(base, held) for base in bases if base is not None), default=held.size)


@functools.lru_cache(maxsize=2)
def _runners(observed: seen.Observed) -> Mapping[str, str]:
    """Return what each model's runner is kept by, by reference key; it is asked many times of one look."""
    return {key: runner_of(model, _known(model, observed)) for key, model in observed.modelset.by_key.items()}


def runner_of(model: spec.Model, held: state.Held | None) -> str:
    """Return what a model's runner is kept by, the same for variants of one context, "" while unknown."""
    if held is None or held.facts is None or not held.facts.weights:
        return ""
    return f"{held.facts.weights} {context_of(model, held.facts)}"


def context_of(model: spec.Model, facts: state.Facts) -> int:
    """Return how many tokens a model's context has, where no request asks for another length."""
    wanted = model.context_length or facts.pinned_context_length or DEFAULT_CONTEXT
    return min(wanted, facts.context_length) if facts.context_length else wanted


def calculated(model: spec.Model, held: state.Held, ollama: spec.Ollama) -> int | None:
    """Return the bytes of a model's weights and of its cache for all requests at once, as far as it tells."""
    facts = held.facts
    if facts is None:
        return None
    # Ollama runs a model that only embeds for one request at a time.
    parallel = ollama.parallel if "completion" in facts.capabilities else 1
    values = (facts.cache_values or 0) * context_of(model, facts) * parallel
    return held.size + int(values * _CACHE_BYTES[ollama.kv_cache_type])


def pod_memory(ollama: spec.Ollama) -> int | None:
    """Return the bytes of memory that a pod has for its models, None where nothing bounds them."""
    return ray.memory_for_models(ollama.resources)


def pod_disk(ollama: spec.Ollama) -> int:
    """Return the bytes of a pod's volume."""
    return int(quantities.parse(ollama.storage.size))


def text(count: int) -> str:
    """Return bytes as people write them, `5.1Gi`."""
    return quantities.rounded(count, 1024, ("", "Ki", "Mi", "Gi"))
