"""The small pure parts: names, routing, settings, catalog, CORS, answers that real Ollama gives rarely."""

import json
import pathlib
from typing import Any

import jsonschema
import pytest

from modelset_proxy.dispatch import addresses
from modelset_proxy.engines import decoders
from modelset_proxy.engines.ollama import answers, names, native
from modelset_proxy.openai import catalog, chat, errors, requests
from modelset_proxy.serving import config
from modelset_proxy.web import cors
from serve_app.tests import running

_SCHEMA = json.loads((pathlib.Path(__file__).parent.parent / "user_config.schema.json").read_text())
# `jsonschema.validate` checks the schema as well, each time.
_CONTRACT = jsonschema.Draft202012Validator(_SCHEMA)


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("smollm2", "registry.ollama.ai/library/smollm2:latest"),
        ("SmolLM2:135m", "registry.ollama.ai/library/smollm2:135m"),
        ("team/x:1", "registry.ollama.ai/team/x:1"),
        ("models.example:5000/library/x:1", "models.example:5000/library/x:1"),
        ("models.example:5000/library/x", "models.example:5000/library/x:latest"),
        ("http://models.example:5000/library/x:1", "models.example:5000/library/x:1"),
    ],
)
def test_spellings_of_a_model_compare_equal(name: str, canonical: str) -> None:
    assert names.canonical(name) == canonical


@pytest.mark.parametrize(
    ("name", "served"), [("a:latest", ("a:latest", "a")), ("a:1", ("a:1",)), ("a", ("a",))]
)
def test_latest_may_be_left_out(name: str, served: tuple[str, ...]) -> None:
    assert names.served_names(name) == served


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("localhost", "http://localhost:11434"),
        ("ollama:1234", "http://ollama:1234"),
        ("http://ollama", "http://ollama:80"),
        ("http://ollama:11434/", "http://ollama:11434"),
        ("https://ollama.example/base/", "https://ollama.example:443/base"),
        ("http://[::1]:11434", "http://[::1]:11434"),
    ],
)
def test_ollama_urls_are_completed(text: str, url: str) -> None:
    assert addresses.base_url(text, names.PORT) == url


@pytest.mark.parametrize(
    ("variables", "names"),
    [
        ({"OLLAMA_URL": "ftp://x"}, "OLLAMA_URL"),
        ({"OLLAMA_URL": "http://x:nope"}, "OLLAMA_URL"),
        ({"OLLAMA_KEEP_ALIVE": "for ever"}, "OLLAMA_KEEP_ALIVE"),
        ({"OLLAMA_PULL_INSECURE": "perhaps"}, "OLLAMA_PULL_INSECURE"),
        ({"PROXY_LOG_LEVEL": "loud"}, "PROXY_LOG_LEVEL"),
        ({"PROXY_ENGINE": "vllm"}, "PROXY_ENGINE: 'vllm' is neither ollama nor openai"),
        ({"PROXY_ENGINE": "openai", "OLLAMA_CHAT_MODELS": "x"}, "OLLAMA_CHAT_MODELS.*PROXY_ENGINE"),
        ({"PROXY_ENGINE": "openai", "OLLAMA_EMBEDDING_MODELS": "x"}, "OLLAMA_EMBEDDING_MODELS"),
    ],
)
def test_bad_environment_is_refused_by_name(variables: dict[str, str], names: str) -> None:
    with pytest.raises(config.ConfigError, match=names):
        config.environment(variables)


def test_environment_lists_are_comma_separated() -> None:
    found = config.environment(
        {"OLLAMA_URL": "http://a:1, http://b:2", "OLLAMA_CHAT_MODELS": "x, y,", "OLLAMA_KEEP_ALIVE": "-1"}
    )
    assert (found.ollama_urls, found.chat_models, found.embedding_models, found.keep_alive) == (
        ("http://a:1", "http://b:2"),
        ("x", "y"),
        (),
        "-1",
    )


@pytest.mark.parametrize(
    ("given", "engine", "url"),
    [
        ({}, "ollama", "http://a:1/v1"),
        ({"PROXY_ENGINE": " "}, "ollama", "http://a:1/v1"),
        ({"PROXY_ENGINE": "Ollama"}, "ollama", "http://a:1/v1"),
        ({"PROXY_ENGINE": "openai"}, "openai", "http://a:1"),
    ],
)
def test_the_engine_is_ollama_unless_another_is_named(given: dict[str, str], engine: str, url: str) -> None:
    found = config.environment({**given, "OLLAMA_URL": "http://a:1/v1/"})
    assert (found.engine, found.ollama_urls) == (engine, (url,))


def test_user_config_of_the_tests_keeps_the_contract() -> None:
    jsonschema.validate(running.USER_CONFIG, _SCHEMA)
    assert config.user_config(running.USER_CONFIG).catalog().served_names == [
        "all-minilm",
        "smollm2",
        "team/smollm2:135m",
    ]


_MODEL: dict[str, Any] = {"model": "a", "servedNames": ["a"], "type": "Chat", "created": 0}


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"models": [{**_MODEL, "type": "Auto"}]},
        {"models": [{**_MODEL, "servedNames": []}]},
        {"models": [{**_MODEL, "keepAlive": "soon"}]},
        {"models": [{**_MODEL, "created": -1}]},
        {"models": [{**_MODEL, "contextLength": 0}]},
        {"models": [], "upstreams": [{"url": ""}]},
        {"models": [], "upstreams": [{}]},
        {"models": [], "limits": {"maxInFlightPerServer": 0}},
        {"models": [], "limits": {"maxQueuedRequests": -1}},
        {"models": [], "limits": {"queueTimeoutSeconds": 0}},
        {"models": [], "limits": {"wakeTimeoutSeconds": -1}},
        {"models": [], "demand": {}},
        {"models": [], "demand": {"tokenSha256": "a" * 63}},
        {"models": [], "demand": {"tokenSha256": "A" * 64}},
        {"models": [], "limits": {"maxQueuedPerClient": -1}},
        {"models": [], "limits": {"maxLoadedPerServer": 0}},
        {"models": [], "limits": {"switchSeconds": 0}},
        {"models": [], "limits": {"requestTimeoutSeconds": 0}},
        {"models": [], "limits": {"maxBodyBytes": 0}},
        {"models": [{**_MODEL, "model": ""}]},
        {"models": [{key: value for key, value in _MODEL.items() if key != "created"}]},
    ],
)
def test_what_the_contract_forbids_is_refused(broken: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        _CONTRACT.validate(broken)
    with pytest.raises(config.ConfigError):
        config.user_config(broken)


def test_upstreams_are_completed_like_urls_of_the_environment() -> None:
    given = {"models": [], "upstreams": [{"url": "pods"}, {"url": "https://ollama.example"}]}
    _CONTRACT.validate(given)
    assert config.user_config(given).urls() == ("http://pods:11434", "https://ollama.example:443")


def test_an_upstream_that_is_no_url_is_refused() -> None:
    with pytest.raises(config.ConfigError, match="upstreams: not an http"):
        config.user_config({"models": [], "upstreams": [{"url": "ftp://pods"}]})


def test_one_served_name_for_two_models_is_refused() -> None:
    with pytest.raises(config.ConfigError, match="'a'"):
        config.user_config({"models": [_MODEL, {**_MODEL, "model": "b"}]})


@pytest.mark.parametrize(
    ("origins", "origin", "allowed"),
    [
        ([], "https://a.example", None),
        (["*"], "https://a.example", "*"),
        (["https://a.example"], "https://a.example", "https://a.example"),
        (["https://a.example"], "https://a.example.evil", None),
        (["https://a.example"], None, None),
        (["https://*.example"], "https://b.a.example", "https://b.a.example"),
        (["https://*.example"], "https://evil/.example", None),
        (["http://localhost:*"], "http://localhost:3000", "http://localhost:3000"),
    ],
)
def test_cors_allows_what_is_listed(origins: list[str], origin: str | None, allowed: str | None) -> None:
    headers = dict(cors.Cors(origins).headers(origin.encode() if origin else None))
    assert headers.get(b"access-control-allow-origin") == (allowed.encode() if allowed else None)


@pytest.mark.parametrize(
    ("status", "text", "wanted", "code"),
    [
        (400, "the input length exceeds the context length", 400, "context_length_exceeded"),
        (
            400,
            "input exceeds maximum context length and cannot be truncated further",
            400,
            "context_length_exceeded",
        ),
        (400, '"m" does not support thinking', 400, None),
        (503, "server busy, please try again.  maximum pending requests exceeded", 503, "server_overloaded"),
        (500, "invalid JSON schema in format", 400, "invalid_value"),
        (500, "model requires more system memory (9 GiB) than is available (2 GiB)", 502, "upstream_error"),
        (499, "request canceled", 502, "upstream_error"),
    ],
)
def test_errors_of_ollama_become_openai_errors(status: int, text: str, wanted: int, code: str | None) -> None:
    error = answers.error(status, text)
    assert (error.status, error.code) == (wanted, code)


@pytest.mark.parametrize(
    "text",
    [
        'Post "http://127.0.0.1:41234/completion": EOF',
        "open /var/lib/ollama/models/blobs/sha256-1: no such file",
        "dial tcp 10.0.0.7: refused",
        "dial tcp [fd00::1]:53: refused",
        "model 'models.example:5000/library/x:1' not found",
        "",
        "x" * 1000,
    ],
)
@pytest.mark.parametrize("status", [400, 500])
def test_addresses_and_paths_inside_do_not_leak(text: str, status: int) -> None:
    assert answers.error(status, text).message.startswith("The model server ")


def _read(*lines: dict[str, Any], reader: answers.Reader | None = None) -> list[Any]:
    reader = reader or answers.Reader()
    return [reader.read(json.dumps(line).encode()) for line in lines]


_DONE = {"done": True, "done_reason": "stop"}
_END = {"message": {"role": "assistant", "content": ""}, **_DONE}


def _calling(*names: str) -> dict[str, Any]:
    calls = [
        {"id": f"call_{name}", "function": {"index": index, "name": name, "arguments": {"a": [1, "ü"]}}}
        for index, name in enumerate(names)
    ]
    return {"message": {"role": "assistant", "content": "", "tool_calls": calls}, "done": False}


def _request(**body: Any) -> requests.ChatRequest:
    return requests.chat(
        json.dumps({"model": "m", "messages": [{"role": "user", "content": "x"}], **body}).encode()
    )


def test_tool_calls_of_several_lines_are_numbered_through_in_a_stream() -> None:
    stream = chat.Stream(_request(stream=True))
    events = stream.events(0, _read(_calling("f"), _calling("g"), _END))
    chunks = [json.loads(event[6:]) for event in events.decode().split("\n\n") if event]
    calls = [call for chunk in chunks for call in chunk["choices"][0]["delta"].get("tool_calls", [])]
    assert [(call["index"], call["id"], call["function"]["name"]) for call in calls] == [
        (0, "call_f", "f"),
        (1, "call_g", "g"),
    ]
    assert json.loads(calls[0]["function"]["arguments"]) == {"a": [1, "ü"]}
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_parallel_calls_are_dropped_when_not_wanted() -> None:
    pieces = _read(_calling("f", "g"), _calling("h"), _END, reader=answers.Reader(single_call=True))
    assert [call.name for piece in pieces for call in piece.tool_calls] == ["f"]


def test_reasoning_comes_out_under_both_names() -> None:
    thought = {"message": {"role": "assistant", "content": "", "thinking": "hm"}, "done": False}
    choice = chat.Choice()
    choice.add(_read(thought, _END))
    message = json.loads(chat.completion(_request(), [choice])[0])["choices"][0]["message"]
    assert (message["reasoning_content"], message["reasoning"], message["content"]) == ("hm", "hm", "")
    events = chat.Stream(_request(stream=True)).events(0, _read(thought))
    assert json.loads(events.decode().split("\n\n")[1][6:])["choices"][0]["delta"] == {
        "reasoning_content": "hm",
        "reasoning": "hm",
    }


@pytest.mark.parametrize(
    ("content", "name", "arguments"),
    [
        ('{"name": "g", "arguments": {"a": 1}}', "g", '{"a": 1}'),
        ('{"name": "g", "arguments": {"a": 1, ', "g", '{"a": 1,'),
        ('{"name": "g"', "g", ""),
        ('{"na', "f", '{"na'),
    ],
)
def test_a_forced_call_that_was_cut_off_is_handed_over_as_it_is(
    content: str, name: str, arguments: str
) -> None:
    reader = answers.Reader(native.Forced(("f", "g")))
    line = {"message": {"role": "assistant", "content": content}, "done": True, "done_reason": "length"}
    piece = reader.read(json.dumps(line).encode())
    assert [(call.name, call.arguments) for call in piece.tool_calls] == [(name, arguments)]
    assert piece.end is not None
    assert piece.end.reason == "length"


@pytest.mark.parametrize(
    ("forced", "reason"),
    [
        (native.Forced(("f",), named=True), "stop"),
        (native.Forced(("f",)), "tool_calls"),
        (native.Forced(("f", "g")), "tool_calls"),
    ],
    ids=["named", "the-only-one", "any"],
)
def test_only_a_call_that_was_named_ends_with_stop(forced: native.Forced, reason: str) -> None:
    line = {**_END, "message": {"role": "assistant", "content": '{"name": "f", "arguments": {}}'}}
    [piece] = _read(line, reader=answers.Reader(forced))
    assert (piece.end.reason, len(piece.tool_calls)) == (reason, 1)


_THOUGHT = {"message": {"role": "assistant", "content": "", "thinking": "hm"}, "done": False}


def test_thoughts_without_the_call_they_were_to_lead_to_are_an_error() -> None:
    reader = answers.Reader(native.Forced(("f",)))
    _read(_THOUGHT, reader=reader)
    with pytest.raises(errors.ApiError, match="without calling") as failure:
        _read(_END, reader=reader)
    assert (failure.value.status, failure.value.code) == (502, "incomplete_answer")


def test_thoughts_that_take_all_tokens_leave_no_call() -> None:
    reader = answers.Reader(native.Forced(("f",)))
    pieces = _read(_THOUGHT, {**_END, "done_reason": "length"}, reader=reader)
    assert (pieces[-1].end.reason, pieces[-1].tool_calls) == ("length", [])


def _line(content: str, *tokens: str, **more: Any) -> dict[str, Any]:
    logprobs = [{"token": token, "logprob": -1, "bytes": list(token.encode())} for token in tokens]
    message = {"role": "assistant", "content": content, **more}
    return {"message": message, "done": False, "logprobs": logprobs}


def _tokens(*lines: dict[str, Any], reader: answers.Reader | None = None) -> list[list[str]]:
    return [[entry.token for entry in piece.logprobs] for piece in _read(*lines, reader=reader)]


_CALLS = [{"function": {"name": "f", "arguments": {}}}]
_WITH_LOGPROBS: dict[str, tuple[list[dict[str, Any]], list[list[str]]]] = {
    "said": ([_line("a", "a"), _line("b", "b")], [["a"], ["b"]]),
    "thought": ([_line("", "hm", thinking="hm"), _line("a", "a")], [[], ["a"]]),
    "thoughts and content meet": ([_line("a", "m", "a", thinking="m")], [["a"]]),
    "held back, as it might have been a call": (
        [_line("", "<", "to"), _line("<toast", "ast"), _line("!", "!")],
        [[], ["<", "to", "ast"], ["!"]],
    ),
    "dropped, then said otherwise": ([_line("", "An"), _line("{", "{")], [[], ["{"]]),
    "whole answer": ([{**_line("a b", "b", "</t>", "a", " b", thinking="b"), **_DONE}], [["a", " b"]]),
    "thoughts of nothing": ([{**_line("a", "<t>", "</t>", "a"), **_DONE}], [["a"]]),
    "text before a call": ([{**_line("ok", "ok", "<c>", "{}", tool_calls=_CALLS), **_DONE}], [["ok"]]),
    "call": ([_line("", "<c>"), _line("", "{}", tool_calls=_CALLS), _line("", "</c>")], [[], [], []]),
    "content begins within a token": ([_line("a", "</t>", "\n\na", thinking="m")], [["\n\na"]]),
    "content ends within a token": ([_line("a ele", "a", " elephant", thinking="m")], [["a", " elephant"]]),
    "more than a byte a letter": ([_line("äö", "ö", "ä", "ö", thinking="ö")], [["ä", "ö"]]),
    # Ollama has no bytes of what is no whole letter.
    "letters cut into tokens": (
        [_line("ü\N{SAUROPOD}.", "ü", "</t>", "ü", "\ufffd\ufffd", "\ufffd", "\ufffd", ".", thinking="ü")],
        [["ü", "\ufffd\ufffd", "\ufffd", "\ufffd", "."]],
    ),
    "content of other tokens": ([_line("a", "x", "y", thinking="m")], [["x", "y"]]),
}


@pytest.mark.parametrize("case", _WITH_LOGPROBS)
def test_log_probabilities_are_those_of_the_tokens_in_the_content(case: str) -> None:
    lines, tokens = _WITH_LOGPROBS[case]
    assert _tokens(*lines) == tokens


def test_a_forced_call_has_no_log_probabilities() -> None:
    reader = answers.Reader(native.Forced(("f",)))
    assert _tokens(_line("{", "{"), {**_line("}", "}"), **_DONE}, reader=reader) == [[], []]


def test_an_error_within_an_answer_is_raised() -> None:
    with pytest.raises(errors.ApiError) as failure:
        _read({"error": "an error was encountered while running the model: CUDA error"})
    assert failure.value.status == 502
    assert "CUDA" in failure.value.message


@pytest.mark.parametrize("line", [b"<html>", b"{", b'{"message": 3}', b"\xff\xff"])
def test_what_is_not_ollamas_is_a_broken_answer(line: bytes) -> None:
    with pytest.raises(decoders.BrokenAnswerError):
        answers.Reader().read(line)


def test_lines_are_cut_wherever_the_reads_end() -> None:
    data = b'{"a":1}\n\n{"b":"\xc3\xbc"}\n{"c":3}'
    for size in range(1, len(data)):
        lines = decoders.Lines()
        cut = [line for at in range(0, len(data), size) for line in lines.feed(data[at : at + size])]
        assert [*cut, lines.rest()] == [b'{"a":1}', b'{"b":"\xc3\xbc"}', b'{"c":3}']


def test_catalog_tells_unknown_from_unfit() -> None:
    models = config.user_config(running.USER_CONFIG).catalog()
    with pytest.raises(errors.ApiError) as unknown:
        models.find("nope", catalog.CHAT, "/x")
    with pytest.raises(errors.ApiError) as unfit:
        models.find("all-minilm", catalog.CHAT, "/x")
    assert (unknown.value.status, unknown.value.code) == (404, "model_not_found")
    assert (unfit.value.status, unfit.value.param) == (400, "model")
