"""Frames of server-sent events as OpenAI's streams use them: data lines only, ended by ``[DONE]``."""

from modelset_proxy.openai import errors

DONE = b"data: [DONE]\n\n"


def frame(payload: bytes) -> bytes:
    """Wrap one JSON text (which holds no raw line break) into an event."""
    return b"data: " + payload + b"\n\n"


def named(name: str, payload: bytes) -> bytes:
    """Wrap one JSON text into an event that has a name."""
    return b"event: " + name.encode() + b"\n" + frame(payload)


def failure(error: errors.ApiError) -> bytes:
    """Return the event for a failure in mid-stream; clients raise on its ``error``. Nothing follows it."""
    return frame(error.body())
