"""Pictures that are small enough to be drawn here, and questions about them."""

from __future__ import annotations

import base64
import struct
import zlib

from openai.types.chat import ChatCompletionContentPartParam, ChatCompletionMessageParam

Colour = tuple[int, int, int]
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def looking(*urls: str) -> list[ChatCompletionMessageParam]:
    """A conversation about images."""
    images: list[ChatCompletionContentPartParam] = [
        {"type": "image_url", "image_url": {"url": url}} for url in urls
    ]
    return [{"role": "user", "content": [*images, {"type": "text", "text": "Which colour do you see?"}]}]


def picture(colour: Colour, side: int = 32) -> str:
    """A PNG of one colour, as a data: URL."""
    return as_url(png(colour, side))


def as_url(image: bytes) -> str:
    """Bytes as the data: URL of an image."""
    return f"data:image/png;base64,{base64.b64encode(image).decode()}"


def png(colour: Colour, side: int = 32) -> bytes:
    """A PNG of one colour."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    rows = zlib.compress((b"\0" + bytes(colour) * side) * side)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
