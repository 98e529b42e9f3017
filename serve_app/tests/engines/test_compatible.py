"""What an OpenAI-compatible server is sent, and what it may answer."""

import json
from typing import Any

import aiohttp
import pytest

from modelset_proxy.engines import asking, decoders, port
from modelset_proxy.engines.compatible import answers, bodies, complaints, engine
from modelset_proxy.openai import catalog, errors, forms, passthrough, pieces, requests, steps
from serve_app.tests import asking as ask
from serve_app.tests import fake_compatible, running

_MODEL = catalog.Model(name="m:1", served_names=("m",), kind=catalog.CHAT, capabilities=frozenset())
_USER = {"role": "user", "content": "hi"}
_TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, "strict": True}}
_OTHER = {"type": "function", "function": {"name": "g"}}
_CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def _chat(choice: int = 0, **body: Any) -> dict[str, Any]:
    request = requests.chat(json.dumps({"model": "m", "messages": [_USER], **body}).encode())
    sent: dict[str, Any] = json.loads(steps.at_once(bodies.chat(request, _MODEL)).of(choice))
    return sent


def _completion(number: int = 0, **body: Any) -> dict[str, Any]:
    request = requests.completion(json.dumps({"model": "m", **body}).encode())
    sent: dict[str, Any] = json.loads(bodies.completion(request, number, _MODEL).of(0))
    return sent


def _embedding(**body: Any) -> dict[str, Any]:
    request = requests.embedding(json.dumps({"model": "m", **body}).encode())
    sent: dict[str, Any] = json.loads(bodies.embedding(request, _MODEL))
    return sent


def test_a_plain_chat_is_sent_as_it_came() -> None:
    assert _chat() == {"model": "m:1", "messages": [_USER], "stream": False}


@pytest.mark.parametrize(
    "body",
    [
        {"logit_bias": {"1": 5.0}},
        {"temperature": 0.5, "top_p": 0.1, "presence_penalty": 1.0, "frequency_penalty": -1.0, "seed": 7},
        {"top_k": 3, "min_p": 0.1},
        {"logprobs": True, "top_logprobs": 3},
        {"reasoning_effort": "low"},
        {"response_format": {"type": "json_object"}},
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "x", "schema": {"type": "object"}, "strict": True},
            }
        },
        {"tools": [_TOOL], "tool_choice": "required", "parallel_tool_calls": False},
        {"tools": [_TOOL], "tool_choice": {"type": "function", "function": {"name": "f"}}},
        {"messages": [_USER, {"role": "assistant", "tool_calls": [_CALL]}]},
        {"messages": [{"role": "tool", "tool_call_id": "c1", "content": "x"}]},
        {"messages": [{"role": "system", "name": "n", "content": [{"type": "text", "text": "x"}]}]},
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "image_url",
                            "image_url": {"url": "https://x.example/a.gif", "detail": "low"},
                        },
                        {"type": "input_audio", "input_audio": {"data": "eA==", "format": "wav"}},
                        {"type": "file", "file": {"file_id": "f1"}},
                    ],
                }
            ]
        },
    ],
    ids=lambda body: "-".join(body),
)
def test_what_the_server_may_know_is_passed_on_unchanged(body: dict[str, Any]) -> None:
    assert _chat(**body) == {"model": "m:1", "messages": [_USER], "stream": False, **body}


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        ({"n": 3, "modalities": ["text"], "functions": [{"name": "f"}], "function_call": "none"}, {}),
        ({"max_tokens": 5, "max_completion_tokens": 6}, {"max_tokens": 6}),
        ({"max_tokens": 0}, {}),
        ({"stop": ["", "x"]}, {"stop": ["x"]}),
        ({"stop": ""}, {}),
        ({"repeat_penalty": 1.5}, {"repeat_penalty": 1.5, "repetition_penalty": 1.5}),
        ({"tool_choice": "none", "parallel_tool_calls": False, "tools": []}, {}),
        ({"stream": True}, {"stream": True, "stream_options": {"include_usage": True}}),
        ({"stream_options": {"include_usage": True}}, {}),
        (
            {
                "tools": [_TOOL, _OTHER],
                "tool_choice": {
                    "type": "allowed_tools",
                    "allowed_tools": {"mode": "required", "tools": [_OTHER]},
                },
            },
            {"tools": [_OTHER], "tool_choice": "required"},
        ),
        (
            {"messages": [{"role": "developer", "content": "x"}]},
            {"messages": [{"role": "system", "content": "x"}]},
        ),
        (
            {"messages": [{"role": "assistant", "content": "x", "reasoning_content": "hm"}]},
            {
                "messages": [
                    {"role": "assistant", "content": "x", "reasoning": "hm", "reasoning_content": "hm"}
                ]
            },
        ),
        (
            {"messages": [{"role": "assistant", "content": "x", "reasoning": "hm"}]},
            {
                "messages": [
                    {"role": "assistant", "content": "x", "reasoning": "hm", "reasoning_content": "hm"}
                ]
            },
        ),
    ],
    ids=lambda body: "-".join(body),
)
def test_what_few_servers_know_is_said_in_words_that_most_know(
    body: dict[str, Any], sent: dict[str, Any]
) -> None:
    assert _chat(**body) == {"model": "m:1", "messages": [_USER], "stream": False, **sent}


@pytest.mark.parametrize("given", [["a", 1], [1, "a"], [1, [2]]])
def test_texts_and_loose_token_ids_are_no_prompts(given: object) -> None:
    with pytest.raises(errors.ApiError) as refusal:
        _completion(prompt=given)
    assert (refusal.value.status, refusal.value.param) == (400, "prompt")


async def test_each_prompt_is_asked_for_by_itself() -> None:
    fake = fake_compatible.FakeCompatible()
    async with (
        fake_compatible.running(fake),
        running.proxied(fake.url, engine="openai") as (client, _),
    ):
        body = {"model": "smollm2", "prompt": ["a", [98]], "n": 2, "seed": 5}
        await ask.post(client, "/v1/completions", body)
    asked = [(json.dumps(sent["prompt"]), sent["seed"]) for sent in fake.sent("/v1/completions")]
    assert sorted(asked) == [('"a"', 5), ('"a"', 6), ("[98]", 5), ("[98]", 6)]


async def test_an_answer_that_was_begun_ends_with_its_server() -> None:
    asked = engine.Compatible()
    jobs: list[port.Job[Any]] = [
        await asked.chat(requests.chat(json.dumps({"model": "m", "messages": [_USER]}).encode()), _MODEL),
        await asked.complete(requests.completion(b'{"model": "m", "prompt": "a"}'), _MODEL),
        asked.relay("/v1/audio/transcriptions", passthrough.Passed("m", forms.Form(()), b""), _MODEL),
    ]
    assert [job.goes_on(port.Told(["a"])) for job in jobs] == [False, False, False]


def test_choices_differ_in_their_seed_if_one_is_given() -> None:
    assert [_chat(choice, seed=5)["seed"] for choice in (0, 1)] == [5, 6]
    assert "seed" not in _chat(1)


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        ({"prompt": "a"}, {"prompt": "a"}),
        ({"prompt": [1, 2]}, {"prompt": [1, 2]}),
        ({"prompt": [[1], [2]]}, {"prompt": [1]}),
        ({"prompt": "a", "echo": True}, {"prompt": "a"}),
        ({"prompt": [1, 2], "echo": True}, {"prompt": [1, 2], "echo": True}),
        ({"prompt": "a", "echo": True, "logprobs": 0}, {"prompt": "a", "logprobs": 0}),
        ({"prompt": "a", "echo": True, "logprobs": 1}, {"prompt": "a", "echo": True, "logprobs": 1}),
        ({"prompt": "a", "best_of": 3}, {"prompt": "a", "best_of": 3}),
        ({"prompt": "a", "best_of": 2, "n": 2}, {"prompt": "a"}),
        ({"prompt": "a", "suffix": "b", "max_tokens": 3}, {"prompt": "a", "suffix": "b", "max_tokens": 3}),
    ],
)
def test_completions_are_passed_on_prompt_by_prompt(body: dict[str, Any], sent: dict[str, Any]) -> None:
    assert _completion(**body) == {"model": "m:1", "stream": False, "max_tokens": 16, **sent}


def test_the_best_of_several_are_not_ranked_for_several_choices() -> None:
    with pytest.raises(errors.ApiError) as refusal:
        _completion(prompt="a", best_of=3, n=2)
    assert (refusal.value.status, refusal.value.param) == (400, "best_of")


@pytest.mark.parametrize("given", ["a", ["a", "b"], [1, 2], [[1, 2], [3]]])
def test_embeddings_are_passed_on_in_one(given: object) -> None:
    sent = {"model": "m:1", "input": given, "encoding_format": "float"}
    assert _embedding(input=given, encoding_format="base64") == sent
    assert _embedding(input=given, dimensions=3) == {**sent, "dimensions": 3}


@pytest.mark.parametrize(
    ("asked", "answer", "kind"),
    [({}, '{"text":"hello"}', "application/json"), ({"response_format": "text"}, "hello\n", "text/plain")],
)
async def test_transcriptions_are_passed_on_and_labelled_as_what_they_are(
    asked: dict[str, str], answer: str, kind: str
) -> None:
    fake = fake_compatible.FakeCompatible()
    form = aiohttp.FormData({"model": "smollm2", **asked}, default_to_multipart=True)
    form.add_field("file", b"RIFF", filename="a.wav")
    async with (
        fake_compatible.running(fake),
        running.proxied(fake.url, engine="openai") as (client, _),
        client.post("/v1/audio/transcriptions", data=form) as response,
    ):
        assert (response.status, await response.text()) == (200, answer)
        assert response.content_type == kind
    assert fake.sent("/v1/audio/transcriptions") == [{"model": "smollm2:135m", **asked}]


async def test_token_ids_reach_the_server_and_come_back_echoed() -> None:
    fake = fake_compatible.FakeCompatible()
    ids = [ord("h"), ord("i")]
    async with (
        fake_compatible.running(fake),
        running.proxied(fake.url, engine="openai") as (client, _),
    ):
        body: dict[str, Any] = {"model": "smollm2", "prompt": ids, "echo": True, "logprobs": 1}
        _, reply, _ = await ask.post(client, "/v1/completions", body)
        async with client.post("/v1/completions", json={**body, "stream": True}) as response:
            *chunks, _ = ask.events(await response.text())
        _, vectors, _ = await ask.post(client, "/v1/embeddings", {"model": "all-minilm", "input": [ids, ids]})
    [choice] = reply["choices"]
    assert choice["text"] == "hiHello there"
    assert choice["logprobs"] == {
        "tokens": ["hi", "Hello", " there"],
        "token_logprobs": [None, -1.0, -1.0],
        "top_logprobs": [None, {"Hello": -1.0}, {" there": -1.0}],
        "text_offset": [0, 2, 7],
    }
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == "hiHello there"
    assert len(vectors["data"]) == 2


async def test_log_probabilities_of_a_chat_are_the_servers() -> None:
    fake = fake_compatible.FakeCompatible()
    fake.script = ["é"]
    async with (
        fake_compatible.running(fake),
        running.proxied(fake.url, engine="openai") as (client, _),
    ):
        body = {**ask.CHAT, "logprobs": True, "top_logprobs": 1}
        _, reply, _ = await ask.post(client, "/v1/chat/completions", body)
    top = {"token": "x", "logprob": -2.0, "bytes": [120]}
    entry = {"token": "é", "logprob": -1.0, "bytes": [195, 169], "top_logprobs": [top]}
    assert reply["choices"][0]["logprobs"] == {"content": [entry], "refusal": None}


def _chunk(reason: str | None = None, **delta: Any) -> bytes:
    return b"data: " + json.dumps({"choices": [{"delta": delta, "finish_reason": reason}]}).encode()


def _read(*lines: bytes, reader: answers.Reader | None = None) -> list[pieces.Piece]:
    reader = reader or answers.Reader()
    read = [*(reader.read(line) for line in lines), reader.finish()]
    return [piece for piece in read if piece is not None]


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_thoughts_come_under_either_name(name: str) -> None:
    assert _read(_chunk(**{name: "hm"}), _chunk("stop"))[0].reasoning == "hm"


def test_thoughts_have_no_log_probabilities() -> None:
    choice = {"delta": {"reasoning": "hm"}, "logprobs": {"content": [{"token": "hm", "logprob": -1}]}}
    thought = answers.Reader().read(b"data: " + json.dumps({"choices": [choice]}).encode())
    assert thought == pieces.Piece(reasoning="hm")


@pytest.mark.parametrize(
    "line", [b": ping", b"event: message", b"retry: 3\r", _chunk(role="assistant", content=""), b"data: {}\r"]
)
def test_what_says_nothing_is_nothing(line: bytes) -> None:
    assert answers.Reader().read(line) is None


def test_the_end_comes_once_and_with_the_tokens_that_are_told_after_it() -> None:
    reader = answers.Reader()
    usage = b'data: {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}\r'
    end = b"data: [DONE]\r"
    read = _read(_chunk(content="a"), _chunk("length"), usage, _chunk(), end, end, reader=reader)
    assert [piece.content for piece in read] == ["a", ""]
    assert read[-1].end == pieces.End("length", 3, 2)
    assert reader.outcome == port.Outcome(prompt_tokens=3, answer_tokens=2)


@pytest.mark.parametrize(
    ("lines", "reason"), [([_chunk("stop")], "stop"), ([_chunk(content="a"), b"data:[DONE]"], "stop")]
)
def test_an_answer_is_done_when_it_says_so_in_either_way(lines: list[bytes], reason: str) -> None:
    end = _read(*lines)[-1].end
    assert end is not None
    assert end.reason == reason


@pytest.mark.parametrize("line", [_chunk(content="a"), b"data: {", b"data: []", b"data: \xff"])
def test_what_is_cut_off_or_no_answer_is_broken(line: bytes) -> None:
    with pytest.raises(decoders.BrokenAnswerError):
        _read(line)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        ({"message": "CUDA", "code": 500}, 502, "upstream_error"),
        ("CUDA", 502, "upstream_error"),
        ({"message": "no", "code": 400}, 400, None),
        ({"message": "no", "code": "bad"}, 502, "upstream_error"),
    ],
)
def test_an_error_within_an_answer_is_raised(error: object, status: int, code: str | None) -> None:
    with pytest.raises(errors.ApiError) as failure:
        answers.Reader().read(b"data: " + json.dumps({"error": error}).encode())
    assert (failure.value.status, failure.value.code) == (status, code)


def _part(arguments: str = "", **more: Any) -> dict[str, Any]:
    function = {"arguments": arguments, **({"name": more.pop("name")} if "name" in more else {})}
    return {"function": function, **more}


_PARTS: dict[str, list[dict[str, Any]]] = {
    "as OpenAI": [
        _part(index=0, id="1", name="f"),
        _part('{"a"', index=0),
        _part(":1}", index=0),
        _part("{}", index=1, id="2", name="g"),
    ],
    "in turns": [
        _part('{"a"', index=0, id="1", name="f"),
        _part("{", index=1, id="2", name="g"),
        _part(":1}", index=0),
        _part("}", index=1),
    ],
    "all of one index": [
        _part('{"a":1}', index=0, id="1", name="f"),
        _part("{}", index=0, id="2", name="g"),
    ],
    "name and id again and again": [
        _part('{"a"', index=0, id="1", name="f"),
        _part(":1}", index=0, id="1", name="f"),
        _part("{}", index=1, id="2", name="g"),
    ],
    "no index": [_part('{"a"', id="1", name="f"), _part(":1}"), _part("{}", id="2", name="g")],
    "no arguments": [_part('{"a":1}', index=0, id="1", name="f"), _part(index=1, id="2", name="g")],
}


@pytest.mark.parametrize("case", _PARTS)
def test_parts_of_calls_are_joined(case: str) -> None:
    lines = [_chunk(tool_calls=[part]) for part in _PARTS[case]]
    [piece] = _read(*lines, _chunk("tool_calls"))
    assert piece.tool_calls == [pieces.ToolCall("1", "f", '{"a":1}'), pieces.ToolCall("2", "g", "{}")]


def test_calls_of_a_whole_answer_are_whole_and_get_ids_where_they_have_none() -> None:
    calls = [_part("{}", name="f"), _part("{}", name="g")]
    body = {"choices": [{"message": {"content": None, "tool_calls": calls}, "finish_reason": "tool_calls"}]}
    [piece] = answers.Reader().whole(port.Attempt("", ""), json.dumps(body, indent=1).encode())
    assert [call.name for call in piece.tool_calls] == ["f", "g"]
    assert len({call.id for call in piece.tool_calls}) == 2
    assert all(call.id.startswith("call_") for call in piece.tool_calls)


@pytest.mark.parametrize("body", [b"{}", b'{"data": []}', b'{"data": [{"embedding": 0, "index": 0}]}'])
def test_vectors_that_are_not_all_there_are_broken(body: bytes) -> None:
    with pytest.raises(decoders.BrokenAnswerError):
        answers.embeddings(2, body)


_QUESTION = asking.Question("/v1/completions", b"", "prompt", streams=False)


@pytest.mark.parametrize(
    ("status", "body", "wanted", "code", "message"),
    [
        (400, {"error": {"message": "no"}}, 400, None, "no."),
        (400, {"object": "error", "message": "no", "code": 400}, 400, None, "no."),
        (422, {"detail": [{"loc": ["body", "n"]}]}, 400, None, '[{"loc":["body","n"]}].'),
        (400, "nothing of the kind", 400, None, '"nothing of the kind".'),
        (500, {"error": "no"}, 502, "upstream_error", "no."),
        (429, {"error": {"message": "slow"}}, 503, "server_overloaded", "The model server is busy."),
        (401, {"error": {"message": "bad key sk-1"}}, 502, "upstream_error", "The model server does not let"),
        (403, {"error": {"message": "bad key sk-1"}}, 502, "upstream_error", "The model server does not let"),
        (404, {"detail": "Not Found"}, 404, "unknown_url", "The model server has no such"),
        (404, {"error": {"code": 404, "message": "File Not Found"}}, 404, "unknown_url", "The model server"),
        (404, {"error": {"message": "The model `x` does not exist."}}, 503, "model_not_ready", "No model"),
    ],
)
def test_refusals_are_read_in_all_their_forms(
    status: int, body: object, wanted: int, code: str | None, message: str
) -> None:
    refusal = complaints.refusal(status, json.dumps(body).encode(), _QUESTION)
    assert (refusal.error.status, refusal.error.code) == (wanted, code)
    assert refusal.error.message.startswith(message)


@pytest.mark.parametrize(
    "text",
    [
        "This model's maximum context length is 40 tokens. However, you requested 50 tokens",
        "The decoder prompt (length 52) is longer than the maximum model length of 40.",
        "the request exceeds the available context size. try increasing the context size",
        "the input length exceeds the context length",
    ],
)
def test_a_prompt_that_is_too_long_is_told_by_any_server(text: str) -> None:
    error = complaints.refusal(400, json.dumps({"error": {"message": text}}).encode(), _QUESTION).error
    assert (error.code, error.param) == ("context_length_exceeded", "prompt")


def test_a_field_that_the_server_names_is_named() -> None:
    body = {"error": {"message": "no", "param": "top_k"}}
    assert complaints.refusal(400, json.dumps(body).encode(), _QUESTION).error.param == "top_k"


async def test_what_a_server_lists_counts_as_loaded() -> None:
    fake = fake_compatible.FakeCompatible("a")
    asked = engine.Compatible()
    await asked.start()
    async with fake_compatible.running(fake):
        sight = await asked.look(fake.url)
        fake.models = []
        assert (await asked.look(fake.url)).held == {}
    with pytest.raises(port.UnreachableError):
        await asked.look(fake.url)
    await asked.close()
    assert (sight.held, sight.loaded) == ({"a": port.Held("a", changed=5)}, {"a": 0})


@pytest.mark.parametrize(
    ("kind", "paths"),
    [
        (catalog.CHAT, ["/v1/completions"]),
        (catalog.EMBEDDING, ["/v1/embeddings"]),
        (catalog.ANY, ["/v1/completions", "/v1/embeddings"]),
    ],
)
def test_the_least_that_a_model_can_answer_goes_by_what_it_is_for(kind: str, paths: list[str]) -> None:
    model = catalog.Model(name="a", served_names=("a",), kind=kind)
    assert [path for path, _ in bodies.shortest(model)] == paths


def test_the_least_that_is_asked_for_is_a_token_or_a_vector() -> None:
    model = catalog.Model(name="a:1", served_names=("a",), kind=catalog.ANY)
    assert [json.loads(body) for _, body in bodies.shortest(model)] == [
        {"model": "a:1", "prompt": "a", "max_tokens": 1},
        {"model": "a:1", "input": "a"},
    ]


def test_the_end_is_told_when_the_answer_says_so_not_when_the_connection_ends() -> None:
    reader = answers.Reader()
    usage = b'data: {"choices": [], "usage": {"prompt_tokens": 3}}'
    assert [reader.read(line) for line in (_chunk("stop"), usage)] == [None, None]
    end = reader.read(b"data: [DONE]")
    assert end is not None
    assert end.end == pieces.End("stop", 3, 0)
    assert reader.finish() is None


def test_words_that_come_with_thoughts_keep_their_log_probabilities() -> None:
    delta = {"content": "a", "reasoning": "hm"}
    choice = {"delta": delta, "logprobs": {"content": [{"token": "a", "logprob": -1}]}}
    piece = answers.Reader().read(b"data: " + json.dumps({"choices": [choice]}).encode())
    assert piece is not None
    assert [entry.token for entry in piece.logprobs] == ["a"]


def test_a_call_of_nothing_has_no_name() -> None:
    [piece] = _read(_chunk(tool_calls=[_part("{}", index=0, id="1")]), _chunk("tool_calls"))
    assert piece.tool_calls == [pieces.ToolCall("1", "", "{}")]


def test_an_error_within_a_stream_blames_the_messages_for_their_length() -> None:
    error = complaints.within("the input length exceeds the context length")
    assert (error.code, error.param) == ("context_length_exceeded", "messages")


@pytest.mark.parametrize(("body", "told"), [(b"\xffno", "\ufffdno."), (b"x" * 999, "x" * 200 + ".")])
def test_of_what_is_no_json_the_beginning_is_told(body: bytes, told: str) -> None:
    assert complaints.refusal(400, body, _QUESTION).error.message == told


async def test_a_model_that_does_not_say_how_old_it_is_has_no_age(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = engine.Compatible()

    async def look(*_: object) -> answers.Models:
        return answers.Models([answers.Model("a"), answers.Model("b", 7.9)])

    monkeypatch.setattr(asked._http, "look", look)
    assert (await asked.look("")).held == {"a": port.Held("a"), "b": port.Held("b", changed=7)}


async def test_its_connections_end_with_it() -> None:
    asked = engine.Compatible()
    await asked.start()
    await asked.close()
    assert asked._http.session.closed


@pytest.mark.parametrize(("messages", "pauses"), [(1, 0), (256, 0), (257, 1), (600, 2)])
def test_many_messages_are_translated_in_steps(messages: int, pauses: int) -> None:
    body = json.dumps({"model": "m", "messages": [_USER] * messages}).encode()
    assert len(list(bodies.chat(requests.chat(body), _MODEL))) == pauses
