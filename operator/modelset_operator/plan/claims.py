"""Which operator serves a set, where several could: the one that the set's annotation names. Pure."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from modelset_operator.api import names


@dataclasses.dataclass(frozen=True)
class Identity:
    """The name of an operator, all replicas together, and those that are gone whose sets it takes over.

    Names are of the form `namespace/instance`.
    """

    name: str
    adopts: tuple[str, ...] = ()

    @property
    def home(self) -> tuple[str, str]:
        """The namespace where it runs, and its name there."""
        namespace, _, instance = self.name.partition("/")
        return namespace, instance


def owner(modelset: Mapping[str, Any]) -> str:
    """Return the operator that has claimed a set, "" for none."""
    annotations = modelset["metadata"].get("annotations") or {}
    return str(annotations.get(names.OPERATOR_ANNOTATION, ""))


def may_claim(modelset: Mapping[str, Any], identity: Identity) -> bool:
    """Whether an operator may serve a set: nobody has claimed it, or one that is gone."""
    return owner(modelset) in ("", identity.name, *identity.adopts)
