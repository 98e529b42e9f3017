"""What the engine that is Ollama refuses, before anybody waits, and another one would not."""

import json
from typing import Any

import pytest

from modelset_proxy.engines import port
from modelset_proxy.engines.compatible.engine import Compatible
from modelset_proxy.engines.ollama.engine import Ollama
from modelset_proxy.openai import catalog, errors, requests
from serve_app.tests import asking, fake_ollama, running

_MODEL = catalog.Model(name="m:1", served_names=("m",), kind=catalog.ANY)


async def _chat(engine: port.Engine, body: dict[str, Any]) -> port.Job[Any]:
    return await engine.chat(requests.chat(json.dumps({"model": "m", **body}).encode()), _MODEL)


async def _completion(engine: port.Engine, body: dict[str, Any]) -> port.Job[Any]:
    return await engine.complete(
        requests.completion(json.dumps({"model": "m", "prompt": "x", **body}).encode()), _MODEL
    )


async def _embedding(engine: port.Engine, body: dict[str, Any]) -> port.Job[Any]:
    return await engine.embed(requests.embedding(json.dumps({"model": "m", **body}).encode()), _MODEL)


def _image(url: str) -> dict[str, Any]:
    part = {"type": "image_url", "image_url": {"url": url}}
    return {"messages": [{"role": "user", "content": [part]}]}


_HI = {"messages": [{"role": "user", "content": "hi"}]}
_GIF = "data:image/gif;base64,R0lGODlhAQABAAAAACw="
_AT = "messages[0].content[0]"
_AUDIO = {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]}
_REPLAY = {"messages": [{"role": "assistant", "tool_calls": [{"type": "custom", "id": "1", "custom": {}}]}]}
_REFUSED: dict[str, tuple[Any, dict[str, Any], str, str]] = {
    "bias in a chat": (_chat, {**_HI, "logit_bias": {"1": 5}}, "logit_bias", "unsupported_parameter"),
    "bias": (_completion, {"logit_bias": {"1": 5}}, "logit_bias", "unsupported_parameter"),
    "ids": (_completion, {"prompt": [1, 2]}, "prompt", "unsupported_value"),
    "ids of several": (_completion, {"prompt": [[1], [2]]}, "prompt", "unsupported_value"),
    "ids among words": (_completion, {"prompt": ["a", [2]]}, "prompt", "unsupported_value"),
    "best of": (_completion, {"best_of": 3}, "best_of", "unsupported_parameter"),
    "no tokens": (_completion, {"max_tokens": 0, "echo": True}, "max_tokens", "unsupported_value"),
    "echo": (_completion, {"echo": True, "logprobs": 1}, "logprobs", "unsupported_parameter"),
    "ids to embed": (_embedding, {"input": [1, 2]}, "input", "unsupported_value"),
    "more ids to embed": (_embedding, {"input": [[1, 2]]}, "input", "unsupported_value"),
    "far image": (_chat, _image("https://x.example/a.png"), f"{_AT}.image_url.url", "unsupported_value"),
    "gif": (_chat, _image(_GIF), f"{_AT}.image_url.url", "invalid_value"),
    "audio": (_chat, _AUDIO, _AT, "unsupported_parameter"),
    "replay": (_chat, _REPLAY, "messages[0].tool_calls[0]", "unsupported_parameter"),
}


@pytest.mark.parametrize("case", _REFUSED)
async def test_what_ollama_cannot_do_is_its_engines_to_refuse(case: str) -> None:
    translate, body, param, code = _REFUSED[case]
    with pytest.raises(errors.ApiError) as refusal:
        await (await translate(Ollama(), body)).check()
    assert (refusal.value.status, refusal.value.param, refusal.value.code) == (400, param, code)
    await (await translate(Compatible(), body)).check()


async def test_as_many_candidates_as_choices_need_no_ranking() -> None:
    await (await _completion(Ollama(), {"n": 2, "best_of": 2})).check()


async def test_what_is_refused_waits_for_no_turn() -> None:
    fake = fake_ollama.FakeOllama()
    limits = asking.limited(maxQueuedRequests=0, maxInFlightPerServer=1)
    async with fake_ollama.running(fake), running.proxied(fake.url, user_config=limits) as (client, _):
        status, reply, _ = await asking.post(client, "/v1/embeddings", {"model": "all-minilm", "input": [1]})
    assert (status, reply["error"]["param"], fake.answered) == (400, "input", [])
