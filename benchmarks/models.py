"""The models that real Ollamas are asked for here: those of the demo, and copies of its chat model.

Ollama keeps models apart by the digest of their weights, so letters of the name inside each copy's are in
another case. Copies run one thread: each server has one core of its own, as a pod on a small node would, and
more threads than cores make Ollama's wait for each other ten times as long as they work.
"""

from __future__ import annotations

from collections.abc import Sequence

from stack import models, ollama

CHAT, EMBEDDING = models.SMOLLM2.name, models.MINILM.name
_NAME_KEY = b"general.name"
_TYPE_AND_LENGTH = 4 + 8  # bytes in a GGUF between a key and its string
_OTHER_CASE = 0x20


def make_demo(url: str) -> None:
    """Give a server the chat and the embedding model of the demo."""
    for model in (models.SMOLLM2, models.MINILM):
        models.create(url, model.name, model)


def make_copies(url: str, names: Sequence[str]) -> None:
    """Give a server, and all that share its folder, the chat model under each name."""
    weights = (models.source(models.SMOLLM2) / models.SMOLLM2.files[0]).read_bytes()
    for number, name in enumerate(names):
        copy = {"model.gguf": renamed(weights, number)}
        ollama.create(url, name, copy, parameters={"num_thread": 1})


def renamed(weights: bytes, number: int) -> bytes:
    """Return a GGUF's bytes with the letters of its name in another case that a number's bits name."""
    changed = bytearray(weights)
    at = changed.index(_NAME_KEY) + len(_NAME_KEY) + _TYPE_AND_LENGTH
    for bit in range(number.bit_length()):
        if number >> bit & 1:
            changed[at + bit] ^= _OTHER_CASE
    return bytes(changed)
