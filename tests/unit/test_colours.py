"""The projector that lets a text model tell colours, against a text model of twelve words."""

from __future__ import annotations

import io
import math
import struct
from pathlib import Path

import pytest

from stack import colours, gguf

WIDTH = gguf.Q8_0_WEIGHTS
WORDS = ["red", "Ġsaw", *(f"Ġ{colour}" for colour in colours.COLOURS), "Ġa", "Ġbird", "Ġyellow!", "."]
PURE = {
    "red": (1.0, 0.0, 0.0),
    "green": (0.0, 1.0, 0.0),
    "blue": (0.0, 0.0, 1.0),
    "yellow": (1.0, 1.0, 0.0),
    "white": (1.0, 1.0, 1.0),
    "black": (0.0, 0.0, 0.0),
}


@pytest.fixture
def text_model(tmp_path: Path) -> Path:
    """Word number n has n as each of its weights."""
    path = tmp_path / "model.gguf"
    head = gguf.MAGIC + struct.pack("<IQQ", gguf.VERSION, 1, 2)
    head += _text("tokenizer.ggml.tokens") + struct.pack("<IIQ", gguf.ARRAY, gguf.STRING, len(WORDS))
    head += b"".join(_text(word) for word in WORDS)
    head += _text("general.quantized_by") + struct.pack("<I", gguf.STRING) + _text("this test")
    head += _text("token_embd.weight") + struct.pack("<IQQIQ", 2, WIDTH, len(WORDS), gguf.Q8_0, 0)
    rows = (struct.pack(f"<e{WIDTH}b", 0.5, *[2 * number] * WIDTH) for number in range(len(WORDS)))
    path.write_bytes(head.ljust(-(-len(head) // gguf.ALIGNMENT) * gguf.ALIGNMENT, b"\0") + b"".join(rows))
    return path


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


@pytest.mark.parametrize("colour", colours.COLOURS)
def test_a_colour_becomes_the_embedding_of_its_word(text_model: Path, colour: str) -> None:
    projector = gguf.Reader(io.BytesIO(colours.projector(text_model)))
    assert _seen(projector, PURE[colour]) == pytest.approx([WORDS.index(f"Ġ{colour}")] * WIDTH, rel=1e-3)


def test_a_mix_of_two_colours_is_a_mix_of_their_words(text_model: Path) -> None:
    projector = gguf.Reader(io.BytesIO(colours.projector(text_model)))
    expected = (WORDS.index("Ġred") + WORDS.index("Ġblack")) / 2
    assert _seen(projector, (0.5, 0.0, 0.0)) == pytest.approx([expected] * WIDTH, rel=1e-3)


def test_the_same_model_gives_the_same_bytes(text_model: Path) -> None:
    assert colours.projector(text_model) == colours.projector(text_model)


def test_a_file_that_is_not_gguf_is_refused() -> None:
    with pytest.raises(ValueError, match="not a GGUF file"):
        gguf.Reader(io.BytesIO(b"PK\3\4"))


def _seen(projector: gguf.Reader, colour: tuple[float, float, float]) -> list[float]:
    """What the language model gets for a patch of one colour."""
    hidden = [
        _gelu(_dot(projector.row("mm.0.weight", unit), colour) + constant)
        for unit, constant in enumerate(projector.row("mm.0.bias", 0))
    ]
    return [_dot(projector.row("mm.2.weight", place), hidden) for place in range(WIDTH)]


def _dot(one: list[float], other: list[float] | tuple[float, ...]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def _gelu(x: float) -> float:
    return x * (1 + math.erf(x / math.sqrt(2))) / 2
