"""Images: whole ones of eight by eight pixels, as encoders made them, and what is none."""

import base64
import struct
import zlib

Colour = tuple[int, int, int]
RED: Colour = (255, 0, 0)
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def png(colour: Colour = RED, side: int = 8) -> bytes:
    """A PNG of one colour."""
    return _png(side, (b"\0" + bytes(colour) * side) * side)


def cut_up(chunks: int) -> bytes:
    """A PNG with so many chunks in all, nearly all of them of one byte."""
    whole = png()
    return whole[:33] + _chunk(b"tEXt", b"x") * (chunks - 3) + whole[33:]


def segmented(segments: int) -> bytes:
    """A JPEG with so many empty segments more than others."""
    return PROGRESSIVE[:2] + b"\xff\xe1\0\2" * segments + PROGRESSIVE[2:]


def stuffed(size: int, filler: bytes) -> bytes:
    """A JPEG whose last scan is so many bytes longer."""
    return PROGRESSIVE[:-2] + filler * (size // len(filler)) + PROGRESSIVE[-2:]


def commented(size: int) -> bytes:
    """A PNG with a chunk of so many bytes that is none of its pixels."""
    whole = png()
    return whole[:33] + _chunk(b"tEXt", bytes(size)) + whole[33:]


def said_to_have(side: int) -> bytes:
    """A PNG that is said to be a square with this side, and has the pixels of a small one."""
    return _png(side, _ROWS)


def _png(side: int, rows: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return _SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


# Of four scans; its quantisation and Huffman tables lie between them.
PROGRESSIVE = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABsSFBcUERsXFhceHBsgKEIrKCUlKFE6PTBCYFVlZF9VXVtqeJmBanGQc1tdhbWGkJ6j"
    "q62rZ4C8ybqmx5moq6T/2wBDARweHigjKE4rK06kbl1upKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSk"
    "pKSkpKSkpKT/wgARCAAIAAgDASIAAhEBAxEB/8QAFQABAQAAAAAAAAAAAAAAAAAAAAT/xAAVAQEBAAAAAAAAAAAAAAAAAAADBf/a"
    "AAwDAQACEAMQAAABnA0v/8QAFBABAAAAAAAAAAAAAAAAAAAAAP/aAAgBAQABBQJ//8QAFBEBAAAAAAAAAAAAAAAAAAAAAP/aAAgB"
    "AwEBPwF//8QAFBEBAAAAAAAAAAAAAAAAAAAAAP/aAAgBAgEBPwF//8QAFBABAAAAAAAAAAAAAAAAAAAAAP/aAAgBAQAGPwJ//8QA"
    "FBABAAAAAAAAAAAAAAAAAAAAAP/aAAgBAQABPyF//9oADAMBAAIAAwAAABDz/8QAFBEBAAAAAAAAAAAAAAAAAAAAAP/aAAgBAwEB"
    "PxB//8QAFBEBAAAAAAAAAAAAAAAAAAAAAP/aAAgBAgEBPxB//8QAFBABAAAAAAAAAAAAAAAAAAAAAP/aAAgBAQABPxB//9k="
)
BASELINE = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABsSFBcUERsXFhceHBsgKEIrKCUlKFE6PTBCYFVlZF9VXVtqeJmBanGQc1tdhbWGkJ6j"
    "q62rZ4C8ybqmx5moq6T/2wBDARweHigjKE4rK06kbl1upKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSk"
    "pKSkpKSkpKT/wAARCAAIAAgDASIAAhEBAxEB/8QAFQABAQAAAAAAAAAAAAAAAAAAAAT/xAAUEAEAAAAAAAAAAAAAAAAAAAAA/8QA"
    "FQEBAQAAAAAAAAAAAAAAAAAABAb/xAAUEQEAAAAAAAAAAAAAAAAAAAAA/9oADAMBAAIRAxEAPwCAANSP/9k="
)
WEBP = base64.b64decode("UklGRhwAAABXRUJQVlA4TA8AAAAvB8ABAAcQ/Y/+ByKi/wEA")
GIF = base64.b64decode("R0lGODdhCAAIAIEAAP8AAAAAAAAAAAAAACwAAAAACAAIAAAIDwABCBxIsKDBgwgTKkwYEAA7")

_FRAME = PROGRESSIVE.index(b"\xff\xc2")


def _framed(components: int, rest: bytes) -> bytes:
    """The progressive JPEG with a frame that says it has so many components, and has this instead."""
    frame = PROGRESSIVE[_FRAME + 4 : _FRAME + 9] + bytes([components]) + rest
    return PROGRESSIVE[: _FRAME + 2] + struct.pack(">H", 2 + len(frame)) + frame + PROGRESSIVE[_FRAME + 19 :]


WHOLE = {
    "png": png(),
    "progressive": PROGRESSIVE,
    "baseline": BASELINE,
    # Telephones append a film, cameras a preview.
    "jpeg-with-a-preview": (
        PROGRESSIVE[:2]
        + b"\xff\xe1"
        + struct.pack(">H", 2 + len(PROGRESSIVE))
        + PROGRESSIVE
        + PROGRESSIVE[2:]
    ),
    "jpeg-and-more": PROGRESSIVE + b"\0\0\0\x18ftypmp42" * 9,
    "png-and-more": png() + b"\n",
}
# Of a square of eight pixels, whatever is said in front of them.
_ROWS = (b"\0" + bytes(RED) * 8) * 8
_SCAN = PROGRESSIVE.index(b"\xff\xda")
BROKEN = {
    "empty": b"",
    "junk": b"not an image at all",
    "webp": WEBP,
    "gif": GIF,
    "only-a-signature": _SIGNATURE,
    "png-cut-off-in-a-chunk": png()[:50],
    "png-without-its-end": png()[:-12],
    "png-with-a-wrong-bit": _flipped(png(), 45),
    "png-without-pixels": _SIGNATURE + png()[8:33] + _chunk(b"IEND", b""),
    "png-without-a-header": _SIGNATURE + png()[33:],
    "png-with-a-short-header": _SIGNATURE + _chunk(b"IHDR", png()[16:24]) + png()[33:],
    "png-with-its-size-in-another-chunk": _SIGNATURE + _chunk(b"tEXt", png()[16:29]) + png()[33:],
    "png-of-no-size": said_to_have(0),
    "png-that-decodes-to-gigabytes": said_to_have(40_000),
    "only-a-start": b"\xff\xd8\xff",
    "jpeg-cut-off-before-its-frame": PROGRESSIVE[:_FRAME],
    "jpeg-cut-off-in-a-segment": PROGRESSIVE[: _FRAME + 9],
    "jpeg-cut-off-in-a-scan": PROGRESSIVE[: _SCAN + 15],
    "jpeg-without-its-end": PROGRESSIVE[:-2],
    "jpeg-without-scans": PROGRESSIVE[:_SCAN] + b"\xff\xd9",
    "jpeg-with-a-segment-of-no-length": PROGRESSIVE[:22] + b"\0\0" + PROGRESSIVE[24:],
    "jpeg-with-a-frame-of-a-few-bytes": PROGRESSIVE[: _FRAME + 3] + b"\3\x08" + PROGRESSIVE[_FRAME + 19 :],
    "jpeg-of-no-components": _framed(0, b""),
    "jpeg-of-two-components": _framed(2, b"\1\x11\0" * 2),
    "jpeg-with-fewer-components-than-it-says": _framed(3, b"\1\x11\0"),
    "jpeg-with-more-components-than-it-says": _framed(1, b"\1\x11\0" * 3),
    "jpeg-of-twelve-bits": PROGRESSIVE[: _FRAME + 4] + b"\x0c" + PROGRESSIVE[_FRAME + 5 :],
    "jpeg-of-no-size": PROGRESSIVE[: _FRAME + 5] + b"\0\0" + PROGRESSIVE[_FRAME + 7 :],
    "jpeg-of-no-width": PROGRESSIVE[: _FRAME + 7] + b"\0\0" + PROGRESSIVE[_FRAME + 9 :],
    "jpeg-that-decodes-to-gigabytes": PROGRESSIVE[: _FRAME + 5] + b"\xff" * 4 + PROGRESSIVE[_FRAME + 9 :],
    "jpeg-with-arithmetic-coding": PROGRESSIVE.replace(b"\xff\xc2", b"\xff\xc9"),
}
