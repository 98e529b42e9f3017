"""Whether the API server holds what is wanted, so that a steady state needs no write at all."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from modelset_operator.api import names

_QUANTITY = re.compile(r"^([+-]?[0-9]+(?:\.[0-9]*)?|[+-]?\.[0-9]+)([a-zA-Z]*)$")
_EXPONENT = re.compile(r"^([+-]?[0-9.]+)[eE]([+-]?[0-9]+)$")
_SUFFIXES: dict[str, Decimal] = {
    "": Decimal(1),
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate(("n", "u", "m"), start=-3)},
    **{
        suffix: Decimal(1000) ** power for power, suffix in enumerate(("k", "M", "G", "T", "P", "E"), start=1)
    },
    **{f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate("KMGTPE", start=1)},
}
# Fields that are an amount, or a map of amounts.
_QUANTITIES = frozenset({"limits", "requests", "sizeLimit"})
# Fields by which an entry of a list is known, the first that all wanted entries have counts.
_LIST_KEYS = ("uid", "mountPath", "name", "conditionType", "containerPort", "groupName")


def with_hash(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest with an annotation that tells it apart from every other one.

    Comparing fields does not show that a field which was wanted once is no longer wanted; this does.
    """
    digest = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()[:16]
    metadata = dict(manifest["metadata"])
    metadata["annotations"] = {**metadata.get("annotations", {}), names.HASH_ANNOTATION: digest}
    return {**manifest, "metadata": metadata}


def hash_of(manifest: Mapping[str, Any]) -> str:
    """Return the hash that `with_hash` put there, or an empty string."""
    annotations = manifest.get("metadata", {}).get("annotations") or {}
    return str(annotations.get(names.HASH_ANNOTATION, ""))


def drift(wanted: Mapping[str, Any], observed: Mapping[str, Any] | None) -> frozenset[str]:
    """Return the paths at which the observed object does not hold what is wanted: empty when it does.

    Fields that only the observed object has belong to somebody else and do not count.
    """
    if observed is None:
        return frozenset({"."})
    return frozenset(_differences(wanted, observed, "", quantities=False))


def quantity(text: Any) -> Decimal | None:
    """Return a Kubernetes quantity such as `100m` or `2Gi` as a number, or None if it is not one."""
    if isinstance(text, bool) or not isinstance(text, str | int | float):
        return None
    if exponent := _EXPONENT.match(str(text)):
        return Decimal(exponent[1]).scaleb(int(exponent[2]))
    match = _QUANTITY.match(str(text))
    if match is None or match[2] not in _SUFFIXES:
        return None
    return Decimal(match[1]) * _SUFFIXES[match[2]]


def _differences(wanted: Any, observed: Any, path: str, *, quantities: bool) -> Iterator[str]:
    # Most is as it should be, and compared much sooner as a whole than field by field.
    if wanted == observed:
        return
    if isinstance(wanted, Mapping):
        if not isinstance(observed, Mapping):
            yield path
            return
        for key, value in wanted.items():
            if key not in observed:
                yield f"{path}.{key}"
            else:
                yield from _differences(
                    value, observed[key], f"{path}.{key}", quantities=quantities or key in _QUANTITIES
                )
    elif isinstance(wanted, list):
        yield from _list_differences(wanted, observed, path, quantities=quantities)
    elif not (quantities and _same_quantity(wanted, observed)):
        yield path


def _list_differences(wanted: Sequence[Any], observed: Any, path: str, *, quantities: bool) -> Iterator[str]:
    if not isinstance(observed, list):
        yield path
        return
    key = _list_key(wanted)
    if key is None:
        if len(wanted) != len(observed):
            yield path
            return
        for index, (ours, theirs) in enumerate(zip(wanted, observed, strict=True)):
            yield from _differences(ours, theirs, f"{path}[{index}]", quantities=quantities)
        return
    by_key = {entry.get(key): entry for entry in observed if isinstance(entry, Mapping)}
    for entry in wanted:
        where = f"{path}[{entry[key]}]"
        if entry[key] not in by_key:
            yield where
        else:
            yield from _differences(entry, by_key[entry[key]], where, quantities=quantities)


def _list_key(entries: Sequence[Any]) -> str | None:
    for key in _LIST_KEYS:
        if entries and all(isinstance(entry, Mapping) and key in entry for entry in entries):
            return key
    return None


def _same_quantity(wanted: Any, observed: Any) -> bool:
    ours, theirs = quantity(wanted), quantity(observed)
    return ours is not None and ours == theirs
