"""Amounts as Kubernetes writes them, such as `20Gi`."""

import decimal
import re
from collections.abc import Sequence

_DECIMAL = {suffix: decimal.Decimal(10) ** (3 * power) for power, suffix in enumerate("num kMGTPE", start=-3)}
_BINARY = {f"{suffix}i": decimal.Decimal(1024) ** power for power, suffix in enumerate("KMGTPE", start=1)}
_UNITS = {**_DECIMAL, **_BINARY, "": decimal.Decimal(1)}
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)([A-Za-z]*)")


def parse(text: str) -> decimal.Decimal:
    """Return the amount. Raises ValueError."""
    found = _QUANTITY.fullmatch(text)
    if found is None or found[2] not in _UNITS:
        raise ValueError(f"{text!r} is no amount, such as 20Gi")
    return decimal.Decimal(found[1]) * _UNITS[found[2]]


def rounded(count: int, base: int, units: Sequence[str]) -> str:
    """Return an amount in the largest unit of which there is one; a unit is `base` of the one before."""
    value = float(count)
    for unit in units[:-1]:
        if value < base:
            return f"{value:.0f}{unit}"
        value /= base
    return f"{value:.1f}{units[-1]}"
