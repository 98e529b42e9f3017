"""Whether bytes are a whole image that any model may be given, told without decoding them.

Ollama runs models with a projector (llava and its like) in a process that dies of an image it cannot decode,
seen with 0.17.4, and the answers of all its other clients end with it. So what is cut off, damaged or not an
image is refused before it gets there.

PNG and JPEG are what all of Ollama's image readers take: the one for projectors dies of a whole WebP, the
others know no GIF, and nothing tells the proxy which of them a model has.

The checks are our own, not Pillow's. What Pillow decodes may still be too much for Ollama's decoder, which is
another one; verifying a PNG is the same walk over chunks and checksums there as here, and a JPEG is verified
by decoding it or not at all. Decoding holds up every other stream meanwhile, and is what bombs are made for.
"""

import base64
import binascii
import re
import struct
import zlib

from modelset_proxy.openai import errors

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

_CUT_OFF = "it is cut off"
_DAMAGED = "it is damaged"


def check(text: str, param: str) -> None:
    """Raise a 400 for an image in base64 that no model may be given; ``param`` is where it is."""
    if found := encoded_flaw(text):
        raise errors.invalid(f"The image cannot be used: {found}.", param=param, code="invalid_value")


def encoded_flaw(text: str) -> str | None:
    """Return what is wrong with an image in base64, as ``flaw`` does."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return "it is not valid base64"
    return flaw(data)


def flaw(data: bytes) -> str | None:
    """Return what is wrong with an image, to stand within a sentence; None for one that is whole."""
    if not data:
        return "it is empty"
    if data.startswith(_PNG):
        return _png_flaw(data)
    if data.startswith(_JPEG):
        return _jpeg_flaw(data)
    return "it is neither PNG nor JPEG, the formats that are supported here"


def _png_flaw(data: bytes) -> str | None:
    position = len(_PNG)
    has_size = has_pixels = False
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        content, end = position + 8, position + 12 + length
        if end > len(data):
            break
        (checksum,) = struct.unpack_from(">I", data, end - 4)
        if zlib.crc32(memoryview(data)[content - 4 : end - 4]) != checksum:
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
        position = end
    return _CUT_OFF


def _jpeg_flaw(data: bytes) -> str | None:
    position = len(_JPEG)
    has_size = has_pixels = False
    while marker := _MARKER.search(data, position):
        kind, position = marker[0][1], marker.end()
        if kind == _END_OF_IMAGE:
            return None if has_pixels else _DAMAGED
        length = int.from_bytes(data[position : position + 2])
        if position + length > len(data):
            break
        if length < 2:
            return _DAMAGED
        if kind in _FRAMES:
            if problem := _frame_flaw(kind, data[position : position + length]):
                return problem
            has_size = True
        if kind == _START_OF_SCAN:
            if not has_size:
                return _DAMAGED
            has_pixels = True
        position += length
    return _CUT_OFF


def _frame_flaw(kind: int, frame: bytes) -> str | None:
    if len(frame) < 8:
        return _DAMAGED
    if kind not in _READABLE_FRAMES or frame[2] != _BITS:
        return "it is neither a baseline nor a progressive JPEG of 8 bits, the kinds that are supported here"
    return _size_flaw(*struct.unpack_from(">HH", frame, 3))


def _size_flaw(first_side: int, other_side: int) -> str | None:
    pixels = first_side * other_side
    if pixels > _MAX_PIXELS:
        return f"it has more than {_MAX_PIXELS // 1_000_000} million pixels"
    return None if pixels else _DAMAGED
