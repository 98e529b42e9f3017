"""Whose an object is: what is not a set's own is never applied over. Pure."""

from collections.abc import Mapping
from typing import Any

from modelset_operator.api import names, spec

Object = Mapping[str, Any]


def stranger(found: Object, modelset: spec.ModelSet) -> str:
    """Return what keeps a set from taking an object of one of its names for its own; "" for nothing.

    It is the set's when the set is its controller, and may become that when it has no controller and carries
    the set's labels: so it looks after `kubectl delete --cascade=orphan`.
    """
    what = f"{found.get('kind', 'object')} {found['metadata']['name']}"
    controller = _controller(found)
    if controller is not None:
        if controller.get("uid") == modelset.uid:
            return ""
        return f"{what} belongs to {controller.get('kind')} {controller.get('name')}: {_ADVICE}"
    labels = found["metadata"].get("labels") or {}
    if names.common_labels(modelset.name, labels.get(names.COMPONENT_LABEL, "")).items() <= labels.items():
        return ""
    return f"{what} was made by somebody else: {_ADVICE}"


def controls(owner: Object | None, found: Object) -> bool:
    """Tell whether an object is the controller of another."""
    controller = _controller(found)
    return owner is not None and controller is not None and controller.get("uid") == owner["metadata"]["uid"]


_ADVICE = "delete or rename it, or give the set another name"


def _controller(found: Object) -> Mapping[str, Any] | None:
    for reference in found["metadata"].get("ownerReferences") or ():
        if reference.get("controller"):
            return dict(reference)
    return None
