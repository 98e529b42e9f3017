"""Which operator serves a set, where several could: the one that the set's annotation names. Pure."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from modelset_operator.api import names


@dataclasses.dataclass(frozen=True)
class Identity:
    """The name of an operator, all replicas together, and those that are gone whose sets it takes over."""

    name: str
    adopts: tuple[str, ...] = ()


def owner(modelset: Mapping[str, Any]) -> str:
    """Return the operator that has claimed a set, "" for none."""
    annotations = modelset["metadata"].get("annotations") or {}
    return str(annotations.get(names.OPERATOR_ANNOTATION, ""))


def may_claim(modelset: Mapping[str, Any], identity: Identity) -> bool:
    """Whether an operator may serve a set: nobody has claimed it, or one that is gone."""
    return owner(modelset) in ("", identity.name, *identity.adopts)
