"""Answers that are full of vectors, which are megabytes: read as they come, of any engine. Pure."""

import re
from collections.abc import Callable, Iterator

import msgspec

from modelset_proxy.engines import decoders, port
from modelset_proxy.openai import pieces

# A list of numbers and nothing else is a vector, wherever it is.
_vector = re.compile(rb"\[[-+.0-9eE,\s]+\]")
_numbers = msgspec.json.Decoder(list[float])


class Vectors:
    """Takes the vectors out of an answer; implements ``decoders.Decoder``.

    ``read`` gets the answer with their numbers in their places, and returns these in the order of the texts,
    and how it went. It raises ApiError, or BrokenAnswerError.
    """

    def __init__(
        self, read: Callable[[bytes], tuple[list[int], port.Outcome]], attempt: port.Attempt
    ) -> None:
        self._read = read
        self._attempt = attempt
        self._rest: list[bytes] = []
        self._unread = b""
        self._vectors: list[msgspec.Raw] = []

    def feed(self, data: bytes) -> Iterator[pieces.Embeddings]:
        """Keep the vectors that are complete now: there is one answer, at the end."""
        data = self._unread + data
        begin = 0
        for found in _vector.finditer(data):
            self._rest.append(b"%b%d" % (data[begin : found.start()], len(self._vectors)))
            self._vectors.append(self._checked(found[0]))
            begin = found.end()
        last = data.rfind(b"[", begin)
        goes_on = last if last >= 0 and data.find(b"]", last) < 0 else len(data)
        self._rest.append(data[begin:goes_on])
        self._unread = data[goes_on:]
        return iter(())

    def end(self) -> Iterator[pieces.Embeddings]:
        """Yield the answer."""
        try:
            numbers, outcome = self._read(b"".join((*self._rest, self._unread)))
        except decoders.BrokenAnswerError as problem:
            raise decoders.broken(problem, self._attempt) from None
        if any(not 0 <= number < len(self._vectors) for number in numbers):
            nothing = decoders.BrokenAnswerError("something else in the place of a vector")
            raise decoders.broken(nothing, self._attempt)
        self._attempt.outcome = outcome
        yield pieces.Embeddings([self._vectors[number] for number in numbers], outcome.prompt_tokens)

    def _checked(self, vector: bytes) -> msgspec.Raw:
        try:
            _numbers.decode(vector)
        except msgspec.DecodeError as problem:
            broken = decoders.BrokenAnswerError(f"not a vector: {problem}")
            raise decoders.broken(broken, self._attempt) from None
        return msgspec.Raw(vector)
