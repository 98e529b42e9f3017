"""What clients get back for embeddings: a list of vectors, as numbers or as base64 of 32-bit floats."""

import array
import base64
import sys
from collections.abc import Iterator

import msgspec

from modelset_proxy.openai import errors, pieces, requests

_vector = msgspec.json.Decoder(list[float])
_PART_BYTES = 128 * 1024


def answer(request: requests.EmbeddingRequest, embeddings: pieces.Embeddings) -> Iterator[bytes]:
    """Yield the body of an embeddings reply in parts; each is made in short time.

    Base64 is of little-endian IEEE 754 singles, which is what openai-python asks for by default and decodes.
    """
    if request.dimensions is not None:
        _check_dimensions(request.dimensions, embeddings.vectors)
    show = _base64 if request.encoding_format == "base64" else bytes
    part = bytearray(b'{"object":"list","data":[')
    for index, vector in enumerate(embeddings.vectors):
        part += b',{"object":"embedding","index":' if index else b'{"object":"embedding","index":'
        part += b'%d,"embedding":%b}' % (index, show(vector))
        if len(part) > _PART_BYTES:
            yield bytes(part)
            part.clear()
    usage = {"prompt_tokens": embeddings.prompt_tokens, "total_tokens": embeddings.prompt_tokens}
    yield part + b"]," + msgspec.json.encode({"model": request.model, "usage": usage})[1:]


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
