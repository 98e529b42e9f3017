"""Variants: models that a pod makes out of a base that it holds. Pure.

Each is marked with what it was made of, so that what a pod tells of it says whether it is as the spec has it:
no status is trusted, and a restart forgets nothing.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable

from modelset_operator.api import spec
from modelset_operator.engines import state
from modelset_operator.plan import observed as seen

# Of a mark, without an adapter and with one.
_WORDS = (4, 6)


def recipe(model: spec.Model, pod: seen.Pod) -> state.Recipe | None:
    """Return how a pod is to make a variant; None where it does not hold all that it is made of."""
    variant, store = model.variant, pod.store
    if variant is None or store is None:
        return None
    words = _words(model, variant, store)
    if not all(words):
        return None
    return state.Recipe(
        base=store.names[variant.base.key],
        system=variant.system,
        template=variant.template,
        parameters=variant.parameters,
        mark=" ".join(filter(None, words)),
        adapter=_adapter(variant, store) or "",
    )


def is_another(model: spec.Model, held: state.Held) -> bool:
    """Whether a pod holds a variant where the spec has a model of a registry, or the other way round.

    It has to go first: what is put in its place takes only the name, and leaves its files to nobody.
    """
    return held.facts is not None and _is_variant(held, model.reference.key) != (model.variant is not None)


def differs(model: spec.Model, pod: seen.Pod) -> bool:
    """Whether what a pod holds under a model's name was not made as the spec says, as far as is known.

    A variant that cannot be described has lost some of its files, and so is not as it should be either.
    """
    variant, store = model.variant, pod.store
    if store is None or (held := store.held.get(model.reference.key)) is None:
        return False
    if variant is None or is_another(model, held):
        return is_another(model, held)
    if held.facts is None:
        return held.broken
    wanted, told = _words(model, variant, store), held.facts.mark.split()
    if len(wanted) != len(told):
        return True
    # Until what it is made of is there again, the versions of that do not count.
    return any(word not in (None, its) for word, its in zip(wanted, told, strict=True))


def version(model: spec.Model, store: state.Store) -> str:
    """Return the digests of what a pod has a model's weights from, "" where it does not hold that."""
    keys = [model.reference.key] if model.variant is None else list(model.variant.sources)
    return " ".join(store.held[key].digest for key in keys if key in store.held)


def made_of(model: spec.Model, pod: seen.Pod) -> frozenset[str]:
    """Return the keys of the base and adapter of which a pod has made a variant; none where it has not."""
    held = pod.store.held.get(model.reference.key) if pod.store is not None else None
    if held is None or held.facts is None or not _is_variant(held, model.reference.key):
        return frozenset()
    words = held.facts.mark.split()
    return frozenset(words[1:2] + words[4:5])


def problem(model: spec.Model, pods: Iterable[seen.Pod]) -> str:
    """Return why nothing can be made with the adapter of a variant that pods hold; "" where it can be."""
    variant = model.variant
    if variant is None or variant.adapter is None:
        return ""
    stores = [pod.store for pod in pods if pod.store is not None]
    found = [store.held[variant.adapter.key] for store in stores if variant.adapter.key in store.held]
    named = f"its adapter, {variant.adapter_named}"
    instead = "set adapter to a model that was made with FROM and one ADAPTER in its Modelfile"
    for held in found:
        # Of a model without weights Ollama says that there is none.
        if held.facts is None and held.broken:
            return f"{named}, cannot be read ({held.problem}): {instead}"
        if held.facts is not None and len(held.facts.adapters) != 1:
            return f"{named}, has {len(held.facts.adapters) or 'no'} adapter layers: {instead}"
    return ""


def adds(base: state.Held, adapter: state.Held) -> int:
    """Return the bytes that a model with an adapter takes beside a base: its weights may be the base's."""
    ours, its = base.facts, adapter.facts
    shared = ours is not None and its is not None and _weights(ours) == _weights(its) != ""
    return max(0, adapter.size - base.size) if shared else adapter.size


def expected(
    model: spec.Model, base: state.Held | None, adapter: state.Held | None = None
) -> state.Held | None:
    """Return what is known of a variant before it is made: it is as its base, but for its own context.

    With an adapter it takes more than its base, and a runner of its own; that is known once the adapter is.
    """
    if model.variant is None or base is None or base.facts is None:
        return None
    pinned = model.variant.parameters.get("num_ctx", base.facts.pinned_context_length)
    facts = dataclasses.replace(base.facts, pinned_context_length=int(pinned))
    if model.variant.adapter is None:
        return dataclasses.replace(base, facts=facts)
    if adapter is None or adapter.facts is None or not base.facts.weights:
        return dataclasses.replace(base, facts=dataclasses.replace(facts, weights=""))
    adapters = (*base.facts.adapters, *adapter.facts.adapters)
    first, *files = base.facts.weights.split()
    weights = " ".join((first, *adapters, *files[len(base.facts.adapters) :]))
    facts = dataclasses.replace(facts, weights=weights, adapters=adapters)
    return dataclasses.replace(base, size=base.size + adds(base, adapter), facts=facts)


def _words(model: spec.Model, variant: spec.Variant, store: state.Store) -> tuple[str | None, ...]:
    """Return what a variant is marked with: whose it is, its base, that one's version, a hash of the recipe.

    And its adapter, and that one's file. None stands for what is not known while the pod does not hold it, ""
    for what is not to be had of what it holds.
    """
    base = _pulled(variant.base.key, store)
    words = (model.reference.key, variant.base.key, None if base is None else base.digest, _hash(variant))
    return words if variant.adapter is None else (*words, variant.adapter.key, _adapter(variant, store))


def _adapter(variant: spec.Variant, store: state.Store) -> str | None:
    """Return the file of a variant's adapter, None while it is not known, "" where it has not just one."""
    held = None if variant.adapter is None else _pulled(variant.adapter.key, store)
    if held is None or held.facts is None:
        return None
    return held.facts.adapters[0] if len(held.facts.adapters) == 1 else ""


def _weights(facts: state.Facts) -> str:
    """Return the file of a model's weights alone, "" where it is not known."""
    return facts.weights.partition(" ")[0]


def _pulled(key: str, store: state.Store) -> state.Held | None:
    """Return what a pod holds to make a variant of."""
    held = store.held.get(key)
    return None if held is None or _is_variant(held, key) else held


def _is_variant(held: state.Held, key: str) -> bool:
    """Whether something was made here under this name; what was pulled may bear another one's mark."""
    words = held.facts.mark.split() if held.facts is not None else []
    return len(words) in _WORDS and words[0] == key


def _hash(variant: spec.Variant) -> str:
    text = json.dumps([variant.system, variant.template, variant.parameters], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
