"""How long a prompt is, and with which others it begins alike: what choosing a slot needs to know."""

import itertools
from collections.abc import Iterable

import msgspec

# A slot's cache is kept by tokens; a block is about 64 of them.
_BLOCK_BYTES = 256
# What comes later decides little, and long prompts must not cost more than they gain.
_MOST_BLOCKS = 128
# Counting more parts would take longer than what it tells is worth.
_MOST_PARTS = 4096
# English text and code; only orders of magnitude matter here.
_CHARACTERS_PER_TOKEN = 4


class Prompt(msgspec.Struct, frozen=True):
    """``prefix[i]`` is equal for prompts whose first ``i + 1`` blocks are; ``tokens`` is a guess."""

    prefix: tuple[int, ...] = ()
    tokens: int = 0


def prompt(model: str, parts: Iterable[str]) -> Prompt:
    """Return what is to be known of a prompt that consists of parts, in order.

    Hashes differ from process to process: they are for one dispatcher.
    """
    beginning: list[str] = [model]
    wanted = _MOST_BLOCKS * _BLOCK_BYTES
    characters = 0
    for part in itertools.islice(parts, _MOST_PARTS):
        if wanted > 0:
            beginning.append(part[:wanted])
            wanted -= len(part) + 1
        characters += len(part)
    text = "\0".join(beginning).encode("utf-8", "surrogatepass")
    chain: list[int] = []
    for start in range(0, min(len(text), _MOST_BLOCKS * _BLOCK_BYTES), _BLOCK_BYTES):
        block = text[start : start + _BLOCK_BYTES]
        chain.append(hash((chain[-1] if chain else 0, block)))
    return Prompt(tuple(chain), characters // _CHARACTERS_PER_TOKEN + 1)
