"""From the bytes of one of Ollama's answers, as they come, to what the engine's jobs yield."""

from collections.abc import Iterator
from typing import Protocol, TypeVar

import msgspec

from modelset_proxy.engines import port
from modelset_proxy.engines.ollama import answers, going_on
from modelset_proxy.openai import errors, pieces

Decoded_co = TypeVar("Decoded_co", covariant=True)


class Decoder(Protocol[Decoded_co]):
    """Makes something of the bytes of one answer. What it raises, ApiErrors, ends the answer."""

    def feed(self, data: bytes) -> Iterator[Decoded_co]:
        """Yield what the next bytes hold; a failure in them comes after what came before it."""

    def end(self) -> Iterator[Decoded_co]:
        """Yield what is left now that the answer has ended."""


class Raw:
    """Hands on the bytes."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield them."""
        yield data

    def end(self) -> Iterator[bytes]:
        """Yield nothing: nothing is held back."""
        return iter(())


class Pieces:
    """Decodes the lines of ``/api/chat`` and ``/api/generate``; a list is what came together."""

    def __init__(
        self, reader: answers.Reader, attempt: port.Attempt, seam: going_on.Seam | None = None
    ) -> None:
        self._seam = seam
        self._lines = answers.Lines()
        self._reader = reader
        self._attempt = attempt

    def feed(self, data: bytes) -> Iterator[list[pieces.Piece]]:
        """Yield the pieces of the lines that are complete now."""
        return self._read(self._lines.feed(data))

    def end(self) -> Iterator[list[pieces.Piece]]:
        """Yield what came after the last line break; a 502 when the answer had not said that it is done."""
        rest = self._lines.rest()
        yield from self._read([rest] if rest else [])
        self._attempt.outcome = self._reader.outcome
        if not self._reader.done:
            raise answers.broken("the answer ended before it was done", self._attempt)

    def _read(self, lines: list[bytes]) -> Iterator[list[pieces.Piece]]:
        read: list[pieces.Piece] = []
        failure: errors.ApiError | None = None
        try:
            for line in lines:
                read.append(self._reader.read(line))  # noqa: PERF401 - a comprehension would lose them all
        except errors.ApiError as problem:
            failure = problem
        except answers.BrokenAnswerError as problem:
            failure = answers.broken(str(problem), self._attempt)
        if read:
            if self._seam is not None:
                self._seam.mend(read)
            _keep(read, self._attempt.told)
            yield read
        if failure is not None:
            raise failure


class Rendered:
    """Decodes the one answer to a chat that was to be rendered only: the text that the model would get."""

    def __init__(self, attempt: port.Attempt) -> None:
        self._body = bytearray()
        self._attempt = attempt

    def feed(self, data: bytes) -> Iterator[str]:
        """Keep the bytes: there is one answer, at the end."""
        self._body += data
        return iter(())

    def end(self) -> Iterator[str]:
        """Yield the text."""
        try:
            yield going_on.rendered(bytes(self._body))
        except msgspec.DecodeError as problem:
            raise answers.broken(str(problem), self._attempt) from None


def _keep(read: list[pieces.Piece], told: port.Told) -> None:
    for piece in read:
        if piece.content:
            told.texts.append(piece.content)
        if piece.reasoning or piece.tool_calls:
            told.plain = False


class Embedding:
    """Decodes the one answer of ``/api/embed``."""

    def __init__(self, attempt: port.Attempt) -> None:
        self._body = bytearray()
        self._attempt = attempt

    def feed(self, data: bytes) -> Iterator[pieces.Embeddings]:
        """Keep the bytes: there is one answer, at the end."""
        self._body += data
        return iter(())

    def end(self) -> Iterator[pieces.Embeddings]:
        """Yield the answer."""
        try:
            yield answers.embeddings(bytes(self._body), self._attempt)
        except answers.BrokenAnswerError as problem:
            raise answers.broken(str(problem), self._attempt) from None
