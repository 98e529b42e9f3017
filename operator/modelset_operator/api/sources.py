"""Where a model comes from: worked out once, from its reference and the spec's registry."""

import dataclasses

from modelset_operator.api import references


@dataclasses.dataclass(frozen=True)
class Registry:
    """spec.registry: where names without a host come from, and whether to trust that host unseen.

    `cached`: pods pull through a cache of the set's own, which asks all registries for them.
    """

    host: str | None = None
    insecure: bool = False
    cached: bool = False


@dataclasses.dataclass(frozen=True)
class Source:
    """The registry of one model; `insecure`: plain HTTP or an unverified certificate will do.

    `cached`: it is the set's cache that asks it.
    """

    host: str
    insecure: bool
    cached: bool = False


def parse(name: str, registry: Registry) -> tuple[references.Reference, Source]:
    """Return which model a name means, and where it comes from. Raises ValueError for what is no name.

    What the spec says of its registry holds for that one only: a name with another host is asked for there.
    """
    reference = references.parse(name, registry.host or references.DEFAULT_HOST)
    named = registry.host is not None and reference.host.lower() == registry.host.lower()
    return reference, Source(reference.host, registry.insecure and named, registry.cached)
