"""From the bytes of an answer, as they come, to what jobs yield; what they mean, each engine knows."""

import logging
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

from modelset_proxy.engines import port
from modelset_proxy.openai import errors, pieces
from modelset_proxy.telemetry import log

_logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Decoded_co = TypeVar("Decoded_co", covariant=True)


class BrokenAnswerError(Exception):
    """The answer is not one that such a server gives: cut off, or not its JSON.

    What was wrong is for the log; ``hint`` is what the client is told of it.
    """

    def __init__(self, why: str, *, hint: str = "") -> None:
        super().__init__(why)
        self.hint = hint


class Decoder(Protocol[Decoded_co]):
    """Makes something of the bytes of one answer. What it raises, ApiErrors, ends the answer."""

    def feed(self, data: bytes) -> Iterator[Decoded_co]:
        """Yield what the next bytes hold; a failure in them comes after what came before it."""

    def end(self) -> Iterator[Decoded_co]:
        """Yield what is left now that the answer has ended."""


class Reader(Protocol):
    """Knows what the lines of an engine's answers mean. Errors are ApiError, or BrokenAnswerError."""

    outcome: port.Outcome

    def read(self, line: bytes) -> pieces.Piece | None:
        """Return what a line adds; None for one that adds nothing, after which all is as before."""

    def finish(self) -> pieces.Piece | None:
        """Return what is left once all lines were read; raises BrokenAnswerError where more should come."""


class Mender(Protocol):
    """Makes the pieces of an answer's later part those of the whole."""

    def mend(self, read: list[pieces.Piece]) -> list[pieces.Piece]:
        """Return pieces as the client is to get them."""


class Raw:
    """Hands on the bytes."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield them."""
        yield data

    def end(self) -> Iterator[bytes]:
        """Yield nothing: nothing is held back."""
        return iter(())


class Lines:
    """Cuts a stream of bytes into lines without their line breaks; empty lines are dropped."""

    def __init__(self) -> None:
        self._partial = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that are complete now."""
        *lines, self._partial = (self._partial + data if self._partial else data).split(b"\n")
        return lines if all(lines) else [line for line in lines if line]

    def rest(self) -> bytes:
        """Return what came after the last line break; an answer that is not streamed has none."""
        return self._partial.strip()


class Pieces:
    """Decodes an answer that comes in lines; a list is what came together."""

    def __init__(self, reader: Reader, attempt: port.Attempt, seam: Mender | None = None) -> None:
        self._seam = seam
        self._lines = Lines()
        self._reader = reader
        self._attempt = attempt

    def feed(self, data: bytes) -> Iterator[list[pieces.Piece]]:
        """Yield the pieces of the lines that are complete now."""
        return self._read(self._lines.feed(data))

    def end(self) -> Iterator[list[pieces.Piece]]:
        """Yield what came after the last line break; a 502 when the answer had not said that it is done."""
        rest = self._lines.rest()
        yield from self._read([rest] if rest else [])
        try:
            last = self._reader.finish()
        except BrokenAnswerError as problem:
            raise broken(problem, self._attempt) from None
        self._attempt.outcome = self._reader.outcome
        if last is not None:
            yield [last]

    def _read(self, lines: list[bytes]) -> Iterator[list[pieces.Piece]]:
        read: list[pieces.Piece] = []
        failure: errors.ApiError | None = None
        try:
            for line in lines:
                piece = self._reader.read(line)
                if piece is not None:
                    read.append(piece)
        except errors.ApiError as problem:
            failure = problem
        except BrokenAnswerError as problem:
            failure = broken(problem, self._attempt)
        if read:
            if self._seam is not None:
                self._seam.mend(read)
            _keep(read, self._attempt.told)
            yield read
        if failure is not None:
            raise failure


class Whole(Generic[Item]):
    """Decodes an answer that can be read only once all of it is there.

    ``read`` raises ApiError, or BrokenAnswerError.
    """

    def __init__(self, read: Callable[[bytes], Item], attempt: port.Attempt) -> None:
        self._read = read
        self._body = bytearray()
        self._attempt = attempt

    def feed(self, data: bytes) -> Iterator[Item]:
        """Keep the bytes: there is one answer, at the end."""
        self._body += data
        return iter(())

    def end(self) -> Iterator[Item]:
        """Yield the answer."""
        try:
            yield self._read(bytes(self._body))
        except BrokenAnswerError as problem:
            raise broken(problem, self._attempt) from None


def _keep(read: list[pieces.Piece], told: port.Told) -> None:
    for piece in read:
        if piece.content:
            told.texts.append(piece.content)
        if piece.reasoning or piece.tool_calls:
            told.plain = False


def broken(problem: BrokenAnswerError, attempt: port.Attempt) -> errors.ApiError:
    """Return what the client is told of a broken answer; the log gets the rest."""
    _logger.warning(
        "answer of a model server is broken",
        extra=log.facts(request_id=attempt.request_id, server=attempt.server, reason=str(problem)),
    )
    return errors.upstream_failed(
        f"The model server ended its answer before it was complete. {problem.hint}".rstrip(),
        code="incomplete_answer",
    )
