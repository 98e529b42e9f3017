"""Eyes for a language model that has none: a projector, made by hand, that tells six colours.

No vision model has weights small enough for the tests and comes from a package registry. This one is LLaVA's
design (CLIP's patches, then two linear layers) on SmolLM2's own weights: each quarter of an image becomes the
embedding of the word for its colour, as if the user had written that word. It sees nothing but plain colours,
and that it does see: Ollama decodes the image, runs the tower and the model, and the answer depends on it.
"""

from __future__ import annotations

from pathlib import Path

from stack import gguf

PATCH = 14  # pixels a side, as CLIP has it
IMAGE = 2 * PATCH  # what every image is scaled to: four patches
# Of a patch's mean red, green and blue (0 to 1): a sum that is 1 for that colour, at most 0 for the others.
COLOURS: dict[str, tuple[tuple[float, float, float], float]] = {
    "red": ((1, -1, -1), 0),
    "green": ((-1, 1, -1), 0),
    "blue": ((-1, -1, 1), 0),
    "yellow": ((1, 1, -1), -1),
    "white": ((1, 1, 1), -2),
    "black": ((-1, -1, -1), 1),
}
# Between the two layers is a GELU. Far from zero it is what is wanted here: x above, nothing below.
STEEP = 20.0
CHANNELS = 3


def projector(text_model: Path) -> bytes:
    """A GGUF file that goes with the weights of `text_model`."""
    with text_model.open("rb") as file:
        words = _embeddings(gguf.Reader(file))
    width, known = len(words[0]), len(words)
    patches = (IMAGE // PATCH) ** 2
    averages = [
        1 / PATCH**2 if channel == feature else 0.0
        for feature in range(CHANNELS)
        for channel in range(CHANNELS)
        for _ in range(PATCH**2)
    ]
    metadata: dict[str, gguf.Value] = {
        "general.architecture": "clip",
        "general.type": "projector",
        "general.name": "six colours",
        "clip.has_vision_encoder": True,
        "clip.projector_type": "mlp",
        "clip.vision.image_size": IMAGE,
        "clip.vision.patch_size": PATCH,
        "clip.vision.embedding_length": CHANNELS,
        "clip.vision.feed_forward_length": CHANNELS,
        "clip.vision.projection_dim": width,
        "clip.vision.attention.head_count": 1,
        "clip.vision.attention.layer_norm_epsilon": 1e-5,
        "clip.vision.block_count": 0,
        "clip.vision.image_mean": [0.0] * CHANNELS,
        "clip.vision.image_std": [1.0] * CHANNELS,
    }
    tensors = {
        "v.patch_embd.weight": gguf.Tensor((PATCH, PATCH, CHANNELS, CHANNELS), averages),
        "v.position_embd.weight": gguf.Tensor((CHANNELS, patches), [0.0] * (CHANNELS * patches)),
        "mm.0.weight": gguf.Tensor(
            (CHANNELS, known), [STEEP * factor for factors, _ in COLOURS.values() for factor in factors]
        ),
        "mm.0.bias": gguf.Tensor((known,), [STEEP * constant for _, constant in COLOURS.values()]),
        "mm.2.weight": gguf.Tensor(
            (known, width), [weight / STEEP for of_all in zip(*words, strict=True) for weight in of_all]
        ),
        "mm.2.bias": gguf.Tensor((width,), [0.0] * width),
    }
    return gguf.pack(metadata, tensors)


def _embeddings(model: gguf.Reader) -> list[list[float]]:
    """The row of each colour's word with a space before it, which the vocabulary writes as Ġ."""
    vocabulary: list[str] = model.metadata["tokenizer.ggml.tokens"]
    return [model.row("token_embd.weight", vocabulary.index(f"Ġ{colour}")) for colour in COLOURS]
