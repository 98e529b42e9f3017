"""What clients get back for embeddings: a list of vectors, as numbers or as base64 of 32-bit floats."""

import array
import base64
import sys
from collections.abc import Iterator

import msgspec

from modelset_proxy.openai import errors, parts, pieces, requests

_vector = msgspec.json.Decoder(list[float])


def answer(request: requests.EmbeddingRequest, embeddings: pieces.Embeddings) -> Iterator[bytes]:
    """Return the body of an embeddings reply, part by part.

    Base64 is of little-endian IEEE 754 singles, which is what openai-python asks for by default and decodes.
    """
    if request.dimensions is not None:
        _check_dimensions(request.dimensions, embeddings.vectors)
    show = _base64 if request.encoding_format == "base64" else bytes
    entries = (
        b'{"object":"embedding","index":%d,"embedding":%b}' % (index, show(vector))
        for index, vector in enumerate(embeddings.vectors)
    )
    usage = {"prompt_tokens": embeddings.prompt_tokens, "total_tokens": embeddings.prompt_tokens}
    tail = b"]," + msgspec.json.encode({"model": request.model, "usage": usage})[1:]
    return parts.around(entries, b'{"object":"list","data":[', lambda: tail)


def _check_dimensions(wanted: int, vectors: list[msgspec.Raw]) -> None:
    # The model server shortens vectors and leaves those alone that are shorter already.
    for vector in vectors:
        if bytes(vector).count(b",") + 1 != wanted:
            raise errors.invalid(
                f"This model's vectors have fewer than {wanted} dimensions.",
                param="dimensions",
                code="invalid_value",
            )


def _base64(vector: msgspec.Raw) -> bytes:
    numbers = array.array("f", _vector.decode(vector))
    if sys.byteorder == "big":
        numbers.byteswap()
    return b'"%b"' % base64.b64encode(numbers)
