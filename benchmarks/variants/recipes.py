"""What variants are made of, and in which order they are asked. Pure."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping
from typing import Any

BASE = "smollm2:135m"
QUESTION = ({"role": "user", "content": "Who are you?"},)
_TOKENS = 8
# As many of one as have nothing in common with how many there are of the other.
_NAMES = ("Ada", "Bruno", "Clara", "Dimitri", "Elena", "Farid", "Greta", "Hugo", "Ines", "Jonas")
_WORK = ("baker", "pilot", "nurse", "poet", "sailor", "judge", "farmer", "singer", "plumber")


@dataclasses.dataclass(frozen=True)
class Variant:
    """Words of its own around the base's weights."""

    name: str
    system: str
    parameters: Mapping[str, Any]

    @property
    def by_hand(self) -> str:
        """What the model of the same words is called that the operator has no part in."""
        return f"{self.name}-by-hand"


def variants(count: int) -> list[Variant]:
    """Return so many, of which no two are told the same."""
    return [
        Variant(
            f"variant-{number}",
            f"You are {_NAMES[number % len(_NAMES)]}, a {_WORK[number % len(_WORK)]} for {number + 1} years.",
            {"temperature": 0, "seed": number, "num_predict": _TOKENS},
        )
        for number in range(count)
    ]


def interleaved(count: int, times: int) -> list[int]:
    """Return so many numbers, each so many times, in an order that is the same each run."""
    asked = [number for number in range(count) for _ in range(times)]
    random.Random(1).shuffle(asked)
    return asked
