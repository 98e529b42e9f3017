"""Model names as Kubernetes label values and label names."""

import collections
import hashlib
import re
from collections.abc import Iterable

from modelset_operator.api import names

LIMIT = 63
_FORBIDDEN = re.compile(r"[^A-Za-z0-9_.-]")
_HASH_LENGTH = 8


def model_labels(served_names: Iterable[str]) -> dict[str, str]:
    """Return the labels by which a set is found: that it speaks OpenAI's API, and for which models."""
    encoded = encode_all(served_names)
    labels = {names.OPENAI_LABEL: "true"}
    if encoded:
        labels[names.MODELS_LABEL] = join(encoded.values())
    for value in encoded.values():
        labels[names.MODEL_LABEL_PREFIX + value] = "true"
    return labels


def model_names_text(served_names: Iterable[str]) -> str:
    """Return the names as the annotation and the status carry them, e.g. `all-minilm;smollm2`."""
    return ";".join(sorted(set(served_names)))


def encode_all(served_names: Iterable[str]) -> dict[str, str]:
    """Encode names so that no two get the same label: `{name: label part}`, in the order of the names.

    Of names that encode alike, the one that needs no encoding keeps it and the others end in a short hash.
    """
    wanted = sorted(set(served_names))
    groups = collections.Counter(encode(name) for name in wanted)
    result = {}
    for name in wanted:
        value = encode(name)
        if groups[value] > 1 and value != name:
            value = _hashed(value, name)
        result[name] = value
    return result


def encode(name: str) -> str:
    """Return one name as a valid label part: at most 63 characters, beginning and ending alphanumeric."""
    value = _FORBIDDEN.sub("_", name)
    trimmed = value.strip("_.-")
    if trimmed != value or len(trimmed) > LIMIT:
        return _hashed(trimmed, name)
    return value


def join(parts: Iterable[str]) -> str:
    """Return encoded names as one label value: sorted, joined by `--`, cut with a hash when too long."""
    value = "--".join(sorted(parts))
    return value if len(value) <= LIMIT else _hashed(value, value)


def _hashed(value: str, source: str) -> str:
    digest = hashlib.sha256(source.encode()).hexdigest()[:_HASH_LENGTH]
    kept = value[: LIMIT - _HASH_LENGTH - 1].rstrip("_.-")
    return f"{kept}-{digest}" if kept else digest
