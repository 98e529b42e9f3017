"""Variants: models that a pod makes out of a base that it holds. Pure.

Each is marked with what it was made of, so that what a pod tells of it says whether it is as the spec has it:
no status is trusted, and a restart forgets nothing.
"""

import dataclasses
import hashlib
import json

from modelset_operator.api import spec
from modelset_operator.engines import state
from modelset_operator.plan import observed as seen

# Of a mark.
_WORDS = 4


def mark(model: spec.Model, variant: spec.Variant, base: state.Held) -> str:
    """Return what a variant bears: whose it is, its base, that one's version, and a hash of the recipe."""
    return " ".join((model.reference.key, variant.base.key, base.digest, _hash(variant)))


def recipe(model: spec.Model, pod: seen.Pod) -> state.Recipe | None:
    """Return how a pod is to make a variant; None where it does not hold the base."""
    variant, store = model.variant, pod.store
    if variant is None or store is None or (base := _base(variant, store)) is None:
        return None
    return state.Recipe(
        base=store.names[variant.base.key],
        system=variant.system,
        template=variant.template,
        parameters=variant.parameters,
        mark=mark(model, variant, base),
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
    base = _base(variant, store)
    if base is not None:
        return held.facts.mark != mark(model, variant, base)
    # Until the base is there again its version does not count.
    _, of, _, words = held.facts.mark.split()
    return (of, words) != (variant.base.key, _hash(variant))


def version(model: spec.Model, store: state.Store) -> str:
    """Return the digest of what a pod has a model's weights from, "" where it does not hold that."""
    held = store.held.get(model.reference.key if model.variant is None else model.variant.base.key)
    return "" if held is None else held.digest


def made_of(model: spec.Model, pod: seen.Pod) -> str:
    """Return the key of the base of which a pod has made a variant, "" where it has not."""
    held = pod.store.held.get(model.reference.key) if pod.store is not None else None
    if held is None or held.facts is None or not _is_variant(held, model.reference.key):
        return ""
    return held.facts.mark.split()[1]


def expected(model: spec.Model, base: state.Held | None) -> state.Held | None:
    """Return what is known of a variant before it is made: it is as its base, but for its own context."""
    if model.variant is None or base is None or base.facts is None:
        return None
    pinned = model.variant.parameters.get("num_ctx", base.facts.pinned_context_length)
    return dataclasses.replace(base, facts=dataclasses.replace(base.facts, pinned_context_length=int(pinned)))


def _base(variant: spec.Variant, store: state.Store) -> state.Held | None:
    """Return what a pod holds to make a variant of."""
    held = store.held.get(variant.base.key)
    return None if held is None or _is_variant(held, variant.base.key) else held


def _is_variant(held: state.Held, key: str) -> bool:
    """Whether something was made here under this name; what was pulled may bear another one's mark."""
    words = held.facts.mark.split() if held.facts is not None else []
    return len(words) == _WORDS and words[0] == key


def _hash(variant: spec.Variant) -> str:
    text = json.dumps([variant.system, variant.template, variant.parameters], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
