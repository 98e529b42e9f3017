"""A LoRA adapter, made by hand: small changes to a model's own weights, the same for the same model.

No adapter for weights as small as those of the tests comes from a package registry. This one has learnt
nothing: what counts is that Ollama applies it, and that answers are others than without it.
"""

from __future__ import annotations

import random
from pathlib import Path

from stack import gguf

RANK = 4
# Enough for other answers, and little enough that they are words.
STRENGTH = 1.5
SEED = 1


def adapter(text_model: Path) -> bytes:
    """A GGUF file that goes with the weights of `text_model`: to what each layer's attention asks for."""
    with text_model.open("rb") as file:
        metadata = gguf.Reader(file).metadata
    kind = metadata["general.architecture"]
    width, layers = metadata[f"{kind}.embedding_length"], metadata[f"{kind}.block_count"]
    numbers = random.Random(SEED)  # noqa: S311 - nothing secret

    def matrix(columns: int, rows: int, deviation: float) -> gguf.Tensor:
        return gguf.Tensor((columns, rows), [numbers.gauss(0, deviation) for _ in range(columns * rows)])

    tensors = {}
    for layer in range(layers):
        name = f"blk.{layer}.attn_q.weight"
        # What comes in has about one unit in each place, and is to leave so many in each.
        tensors[f"{name}.lora_a"] = matrix(width, RANK, width**-0.5)
        tensors[f"{name}.lora_b"] = matrix(RANK, width, STRENGTH * RANK**-0.5)
    about: dict[str, gguf.Value] = {
        "general.architecture": kind,
        "general.type": "adapter",
        "general.name": "other questions",
        "adapter.type": "lora",
        "adapter.lora.alpha": float(RANK),
    }
    return gguf.pack(about, tensors)
