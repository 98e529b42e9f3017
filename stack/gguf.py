"""The little of GGUF, the file format of Ollama's weights, that making a model from another one takes.

https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import struct
from array import array
from dataclasses import dataclass
from typing import Any, BinaryIO

MAGIC = b"GGUF"
VERSION = 3
ALIGNMENT = 32
F32, Q8_0 = 0, 8
Q8_0_WEIGHTS = 32  # in a block, after the scale they share
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
UINT32, FLOAT32, BOOL, STRING, ARRAY = 4, 6, 7, 8, 9

Value = str | bool | int | float | list[float]


@dataclass(frozen=True)
class Tensor:
    """Weights; the first of `shape` is the length of a row, as ggml counts dimensions."""

    shape: tuple[int, ...]
    weights: list[float]


@dataclass(frozen=True)
class _Place:
    """Where a tensor of a file lies, and how its weights are packed."""

    shape: tuple[int, ...]
    packing: int
    offset: int


class Reader:
    """A file's metadata, and rows of its tensors."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        if file.read(4) != MAGIC:
            raise ValueError("not a GGUF file")
        version, tensors, entries = self._unpack("IQQ")
        if version != VERSION:
            raise ValueError(f"GGUF version {version} is not {VERSION}")
        self.metadata: dict[str, Any] = {}
        for _ in range(entries):
            key = self._string()
            self.metadata[key] = self._value(self._unpack("I")[0])
        self._places = dict(self._place() for _ in range(tensors))
        self._start = _aligned(file.tell())

    def row(self, name: str, index: int) -> list[float]:
        """One row of a tensor of 32-bit floats or Q8_0, as the embeddings of so small a model are packed."""
        place = self._places[name]
        width = place.shape[0]
        start = self._start + place.offset
        if place.packing == F32:
            self._file.seek(start + index * width * struct.calcsize("f"))
            return list(self._unpack(f"{width}f"))
        if place.packing != Q8_0:
            raise ValueError(f"{name} is packed as type {place.packing}, neither as {F32} nor as {Q8_0}")
        block = f"e{Q8_0_WEIGHTS}b"
        blocks = width // Q8_0_WEIGHTS
        self._file.seek(start + index * blocks * struct.calcsize(f"<{block}"))
        packed = (self._unpack(block) for _ in range(blocks))
        return [scale * weight for scale, *weights in packed for weight in weights]

    def _unpack(self, layout: str) -> tuple[Any, ...]:
        return struct.unpack(f"<{layout}", self._file.read(struct.calcsize(f"<{layout}")))

    def _string(self) -> str:
        return self._file.read(self._unpack("Q")[0]).decode()

    def _value(self, kind: int) -> Any:
        if kind == STRING:
            return self._string()
        if kind == ARRAY:
            of, length = self._unpack("IQ")
            if of in SCALARS:
                return list(self._unpack(f"{length}{SCALARS[of]}"))
            return [self._value(of) for _ in range(length)]
        return self._unpack(SCALARS[kind])[0]

    def _place(self) -> tuple[str, _Place]:
        name = self._string()
        shape = self._unpack(f"{self._unpack('I')[0]}Q")
        packing, offset = self._unpack("IQ")
        return name, _Place(shape, packing, offset)


def pack(metadata: dict[str, Value], tensors: dict[str, Tensor]) -> bytes:
    """A GGUF file; weights are stored as 32-bit floats. The same input gives the same bytes."""
    head = MAGIC + struct.pack("<IQQ", VERSION, len(tensors), len(metadata))
    for key, value in metadata.items():
        head += _string(key) + _typed(value)
    data = b""
    for name, tensor in tensors.items():
        if len(tensor.weights) != math.prod(tensor.shape):
            raise ValueError(f"{name}: {len(tensor.weights)} weights do not fill {tensor.shape}")
        head += _string(name) + struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape)
        head += struct.pack("<IQ", F32, len(data))
        data += _padded(array("f", tensor.weights).tobytes())
    return _padded(head) + data


def _string(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def _typed(value: Value) -> bytes:
    if isinstance(value, str):
        return struct.pack("<I", STRING) + _string(value)
    if isinstance(value, bool):
        return struct.pack("<I?", BOOL, value)
    if isinstance(value, int):
        return struct.pack("<II", UINT32, value)
    if isinstance(value, float):
        return struct.pack("<If", FLOAT32, value)
    return struct.pack(f"<IIQ{len(value)}f", ARRAY, FLOAT32, len(value), *value)


def _aligned(position: int) -> int:
    return -(-position // ALIGNMENT) * ALIGNMENT


def _padded(content: bytes) -> bytes:
    return content.ljust(_aligned(len(content)), b"\0")
