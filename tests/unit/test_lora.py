"""The adapter that is made for a model, against a model of three small layers."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from stack import gguf, lora

WIDTH, LAYERS = 64, 3


@pytest.fixture
def text_model(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    about: dict[str, gguf.Value] = {
        "general.architecture": "llama",
        "llama.embedding_length": WIDTH,
        "llama.block_count": LAYERS,
    }
    path.write_bytes(gguf.pack(about, {}))
    return path


def test_ollama_takes_it_for_an_adapter_of_that_architecture(text_model: Path) -> None:
    about = gguf.Reader(io.BytesIO(lora.adapter(text_model))).metadata
    assert (about["general.type"], about["adapter.type"]) == ("adapter", "lora")
    assert about["general.architecture"] == "llama"
    assert about["adapter.lora.alpha"] == lora.RANK


def test_each_layer_is_changed_otherwise_and_always_in_the_same_way(text_model: Path) -> None:
    packed = lora.adapter(text_model)
    assert packed == lora.adapter(text_model)
    reader = gguf.Reader(io.BytesIO(packed))
    rows = [reader.row(f"blk.{layer}.attn_q.weight.lora_b", WIDTH - 1) for layer in range(LAYERS)]
    assert {len(row) for row in rows} == {lora.RANK}
    assert all(number for row in rows for number in row)
    assert len({tuple(row) for row in rows}) == LAYERS
    assert len(reader.row("blk.0.attn_q.weight.lora_a", lora.RANK - 1)) == WIDTH
