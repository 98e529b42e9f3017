"""Conditions in the status of an object, as the API server has it. Pure."""

from collections.abc import Mapping
from typing import Any


def find(status: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """Return the condition of this type, {} where there is none."""
    for condition in status.get("conditions") or ():
        if condition.get("type") == kind:
            return dict(condition)
    return {}


def is_true(status: Mapping[str, Any], kind: str) -> bool:
    """Whether a status has a condition of this type that is True."""
    return find(status, kind).get("status") == "True"
