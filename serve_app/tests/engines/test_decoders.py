"""From bytes to what jobs yield, whatever the engine."""

from collections.abc import Iterator

import pytest

from modelset_proxy.engines import decoders, port, refusals
from modelset_proxy.openai import errors, pieces


class Reader:
    """Takes each line for a piece of text; some say something else."""

    def __init__(self) -> None:
        self.outcome = port.Outcome(answer_tokens=7)
        self.last: pieces.Piece | None = None

    def read(self, line: bytes) -> pieces.Piece | None:
        match line:
            case b"nothing":
                return None
            case b"refused":
                raise errors.invalid("no")
            case b"broken":
                raise decoders.BrokenAnswerError("no JSON", hint="Try again.")
            case b"thought":
                return pieces.Piece(reasoning="hm")
            case b"call":
                return pieces.Piece(tool_calls=[pieces.ToolCall("1", "f", "{}")])
        return pieces.Piece(line.decode())

    def finish(self) -> pieces.Piece | None:
        if self.last is None:
            raise decoders.BrokenAnswerError("not done")
        return self.last


class Seam:
    """Marks what was mended."""

    def mend(self, read: list[pieces.Piece]) -> list[pieces.Piece]:
        for piece in read:
            piece.content = piece.content.upper()
        return read


def _texts(found: Iterator[list[pieces.Piece]]) -> list[list[str]]:
    return [[piece.content for piece in read] for read in found]


@pytest.fixture
def attempt() -> port.Attempt:
    return port.Attempt("req_1", "s1")


def test_what_came_together_is_yielded_together_and_told(attempt: port.Attempt) -> None:
    reader = Reader()
    decoder = decoders.Pieces(reader, attempt)
    assert _texts(decoder.feed(b"one\n\ntwo\nth")) == [["one", "two"]]
    assert _texts(decoder.feed(b"ree\nnothing\n")) == [["three"]]
    assert (attempt.told.text, attempt.told.tokens, attempt.told.plain) == ("onetwothree", 3, True)
    reader.last = pieces.Piece("end")
    assert attempt.outcome == port.Outcome()
    assert _texts(decoder.end()) == [["end"]]
    assert attempt.outcome == reader.outcome


def test_a_last_line_needs_no_break(attempt: port.Attempt) -> None:
    reader = Reader()
    reader.last = pieces.Piece()
    decoder = decoders.Pieces(reader, attempt)
    assert _texts(decoder.feed(b"one\ntwo ")) == [["one"]]
    assert _texts(decoder.end()) == [["two"], [""]]


@pytest.mark.parametrize("line", [b"thought", b"call"])
def test_what_is_more_than_text_is_told(attempt: port.Attempt, line: bytes) -> None:
    list(decoders.Pieces(Reader(), attempt).feed(b"one\n" + line + b"\n"))
    assert (attempt.told.text, attempt.told.plain) == ("one", False)


def test_a_later_part_is_mended_before_it_is_told(attempt: port.Attempt) -> None:
    decoder = decoders.Pieces(Reader(), attempt, Seam())
    assert _texts(decoder.feed(b"one\n")) == [["ONE"]]
    assert attempt.told.text == "ONE"


@pytest.mark.parametrize(
    ("line", "status", "code"), [(b"refused", 400, None), (b"broken", 502, "incomplete_answer")]
)
def test_a_failure_comes_after_what_came_before_it(
    attempt: port.Attempt, caplog: pytest.LogCaptureFixture, line: bytes, status: int, code: str | None
) -> None:
    found = decoders.Pieces(Reader(), attempt).feed(b"one\n" + line + b"\ntwo\n")
    assert [piece.content for piece in next(found)] == ["one"]
    with pytest.raises(errors.ApiError) as failure:
        next(found)
    assert (failure.value.status, failure.value.code) == (status, code)
    if line == b"broken":
        assert failure.value.message.endswith("before it was complete. Try again.")
        [record] = caplog.records
        assert vars(record)["facts"] == {"request_id": "req_1", "server": "s1", "reason": "no JSON"}


def test_an_answer_that_is_not_done_is_broken(attempt: port.Attempt) -> None:
    with pytest.raises(errors.ApiError, match=r"before it was complete\.$"):
        list(decoders.Pieces(Reader(), attempt).end())
    assert attempt.outcome == port.Outcome()


def test_a_whole_answer_comes_at_its_end(attempt: port.Attempt) -> None:
    decoder = decoders.Whole(bytes.decode, attempt)
    assert [*decoder.feed(b"on"), *decoder.feed(b"e")] == []
    assert list(decoder.end()) == ["one"]


def test_a_whole_answer_may_be_broken(attempt: port.Attempt) -> None:
    def read(_: bytes) -> str:
        raise decoders.BrokenAnswerError("no JSON")

    with pytest.raises(errors.ApiError) as failure:
        list(decoders.Whole(read, attempt).end())
    assert failure.value.code == "incomplete_answer"


def test_bytes_are_handed_on() -> None:
    raw = decoders.Raw()
    assert [*raw.feed(b"one"), *raw.end()] == [b"one"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (" this is wrong ", "this is wrong."),
        ("It is.", "It is."),
        ("x" * 500, "x" * 500 + "."),
        ("x" * 501, "other"),
        ("", "other"),
        ("  ", "other"),
        ("see http://x", "other"),
        ("at 10.0.0.7", "other"),
        ("at [fd00::1]:80", "other"),
        ("in /var/lib", "other"),
        ("at host:8080/x", "other"),
        ("half/half and 3:2", "half/half and 3:2."),
    ],
)
def test_a_servers_words_are_a_sentence_that_tells_nothing_of_the_inside(text: str, told: str) -> None:
    assert refusals.public(text, "other") == told


@pytest.mark.parametrize(
    ("status", "wanted", "code", "retry_after"),
    [
        *[(status, 400, None, None) for status in (400, 413, 422)],
        *[(status, 503, "server_overloaded", 2) for status in (429, 503)],
        *[(status, 502, "upstream_error", None) for status in (401, 404, 418, 500, 502, 504)],
    ],
)
def test_statuses_mean_the_same_for_all_engines(
    status: int, wanted: int, code: str | None, retry_after: int | None
) -> None:
    error = refusals.by_status(status, "so it is", param="p" if wanted == 400 else None)
    assert (error.status, error.code, error.retry_after) == (wanted, code, retry_after)
    assert error.param == ("p" if wanted == 400 else None)
    assert error.message == (
        "The model server is busy. Try again shortly." if code == "server_overloaded" else "so it is."
    )


@pytest.mark.parametrize(
    ("error", "final"),
    [
        (errors.invalid("no"), True),
        (errors.upstream_failed("no"), False),
        (errors.upstream_failed("no", may_retry=False), True),
        (errors.ApiError(500, "no"), False),
        (errors.ApiError(499, "no"), True),
    ],
)
def test_what_no_other_server_would_do_better_is_final(error: errors.ApiError, final: bool) -> None:
    assert refusals.Refusal(error, "why").final is final


def test_a_model_that_is_absent_is_not_ready_and_a_route_that_is_not_there_is_unknown() -> None:
    gone, unknown = refusals.absent("gone"), refusals.no_such_route("unknown")
    assert (gone.error.code, gone.why, gone.absent, gone.final) == ("model_not_ready", "gone", True, False)
    assert (unknown.error.status, unknown.error.code, unknown.why, unknown.absent) == (
        404,
        "unknown_url",
        "unknown",
        False,
    )
