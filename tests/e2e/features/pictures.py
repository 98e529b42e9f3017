"""Pictures as URLs, and questions about them."""

from __future__ import annotations

import base64

from openai.types.chat import ChatCompletionContentPartParam, ChatCompletionMessageParam

from serve_app.tests.pictures import Colour, png

SIDE = 32
GREEN, BLUE = (0, 255, 0), (0, 0, 255)


def looking(*urls: str) -> list[ChatCompletionMessageParam]:
    """A conversation about images."""
    images: list[ChatCompletionContentPartParam] = [
        {"type": "image_url", "image_url": {"url": url}} for url in urls
    ]
    return [{"role": "user", "content": [*images, {"type": "text", "text": "Which colour do you see?"}]}]


def picture(colour: Colour, side: int = SIDE) -> str:
    """A PNG of one colour, as a data: URL."""
    return as_url(png(colour, side))


def as_url(image: bytes) -> str:
    """Bytes as the data: URL of an image."""
    return f"data:image/png;base64,{base64.b64encode(image).decode()}"
