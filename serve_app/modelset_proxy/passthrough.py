"""Requests that Ollama's own OpenAI and Anthropic routes answer: only the model's name is changed, both ways.

Pure. ``/v1/responses`` and ``/v1/messages`` carry JSON, ``/v1/audio/transcriptions`` a form.
"""

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from . import errors, images

# Where the two APIs have the parts of a conversation.
_CONTENTS = ("input", "messages")
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_FORM_MODEL = re.compile(
    rb'(content-disposition: *form-data; *name="?model"? *\r\n(?:[^\r\n]+\r\n)*\r\n)([^\r\n]*)', re.IGNORECASE
)


class Passed(msgspec.Struct):
    """A request whose model was found; ``rename`` makes the body for the upstream."""

    model: str
    stream: bool
    fields: dict[str, msgspec.Raw] | None
    form: bytes = b""

    def rename(self, native: str) -> bytes:
        """Return the body with the upstream's name of the model."""
        if self.fields is None:
            return _FORM_MODEL.sub(lambda found: found[1] + native.encode(), self.form, count=1)
        return msgspec.json.encode({**self.fields, "model": native})


def json_request(body: bytes) -> Passed:
    """Read the model and whether a stream is wanted; raises a 400.

    All else is the upstream's to judge, except images that it would not survive.
    """
    try:
        # As text: what is passed on raw is not looked into, and must be UTF-8 all the same.
        fields = _fields.decode(body.decode())
        model = msgspec.json.decode(fields.get("model", b"null"), type=str)
        stream = msgspec.json.decode(fields.get("stream", b"null"), type=bool | None)
        contents = {name: msgspec.json.decode(fields[name]) for name in _CONTENTS if name in fields}
    except msgspec.ValidationError:
        raise errors.invalid(
            "The body must be an object with 'model', a string; 'stream' is true or false.", param="model"
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise errors.invalid(f"The request body is not valid JSON: {problem}.", code="invalid_json") from None
    for param, image in _images(contents, ""):
        if flaw := images.encoded_flaw(image):
            raise errors.invalid(f"The image cannot be used: {flaw}.", param=param, code="invalid_value")
    return Passed(model, bool(stream), fields)


def _images(value: Any, where: str) -> Iterator[tuple[str, str]]:
    """Find the images in base64, of either API, and where they are."""
    if isinstance(value, list):
        for number, item in enumerate(value):
            yield from _images(item, f"{where}[{number}]")
    elif isinstance(value, dict):
        match value:
            case {"type": "input_image", "image_url": str(url)} if url.startswith("data:"):
                yield f"{where}.image_url", url.partition(",")[2]
            case {"type": "image", "source": {"type": "base64", "data": str(data)}}:
                yield f"{where}.source.data", data
        for name in (*_CONTENTS, "content"):
            yield from _images(value.get(name), f"{where}.{name}".lstrip("."))


def form_request(body: bytes) -> Passed:
    """Read the model of a multipart form; raises a 400."""
    found = _FORM_MODEL.search(body)
    if found is None:
        raise errors.invalid(
            "Missing required parameter: 'model'.", param="model", code="missing_required_parameter"
        )
    return Passed(found[2].decode("utf-8", "replace"), False, None, body)


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
