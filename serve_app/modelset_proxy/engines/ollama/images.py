"""Whether bytes are a whole image that any model may be given, told without decoding them.

Ollama runs models with a projector (llava and its like) in a process that dies of an image it cannot decode,
seen with 0.17.4, and the answers of all its other clients end with it. So what is cut off, damaged or not an
image is refused before it gets there.

PNG and JPEG are what all of Ollama's image readers take: the one for projectors dies of a whole WebP, the
others know no GIF, and nothing tells the proxy which of them a model has.

The checks are our own, not Pillow's. What Pillow decodes may still be too much for Ollama's decoder, which is
another one; verifying a PNG is the same walk over chunks and checksums there as here, and a JPEG is verified
by decoding it or not at all. Decoding holds up every other stream meanwhile, and is what bombs are made for.

Looking at megabytes takes a while too, so it is done in steps. A thread would be no better: what takes long
here is C code that lets no other thread run.
"""

import asyncio
import base64
import binascii
import re
import struct
import zlib
from collections.abc import Generator, Iterable

from modelset_proxy.openai import errors

# About as many bytes are looked at in a step, in a millisecond or two; base64 comes in fours.
_STEP_BYTES = 128 * 1024
# A part of an image, however small, takes as long as some of its bytes.
_PART_BYTES = 512
# Encoders that cut most finely make half as many of what a body can hold.
_MOST_PARTS = 16_384
# More than any camera makes, less than Ollama's decoder gives up at; it holds three bytes a pixel.
_MAX_PIXELS = 100_000_000
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
# In the data of a scan 0xFF comes as FF 00, and FF D0 to FF D7 are restarts; a run of FF is padding.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_END_OF_IMAGE, _START_OF_SCAN = 0xD9, 0xDA
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Baseline, extended, progressive; Ollama's decoders know no others, and no other number of bits a sample.
_READABLE_FRAMES = frozenset({0xC0, 0xC1, 0xC2})
_BITS = 8
# Grey, coloured, or for print; each component takes three bytes after the first eight.
_FRAME_BYTES = frozenset(8 + 3 * components for components in (1, 3, 4))

_CUT_OFF = "it is cut off"
_DAMAGED = "it is damaged"
_TOO_MANY_PARTS = f"it has more than {_MOST_PARTS} chunks or segments"

# Yields after each step, and returns what is wrong with an image, to stand within a sentence, or None.
Look = Generator[None, None, str | None]


class Inspector:
    """Looks at the images of requests; all of them together take one step in each turn of the event loop."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def check(self, images: Iterable[tuple[str, str]]) -> None:
        """Raise a 400 for one that no model may be given. They come in base64, with where each was."""
        for param, text in images:
            if found := await self._flaw(look(text)):
                raise errors.invalid(f"The image cannot be used: {found}.", param=param, code="invalid_value")

    async def _flaw(self, steps: Look) -> str | None:
        while True:
            async with self._turn:
                try:
                    next(steps)
                except StopIteration as end:
                    found: str | None = end.value
                    return found
                await asyncio.sleep(0)


def look(text: str) -> Look:
    """Look at an image in base64."""
    data = yield from _decoded(text)
    if data is None:
        return "it is not valid base64"
    return (yield from _look(data))


def _decoded(text: str) -> Generator[None, None, bytearray | None]:
    if len(text) % 4:
        return None
    data = bytearray()
    for start in range(0, len(text), _STEP_BYTES):
        if 4 * len(data) != 3 * start:
            # It was padded before its end.
            return None
        try:
            data += base64.b64decode(text[start : start + _STEP_BYTES], validate=True)
        except (binascii.Error, ValueError):
            return None
        yield
    return data


def _look(data: bytearray) -> Look:
    if not data:
        return "it is empty"
    if data.startswith(_PNG):
        return (yield from _look_at_png(data))
    if data.startswith(_JPEG):
        return (yield from _look_at_jpeg(data))
    return "it is neither PNG nor JPEG, the formats that are supported here"


def _look_at_png(data: bytearray) -> Look:
    position = len(_PNG)
    has_size = has_pixels = False
    seen = 0
    for _ in range(_MOST_PARTS):
        if position + 12 > len(data):
            return _CUT_OFF
        length, kind = struct.unpack_from(">I4s", data, position)
        content, end = position + 8, position + 12 + length
        if end > len(data):
            return _CUT_OFF
        checksum = yield from _checksum(data, content - 4, end - 4)
        if (checksum,) != struct.unpack_from(">I", data, end - 4):
            return _DAMAGED
        if not has_size:
            if kind != b"IHDR" or length != 13:
                return _DAMAGED
            if problem := _size_flaw(*struct.unpack_from(">II", data, content)):
                return problem
            has_size = True
        has_pixels = has_pixels or kind == b"IDAT"
        if kind == b"IEND":
            return None if has_pixels else _DAMAGED
        seen += _PART_BYTES + length % _STEP_BYTES
        if seen >= _STEP_BYTES:
            seen = 0
            yield
        position = end
    return _TOO_MANY_PARTS


def _checksum(data: bytearray, position: int, end: int) -> Generator[None, None, int]:
    checksum = 0
    with memoryview(data) as view:
        while end - position > _STEP_BYTES:
            checksum = zlib.crc32(view[position : position + _STEP_BYTES], checksum)
            position += _STEP_BYTES
            yield
        return zlib.crc32(view[position:end], checksum)


def _look_at_jpeg(data: bytearray) -> Look:
    position = len(_JPEG)
    has_size = has_pixels = False
    seen = 0
    for _ in range(_MOST_PARTS):
        marker = yield from _marker(data, position)
        if marker is None:
            return _CUT_OFF
        seen += _PART_BYTES + (marker.end() - position) % _STEP_BYTES
        kind, position = marker[0][1], marker.end()
        if kind == _END_OF_IMAGE:
            return None if has_pixels else _DAMAGED
        length = int.from_bytes(data[position : position + 2])
        if problem := _segment_flaw(data, kind, position, length):
            return problem
        has_size = has_size or kind in _FRAMES
        if kind == _START_OF_SCAN:
            if not has_size:
                return _DAMAGED
            has_pixels = True
        if seen >= _STEP_BYTES:
            seen = 0
            yield
        position += length
    return _TOO_MANY_PARTS


def _marker(data: bytearray, position: int) -> Generator[None, None, re.Match[bytes] | None]:
    while position < len(data):
        if found := _MARKER.search(data, position, position + _STEP_BYTES):
            return found
        # Half of one may be the last byte.
        position += _STEP_BYTES - 1
        yield
    return None


def _segment_flaw(data: bytearray, kind: int, position: int, length: int) -> str | None:
    if position + length > len(data):
        return _CUT_OFF
    if length < 2:
        return _DAMAGED
    return _frame_flaw(kind, data[position : position + length]) if kind in _FRAMES else None


def _frame_flaw(kind: int, frame: bytearray) -> str | None:
    if len(frame) not in _FRAME_BYTES or len(frame) != 8 + 3 * frame[7]:
        return _DAMAGED
    if kind not in _READABLE_FRAMES or frame[2] != _BITS:
        return "it is neither a baseline nor a progressive JPEG of 8 bits, the kinds that are supported here"
    return _size_flaw(*struct.unpack_from(">HH", frame, 3))


def _size_flaw(first_side: int, other_side: int) -> str | None:
    pixels = first_side * other_side
    if pixels > _MAX_PIXELS:
        return f"it has more than {_MAX_PIXELS // 1_000_000} million pixels"
    return None if pixels else _DAMAGED
