"""What Ollama's answers say, and how one goes on that another server began."""

import json
from typing import Any

import pytest

from modelset_proxy.engines import asking, decoders, port
from modelset_proxy.engines.ollama import answers, engine, going_on, native
from modelset_proxy.openai import catalog, errors, pieces, requests

_MODEL = catalog.Model(name="m:1", served_names=("m",), kind=catalog.CHAT)
_QUESTION = asking.Question("/api/chat", b"", "messages", streams=False, schema="tools")


def _read(reader: answers.Reader, **line: Any) -> pieces.Piece:
    return reader.read(json.dumps(line).encode())


def test_words_and_thoughts_of_a_completion_are_read() -> None:
    assert _read(answers.Reader(), response="a", thinking="hm") == pieces.Piece("a", "hm")


def test_the_end_tells_what_the_answer_took() -> None:
    reader = answers.Reader()
    seconds = {"load_duration": 2_500_000_000, "prompt_eval_duration": 1_500_000_000}
    piece = _read(reader, done=True, done_reason="length", prompt_eval_count=3, eval_count=2, **seconds)
    assert piece.end == pieces.End("length", 3, 2)
    assert reader.outcome == port.Outcome(2.5, 1.5, 3, 2)


@pytest.mark.parametrize(("nanoseconds", "seconds"), [(100_000_000, 0.0), (100_000_001, 0.100000001)])
def test_finding_a_model_that_is_loaded_is_no_load(nanoseconds: int, seconds: float) -> None:
    reader = answers.Reader()
    _read(reader, done=True, load_duration=nanoseconds)
    assert reader.outcome.load_seconds == seconds
    body = {"embeddings": [1, 0], "prompt_eval_count": 4, "load_duration": nanoseconds}
    assert answers.embeddings(json.dumps(body).encode()) == ([1, 0], port.Outcome(seconds, prompt_tokens=4))


def test_an_answer_that_is_not_done_is_broken_and_the_client_is_told_when_ollama_does_so() -> None:
    reader = answers.Reader()
    _read(reader, response="a")
    with pytest.raises(decoders.BrokenAnswerError, match="before it was done") as broken:
        reader.finish()
    assert "repeats itself" in broken.value.hint


def test_what_a_grammar_holds_to_a_call_is_no_text() -> None:
    reader = answers.Reader(native.Forced(("f",)))
    words = ['{"a"', ": 1}"]
    read = [_read(reader, message={"content": word}) for word in words]
    read.append(_read(reader, message={"content": " "}, done=True))
    assert [piece.content for piece in read] == ["", "", ""]
    [call] = read[-1].tool_calls
    assert (call.name, call.arguments) == ("f", '{"a": 1}')
    assert call.id.startswith("call_")


def test_log_probabilities_come_with_the_likeliest_others() -> None:
    others = [{"token": "b", "logprob": -2, "bytes": [98]}]
    entry = {"token": "a", "logprob": -1, "bytes": [97], "top_logprobs": others}
    [found] = _read(answers.Reader(), message={"content": "a"}, logprobs=[entry]).logprobs
    assert (found.token, found.logprob, found.raw) == ("a", -1, [97])
    assert found.top == [pieces.TokenLogprob("b", -2, [98])]


def test_log_probabilities_of_thoughts_are_not_those_of_the_text_after_them() -> None:
    reader = answers.Reader()
    thought, said = ({"token": token, "logprob": -1} for token in ("hm", "b\ufffd"))
    assert _read(reader, message={"thinking": "hm"}, logprobs=[thought]).logprobs == []
    [found] = _read(reader, message={"content": "bc"}, logprobs=[said]).logprobs
    assert found.token == said["token"]


@pytest.mark.parametrize("said", [{"token": "b"}, {"token": "?", "bytes": [98]}], ids=["text", "bytes"])
def test_log_probabilities_are_placed_by_the_bytes_of_a_token_where_they_are_told(
    said: dict[str, Any],
) -> None:
    entries = [{"logprob": -1, **token} for token in ({"token": "a"}, said, {"token": "c"})]
    [found] = _read(answers.Reader(), message={"content": "b"}, done=True, logprobs=entries).logprobs
    assert found.token == said["token"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2024-05-04T14:56:49.277302595Z", 1714834609), ("1970-01-01T00:00:01+00:00", 1), ("", 0), ("soon", 0)],
)
def test_when_a_model_changed_is_told_in_seconds(text: str, seconds: int) -> None:
    assert answers.HeldModel("a", modified_at=text).changed == seconds


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"error": "no"}', "no"),
        (b'{"error": {"message": "no", "type": "api_error"}}', "no"),
        (b"{}", ""),
        (b"\xffx", "\ufffdx"),
        (b"x" * 999, "x" * 200),
    ],
)
def test_errors_come_in_several_shapes(body: bytes, text: str) -> None:
    assert answers.error_text(body) == text


@pytest.mark.parametrize(
    ("status", "text", "code", "param"),
    [
        (400, "the input length exceeds the context length", "context_length_exceeded", "messages"),
        (500, "invalid JSON schema in format", "invalid_value", "tools"),
        (
            400,
            "json: cannot unmarshal number into Go struct field ChatRequest.tools of type string",
            "invalid_value",
            "tools",
        ),
    ],
)
def test_a_refusal_blames_the_field_of_the_question(status: int, text: str, code: str, param: str) -> None:
    error = answers.refusal(status, json.dumps({"error": text}).encode(), _QUESTION).error
    assert (error.status, error.code, error.param) == (400, code, param)


class TestGoingOn:
    """The second part of an answer."""

    @staticmethod
    def _fields(**more: Any) -> dict[str, Any]:
        return {"model": "a", "messages": [], "stream": True, **more}

    def test_the_text_of_a_chat_is_asked_for(self) -> None:
        asked = json.loads(going_on.render(self._fields(options={"seed": 1})))
        assert asked == {
            "model": "a",
            "messages": [],
            "options": {"seed": 1},
            "stream": False,
            "_debug_render_only": True,
        }
        assert going_on.rendered(b'{"_debug_info": {"rendered_template": "<a>"}}') == "<a>"
        with pytest.raises(decoders.BrokenAnswerError):
            going_on.rendered(b"{}")

    @pytest.mark.parametrize(
        ("limit", "told", "left"), [(10, 4, 6), (4, 4, 1), (3, 4, 1), (0, 4, 0), (None, 4, None)]
    )
    def test_as_many_tokens_are_left_as_were_not_told(
        self, limit: int | None, told: int, left: int | None
    ) -> None:
        options = {} if limit is None else {"options": {"num_predict": limit, "seed": 1}}
        asked = json.loads(going_on.after(self._fields(**options), "<a>", port.Told(["x"] * told)))
        assert (asked["prompt"], asked["raw"], asked["think"]) == ("<a>xxxx", True, False)
        assert asked.get("options", {}).get("num_predict") == left
        assert asked.get("options", {}).get("seed") == (None if limit is None else 1)
        assert "messages" not in asked

    @pytest.mark.parametrize(
        ("limit", "text", "end"),
        [
            (10, "b", pieces.End("stop", 30, 6)),
            (5, "b", pieces.End("stop", 30, 6)),
            (4, "", pieces.End("length", 30, 4)),
            (None, "b", pieces.End("stop", 30, 6)),
        ],
    )
    def test_its_tokens_are_those_of_the_whole(self, limit: int | None, text: str, end: pieces.End) -> None:
        options = {} if limit is None else {"options": {"num_predict": limit}}
        seam = going_on.Seam(self._fields(**options), port.Told(["x"] * 4))
        last = pieces.Piece("b", logprobs=[pieces.Logprob("b", -1.0)], end=pieces.End("stop", 34, 2))
        assert seam.mend([pieces.Piece("b"), last])[0].content == text
        assert (last.content, last.end, bool(last.logprobs)) == (text, end, bool(text))


def test_an_error_in_mid_answer_is_the_servers() -> None:
    with pytest.raises(errors.ApiError) as failure:
        _read(answers.Reader(), error="no")
    assert (failure.value.status, failure.value.message) == (502, "no.")


@pytest.mark.parametrize("body", [b"{}", b"[]", b"\xff"])
def test_what_is_no_vector_is_broken(body: bytes) -> None:
    with pytest.raises(decoders.BrokenAnswerError):
        answers.embeddings(body)


async def test_its_connections_end_with_it() -> None:
    asked = engine.Ollama()
    await asked.start()
    await asked.close()
    assert asked._http.session.closed


def test_a_server_without_the_memory_for_a_model_is_well_otherwise() -> None:
    body = b'{"error": "model requires more system memory (9 GiB) than is available (2 GiB)"}'
    refusal = answers.refusal(500, body, _QUESTION)
    assert (refusal.absent, refusal.error.code) == (True, "model_too_large")


async def test_each_unit_of_a_completion_is_asked_for_with_its_prompt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ollama = engine.Ollama()
    monkeypatch.setattr(ollama._http, "ask", lambda _url, question, *_: json.loads(question.body)["prompt"])
    request = requests.completion(b'{"model": "m", "prompt": ["a", "b"], "n": 2}')
    job = await ollama.complete(request, _MODEL)
    asked: list[Any] = [job.ask("s1", unit, port.Attempt("req_1", "s1")) for unit in (0, 1, 2, 3, 0)]
    assert asked == ["a", "a", "b", "b", "a"]


async def test_vectors_do_not_go_on_elsewhere() -> None:
    job = await engine.Ollama().embed(requests.embedding(b'{"model": "m", "input": "a"}'), _MODEL)
    assert not job.goes_on(port.Told(["a"]))
