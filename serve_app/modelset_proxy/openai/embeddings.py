"""What clients get back for embeddings: a list of vectors, as numbers or as base64 of 32-bit floats."""

import array
import base64
import sys

import msgspec

from modelset_proxy.openai import errors, pieces, requests

_vector = msgspec.json.Decoder(list[float])


def answer(request: requests.EmbeddingRequest, embeddings: pieces.Embeddings) -> bytes:
    """Return the body of an embeddings reply.

    Base64 is of little-endian IEEE 754 singles, which is what openai-python asks for by default and decodes.
    """
    if request.dimensions is not None:
        _check_dimensions(request.dimensions, embeddings.vectors)
    vectors: list[msgspec.Raw | str] = list(embeddings.vectors)
    if request.encoding_format == "base64":
        vectors = [_base64(vector) for vector in embeddings.vectors]
    usage = {"prompt_tokens": embeddings.prompt_tokens, "total_tokens": embeddings.prompt_tokens}
    return msgspec.json.encode(
        {
            "object": "list",
            "data": [
                {"object": "embedding", "index": index, "embedding": vector}
                for index, vector in enumerate(vectors)
            ],
            "model": request.model,
            "usage": usage,
        }
    )


def _check_dimensions(wanted: int, vectors: list[msgspec.Raw]) -> None:
    # The model server shortens vectors and leaves those alone that are shorter already.
    for vector in vectors:
        if len(_vector.decode(vector)) != wanted:
            raise errors.invalid(
                f"This model's vectors have fewer than {wanted} dimensions.",
                param="dimensions",
                code="invalid_value",
            )


def _base64(vector: msgspec.Raw) -> str:
    numbers = array.array("f", _vector.decode(vector))
    if sys.byteorder == "big":
        numbers.byteswap()
    return base64.b64encode(numbers.tobytes()).decode("ascii")
