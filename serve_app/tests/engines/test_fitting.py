"""What cannot fit a model's context is refused before Ollama sees it."""

import asyncio
import contextlib
import json
from typing import Any

import pytest

from modelset_proxy.engines import port
from modelset_proxy.engines.compatible.engine import Compatible
from modelset_proxy.engines.ollama import native
from modelset_proxy.engines.ollama.engine import Ollama
from modelset_proxy.openai import catalog, errors, requests
from serve_app.tests import asking, fake_ollama, running

_PINNED = 3000
_BYTES = _PINNED * 128


def _chat(*contents: Any, **more: Any) -> tuple[str, dict[str, Any]]:
    messages = [{"role": "user", "content": content} for content in contents]
    return "chat", {"messages": messages, **more}


def _tool(**function: Any) -> dict[str, Any]:
    return {"tools": [{"type": "function", "function": {"name": "f", **function}}]}


def _called(arguments: str) -> tuple[str, dict[str, Any]]:
    call = {"type": "function", "id": "1", "function": {"name": "f", "arguments": arguments}}
    return "chat", {"messages": [{"role": "assistant", "tool_calls": [call]}]}


def _completion(*prompts: str) -> tuple[str, dict[str, Any]]:
    return "completion", {"prompt": list(prompts)}


def _embedding(*inputs: str) -> tuple[str, dict[str, Any]]:
    return "embedding", {"input": list(inputs)}


_FITTING: dict[str, tuple[str, dict[str, Any]]] = {
    "as many messages as tokens": _chat(*[""] * _PINNED),
    "as much text as they may stand for": _chat("x" * _BYTES),
    "a tool that nothing is said of": _chat("x" * _BYTES, **_tool()),
    "prompts that fit one by one": _completion("x" * _BYTES, "x" * _BYTES),
    "inputs that fit one by one": _embedding("x" * _BYTES, "x" * _BYTES),
}
_TOO_LONG: dict[str, tuple[tuple[str, dict[str, Any]], str]] = {
    "messages": (_chat(*[""] * (_PINNED + 1)), "messages"),
    "text": (_chat("x" * (_BYTES + 1)), "messages"),
    "text of several messages": (_chat("x" * _BYTES, "x"), "messages"),
    "text in parts": (_chat([{"type": "text", "text": "x" * (_BYTES // 2)}] * 2), "messages"),
    "letters of two bytes": (_chat("é" * (_BYTES // 2 + 1)), "messages"),
    "descriptions of tools": (_chat("a", **_tool(description="x" * _BYTES)), "messages"),
    "arguments of calls": (_called(json.dumps({"a": "x" * _BYTES})), "messages"),
    "a prompt": (_completion("x", "x" * (_BYTES + 1)), "prompt"),
    "an input": (_embedding("x", "x" * (_BYTES + 1)), "input"),
}


def _model(context: int | None) -> catalog.Model:
    return catalog.Model(name="m:1", served_names=("m",), kind=catalog.ANY, context_length=context)


async def _ask(engine: Any, kind: str, body: dict[str, Any], model: catalog.Model) -> None:
    request = getattr(requests, kind)(json.dumps({"model": "m", **body}).encode())
    await {"chat": engine.chat, "completion": engine.complete, "embedding": engine.embed}[kind](
        request, model
    )


@pytest.mark.parametrize("case", _FITTING)
async def test_what_may_fit_is_asked(case: str) -> None:
    await _ask(Ollama(), *_FITTING[case], _model(_PINNED))


@pytest.mark.parametrize("case", _TOO_LONG)
async def test_what_cannot_fit_is_refused(case: str) -> None:
    asked, param = _TOO_LONG[case]
    with pytest.raises(errors.ApiError) as refusal:
        await _ask(Ollama(), *asked, _model(_PINNED))
    error = refusal.value
    assert (error.status, error.param, error.code) == (400, param, "context_length_exceeded")
    assert "maximum context length is 3000 tokens; the request has at least 3001" in error.message
    await _ask(Compatible(), *asked, _model(_PINNED))


async def test_a_model_that_sees_has_more_context_than_it_is_pinned_to() -> None:
    await _ask(Ollama(), *_chat(*[""] * 2048), _model(512))
    with pytest.raises(errors.ApiError, match="2048 tokens"):
        await _ask(Ollama(), *_chat(*[""] * 2049), _model(512))


def test_where_no_context_is_known_the_longest_of_all_is_the_bound() -> None:
    many = requests.ChatRequest(model="m", messages=[requests.UserMessage("")] * (2**20 + 1))
    with pytest.raises(errors.ApiError, match="1048576 tokens"):
        next(native.chat(many, _model(None)))


async def test_earlier_thoughts_do_not_count() -> None:
    message = {"role": "assistant", "content": "", "reasoning_content": "x" * (_BYTES + 1)}
    await _ask(Ollama(), "chat", {"messages": [message]}, _model(_PINNED))


async def test_the_context_of_a_loaded_model_is_known(ollama: fake_ollama.FakeOllama) -> None:
    ollama.loaded.add("smollm2:135m")
    ollama.context_length = 2500
    messages = [{"role": "user", "content": ""}] * 2501
    async with running.proxied(ollama.url) as (session, _):
        path = "/v1/chat/completions"
        status, reply, _ = await asking.post(session, path, {"model": "smollm2", "messages": messages})
        assert (status, reply["error"]["code"]) == (400, "context_length_exceeded")
        assert "maximum context length is 2500 tokens" in reply["error"]["message"]
        assert ollama.answered == []
        assert (await asking.ask(session))[0] == 200


async def test_variants_of_one_base_have_the_context_that_it_was_loaded_with() -> None:
    fake = fake_ollama.FakeOllama()
    fake.bases = {"all-minilm:latest": "one", "smollm2:135m": "one"}
    fake.loaded, fake.context_length = {"all-minilm:latest"}, 2500
    ollama = Ollama()
    async with fake_ollama.running(fake):
        await ollama.start()
        chat = catalog.Model(name="smollm2:135m", served_names=("m",), kind=catalog.ANY)
        await ollama.look(fake.url)
        assert ollama._context(chat) == 2500
        other = catalog.Model(name="other:1", served_names=("o",), kind=catalog.ANY)
        assert ollama._context(other) is None
        fake.parameters = {"smollm2:135m": "num_ctx 9000"}
        fake.digests = {"smollm2:135m": "sha256:another"}
        await ollama.look(fake.url)
        assert ollama._context(chat) == 9000
        await ollama.close()


async def test_what_a_model_was_made_for_is_the_bound_while_it_is_not_loaded() -> None:
    fake = fake_ollama.FakeOllama()
    fake.longest_context = 8192
    ollama = Ollama()
    async with fake_ollama.running(fake):
        await ollama.start()
        chat = catalog.Model(name="smollm2:135m", served_names=("m",), kind=catalog.ANY)
        await ollama.look(fake.url)
        assert ollama._context(chat) == 8192
        await ollama.close()


async def test_the_context_of_a_model_that_was_let_go_is_not_known_any_more() -> None:
    fake = fake_ollama.FakeOllama()
    fake.loaded.add("smollm2:135m")
    fake.context_length = 2500
    engine = Ollama()
    model = catalog.Model(name="smollm2:135m", served_names=("m",), kind=catalog.CHAT)
    many = _chat(*[""] * 2501)
    async with fake_ollama.running(fake):
        await engine.start()
        await engine.look(fake.url)
        with pytest.raises(errors.ApiError):
            await _ask(engine, *many, model)
        fake.loaded.clear()
        await engine.look(fake.url)
        await _ask(engine, *many, model)
        await engine.close()


async def test_the_translation_of_many_messages_makes_pauses() -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    for engine in (Ollama(), Compatible()):
        turns = 0
        task = asyncio.create_task(other())
        await _ask(engine, *_chat(*["a"] * 2560), _model(None))
        task.cancel()
        assert turns >= 9


async def test_arguments_of_calls_are_taken_apart_up_to_a_length() -> None:
    with pytest.raises(errors.ApiError) as refusal:
        await _ask(Ollama(), *_called(json.dumps({"a": "x" * 2**19})), _model(None))
    assert refusal.value.code == "string_above_max_length"
    assert refusal.value.param == "messages[0].tool_calls[0].function.arguments"


async def test_arguments_may_be_as_long_as_that() -> None:
    arguments = json.dumps({"a": "x" * (2**19 - len('{"a": ""}'))})
    await _ask(Ollama(), *_called(arguments), _model(None))


@pytest.mark.parametrize(("able", "fits"), [("tools", False), ("vision", True)])
async def test_calls_count_for_models_that_are_told_of_them(able: str, fits: bool) -> None:
    model = catalog.Model(
        name="m:1",
        served_names=("m",),
        kind=catalog.CHAT,
        capabilities=frozenset({"completion", able}),
        context_length=_PINNED,
    )
    with contextlib.nullcontext() if fits else pytest.raises(errors.ApiError):
        await _ask(Ollama(), *_called(json.dumps({"a": "x" * _BYTES})), model)


@pytest.mark.parametrize(("messages", "pauses"), [(1, 0), (256, 0), (257, 2), (600, 4)])
def test_many_messages_are_translated_in_steps(messages: int, pauses: int) -> None:
    many = requests.ChatRequest(model="m", messages=[requests.UserMessage("")] * messages)
    assert len(list(native.chat(many, _model(None)))) == pauses


async def test_2048_prompts_are_one_request_of_which_each_is_asked_in_its_turn(
    ollama: fake_ollama.FakeOllama,
) -> None:
    go_on = asyncio.Event()
    ollama.chat = [go_on, *fake_ollama.answer("one")]
    limits = asking.limited(maxInFlightPerServer=1, maxQueuedRequests=0)
    body = {"model": "smollm2", "prompt": ["x"] * 2048, "n": 2}
    async with running.proxied(ollama.url, user_config=limits) as (session, built):
        asked = asyncio.create_task(asking.post(session, "/v1/completions", body))
        await ollama.asked.wait()
        await asking.until(lambda: built.dispatch.counts()["smollm2"][0] == 1, built)
        assert len(ollama.answered) == 1
        asked.cancel()


async def test_of_a_server_that_does_not_answer_no_context_is_known(ollama: fake_ollama.FakeOllama) -> None:
    ollama.loaded.add("smollm2:135m")
    ollama.context_length = 2500
    engine = Ollama()
    model = catalog.Model(name="smollm2:135m", served_names=("m",), kind=catalog.CHAT)
    await engine.start()
    await engine.look(ollama.url)
    assert engine._context(model) == 2500
    engine._http.tags = _unreachable  # type: ignore[method-assign,assignment]
    with pytest.raises(port.UnreachableError):
        await engine.look(ollama.url)
    assert engine._context(model) is None
    await engine.close()


async def _unreachable(_: str) -> None:
    raise port.UnreachableError("refused")
