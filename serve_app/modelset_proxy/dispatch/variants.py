"""Which models share one place in memory: variants of one base, whose weights are kept once. Pure."""

from collections.abc import Mapping

from modelset_proxy.engines import port


def leads(held: Mapping[str, port.Held], pinned: Mapping[str, int | None]) -> dict[str, str]:
    """Return for each model that shares its place with others the one that stands for all of them.

    ``pinned`` are the models that are served, with the length of context that goes with every request: where
    it differs there are several places. The oldest stands for all, so that one that is added changes nothing,
    and all proxies choose the same one.
    """
    groups: dict[tuple[str, int], list[str]] = {}
    for model, found in held.items():
        if found.weights:
            length = pinned.get(model) or found.context_length
            groups.setdefault((found.weights, length), []).append(model)
    leads: dict[str, str] = {}
    for models in groups.values():
        served = [model for model in models if model in pinned]
        if served and models[1:]:
            lead = min(served, key=lambda model: (held[model].changed, model))
            leads.update(dict.fromkeys(models, lead))
    return leads
