"""Requests that the servers' own OpenAI routes answer: only the model's name is changed, both ways.

Pure. ``/v1/responses`` carries JSON, ``/v1/audio/transcriptions`` a form. What is passed on is made anew from
what was read here, never the client's bytes: two readers may see two things in them.
"""

import unicodedata
from collections.abc import Iterator
from typing import Any

import msgspec

from modelset_proxy.openai import errors, forms

_JSON = b"application/json"
# Where the API has the parts of a conversation.
_CONTENTS = ("input", "content", "output")
# What is read here. Servers written in Go take these names in any case, and the last of several.
_READ = {"model", "stream", "type", "image_url", *_CONTENTS}
# No server's readers go deeper, and ours must not follow a client into the depths.
_DEPTH = 8


class Passed(msgspec.Struct):
    """A request whose model was found; ``rename`` makes the body for the server.

    ``images`` are those that it carries itself: where each is, and its base64.
    """

    model: str
    stream: bool
    fields: dict[str, Any] | forms.Form
    images: list[tuple[str, str]] = []

    def rename(self, native: str) -> tuple[bytes, bytes]:
        """Return the content type and the body with the upstream's name of the model."""
        if isinstance(self.fields, forms.Form):
            return self.fields.encode(model=native)
        return _JSON, msgspec.json.encode({**self.fields, "model": native})


def json_request(body: bytes) -> Passed:
    """Read the model and whether a stream is wanted; raises a 400.

    All else is the engine's and its servers' to judge.
    """
    try:
        fields = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise errors.invalid(f"The request body is not valid JSON: {problem}.", code="invalid_json") from None
    if not isinstance(fields, dict):
        raise errors.invalid("The body must be a JSON object.", code="invalid_value")
    _check_names(fields, "")
    model, stream = fields.get("model"), fields.get("stream")
    if not isinstance(model, str):
        raise errors.invalid("'model' must be given, as a string.", param="model")
    if not isinstance(stream, bool | None):
        raise errors.invalid("'stream' must be true or false.", param="stream")
    images = [found for name in _CONTENTS for found in _images(fields.get(name), name, _DEPTH)]
    return Passed(model, bool(stream), fields, images)


def _check_names(fields: dict[str, Any], where: str) -> None:
    """Refuse a name that only a server would read as one of those that are looked at here."""
    for name in fields:
        if name not in _READ and (meant := _folded(name)) in _READ:
            param = f"{where}.{name}".lstrip(".")
            raise errors.invalid(
                f"Unknown parameter: '{param}'. Write '{meant}'.", param=param, code="unknown_parameter"
            )


def _folded(name: str) -> str:
    # Go's encoding/json also takes the long s for an s and the Kelvin sign for a k, as this does.
    return unicodedata.normalize("NFKC", name).casefold()


def _images(value: Any, where: str, depth: int) -> Iterator[tuple[str, str]]:
    """Find the images in base64, and where they are; check all names on the way."""
    if isinstance(value, list):
        for number, item in enumerate(value):
            yield from _images(item, f"{where}[{number}]", depth)
    elif isinstance(value, dict):
        if not depth:
            raise errors.invalid("The parts of the conversation are nested too deeply.", param=where)
        _check_names(value, where)
        match value:
            case {"type": "input_image", "image_url": str(url)} if url.startswith("data:"):
                yield f"{where}.image_url", url.partition(",")[2]
        for name in _CONTENTS:
            yield from _images(value.get(name), f"{where}.{name}", depth - 1)


def form_request(content_type: bytes, body: bytes) -> Passed:
    """Read the model of a multipart form; raises a 400."""
    form = forms.form(content_type, body)
    model = form.text("model")
    if model is None:
        raise errors.invalid(
            "Missing required parameter: 'model'.", param="model", code="missing_required_parameter"
        )
    return Passed(model, False, form)


class Renamer:
    """Puts the served name into an answer, line by line, wherever the reads end."""

    def __init__(self, native: str, served: str) -> None:
        # Within a JSON string a quote is escaped, so this matches fields only.
        self._native = b'"model":' + msgspec.json.encode(native)
        self._served = b'"model":' + msgspec.json.encode(served)
        self._partial = b""

    def feed(self, data: bytes) -> bytes:
        """Return the lines that are complete now."""
        head, newline, self._partial = (self._partial + data).rpartition(b"\n")
        return (head + newline).replace(self._native, self._served)

    def rest(self) -> bytes:
        """Return what came after the last line break."""
        rest, self._partial = self._partial, b""
        return rest.replace(self._native, self._served)
