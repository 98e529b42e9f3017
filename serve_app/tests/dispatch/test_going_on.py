"""Streams whose server is lost: on another one they go on where they were."""

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from modelset_proxy.serving import proxy
from modelset_proxy.telemetry import metrics
from serve_app.tests import asking, fake_ollama, pictures, running
from serve_app.tests.dispatch import test_hanging

WORDS = ("One", " two", " three", " four")
PLAIN = {"stream_options": {"include_usage": True}}


class Continued(metrics.Nothing):
    """Counts the streams that went on."""

    def __init__(self) -> None:
        self.models: list[str] = []

    def stream_continued(self, model: str) -> None:
        self.models.append(model)


class Pair:
    """Two servers, of which the first is asked first and loses what it streams after so many words."""

    def __init__(self, after: int) -> None:
        self.first, self.second = fake_ollama.FakeOllama(), fake_ollama.FakeOllama()
        self.first.loaded = {"smollm2:135m"}
        whole = fake_ollama.answer(*WORDS)
        self.first.chat = [*whole[:after], fake_ollama.CUT]
        self.second.chat = whole
        self.counted = Continued()

    @contextlib.asynccontextmanager
    async def proxied(self, **model: Any) -> AsyncIterator[tuple[aiohttp.ClientSession, proxy.Proxy]]:
        embedding, chat = running.USER_CONFIG["models"]
        user_config = {**running.USER_CONFIG, "models": [embedding, {**chat, **model}]}
        urls_of = (self.first, self.second)
        async with (
            fake_ollama.running(*urls_of),
            running.proxied(
                *(fake.url for fake in urls_of), user_config=user_config, measures=self.counted
            ) as (session, built),
        ):
            yield session, built


def text(events: list[Any]) -> str:
    return "".join(choice["delta"].get("content", "") for event in events[:-1] for choice in event["choices"])


@pytest.mark.parametrize("after", [1, 2, 3])
async def test_no_word_is_lost_or_repeated(after: int) -> None:
    pair = Pair(after)
    async with pair.proxied() as (session, _):
        events = await asking.stream(session, **PLAIN)
    assert text(events) == "One two three four"
    assert events[-1] == "[DONE]"
    assert [event["choices"][0]["finish_reason"] for event in events[:-2]][-1] == "stop"
    assert sum("role" in event["choices"][0]["delta"] for event in events[:-2]) == 1
    assert pair.counted.models == ["smollm2"]


async def test_the_second_server_is_given_the_conversation_and_the_text_so_far() -> None:
    pair = Pair(2)
    async with pair.proxied() as (session, _):
        await asking.stream(session, temperature=0, max_tokens=10, logprobs=True)
    [asked_to_render] = pair.second.sent("/api/chat")
    assert (asked_to_render["_debug_render_only"], asked_to_render["stream"]) == (True, False)
    assert asked_to_render["messages"] == pair.first.sent("/api/chat")[0]["messages"]
    assert pair.second.sent("/api/generate") == [
        {
            "model": "smollm2:135m",
            "options": {"num_predict": 8, "temperature": 0},
            "keep_alive": -1,
            "logprobs": True,
            "top_logprobs": 0,
            "stream": True,
            "truncate": False,
            "shift": False,
            "prompt": fake_ollama.RENDERED + "One two",
            "raw": True,
            "think": False,
        }
    ]


async def test_tokens_are_counted_once() -> None:
    pair = Pair(2)
    # The second server reads the first two words as a part of its prompt, and makes two more.
    pair.second.chat[-1] |= {"prompt_eval_count": 32, "eval_count": 2}  # type: ignore[operator]
    async with pair.proxied() as (session, _):
        events = await asking.stream(session, **PLAIN)
    assert events[-2]["usage"] == {"prompt_tokens": 30, "completion_tokens": 4, "total_tokens": 34}


async def test_an_answer_of_which_only_the_end_was_lost_gets_it() -> None:
    pair = Pair(3)
    pair.second.chat[-1] |= {"done_reason": "length", "prompt_eval_count": 33, "eval_count": 1}  # type: ignore[operator]
    async with pair.proxied() as (session, _):
        events = await asking.stream(session, max_tokens=3, **PLAIN)
    assert text(events) == "One two three"
    assert events[-3]["choices"][0]["finish_reason"] == "length"
    assert events[-2]["usage"] == {"prompt_tokens": 30, "completion_tokens": 3, "total_tokens": 33}
    assert pair.second.sent("/api/generate")[0]["options"]["num_predict"] == 1


async def test_completions_go_on_after_prompt_and_text() -> None:
    pair = Pair(2)
    async with (
        pair.proxied() as (session, _),
        session.post(
            "/v1/completions",
            json={"model": "smollm2", "prompt": fake_ollama.RENDERED, "stream": True, "max_tokens": 9},
        ) as response,
    ):
        events = asking.events(await response.text())
    assert "".join(event["choices"][0]["text"] for event in events[:-1]) == "One two three four"
    [asked] = pair.second.sent("/api/generate")
    assert asked["prompt"] == fake_ollama.RENDERED + "One two"
    assert asked["options"]["num_predict"] == 7
    assert pair.second.sent("/api/chat") == []


async def test_all_choices_go_on() -> None:
    pair = Pair(2)
    async with pair.proxied() as (session, _):
        events = await asking.stream(session, n=3, seed=5)
    for index in range(3):
        own = [choice for event in events[:-1] for choice in event["choices"] if choice["index"] == index]
        assert "".join(choice["delta"].get("content", "") for choice in own) == "One two three four"
    assert {body["options"]["seed"] for body in pair.second.sent("/api/generate")} == {5, 6, 7}


async def test_an_answer_may_move_more_than_once() -> None:
    pair = Pair(1)
    one, two, three, four, end = fake_ollama.answer(*WORDS)
    pair.first.chat = [one, fake_ollama.CUT, two, three, four, end]
    pair.second.chat = [one, two, three, fake_ollama.CUT, four, end]
    async with pair.proxied() as (session, _):
        assert text(await asking.stream(session)) == "One two three four"
    # A connection that breaks may take with it what was on its way, and then there is one more.
    assert pair.counted.models[:2] == ["smollm2", "smollm2"]


async def test_one_that_hangs_in_mid_answer_goes_on_elsewhere() -> None:
    pair = Pair(2)
    pair.first.chat = [*fake_ollama.answer(*WORDS)[:2], asyncio.Event()]
    async with pair.proxied() as (session, built):
        clock = asking.Clock(built)
        asked = asyncio.create_task(asking.stream(session))
        await asking.until(lambda: bool(pair.first.running), built)
        await asking.until(lambda: any(lease.items for lease in built.dispatch.leases), built)
        await clock.forward(0)
        pair.first.thawed.clear()
        await test_hanging.hang(clock)
        assert text(await asked) == "One two three four"


class TestWhatCannotGoOn:
    """Everything that is more than the model's own words ends with an error event."""

    @pytest.mark.parametrize(
        ("capabilities", "request_of"),
        [
            (["completion"], {"response_format": {"type": "json_object"}}),
            (["completion", "tools"], {"tools": [{"type": "function", "function": {"name": "f"}}]}),
            (["completion", "thinking"], {}),
            (["completion", "vision"], {"messages": "picture"}),
        ],
        ids=["format", "tools", "thoughts", "pictures"],
    )
    async def test_it_is_told_so(self, capabilities: list[str], request_of: dict[str, Any]) -> None:
        pair = Pair(2)
        if request_of.get("messages"):
            url = f"data:image/png;base64,{base64.b64encode(pictures.png()).decode()}"
            picture = {"type": "image_url", "image_url": {"url": url}}
            request_of = {"messages": [{"role": "user", "content": [picture]}]}
        async with pair.proxied(capabilities=capabilities) as (session, _):
            events = await asking.stream(session, **request_of)
        assert events[-1]["error"]["code"] == "upstream_disconnected"
        assert pair.second.answered == []
        assert pair.counted.models == []

    async def test_a_model_that_was_told_not_to_think_writes_its_own_words(self) -> None:
        pair = Pair(2)
        async with pair.proxied(capabilities=["completion", "thinking"]) as (session, _):
            assert text(await asking.stream(session, reasoning_effort="none")) == "One two three four"

    async def test_words_that_follow_thoughts_are_not_taken_for_all(self) -> None:
        pair = Pair(2)
        pair.first.chat[0]["message"] = {"role": "assistant", "content": "", "thinking": "Hm"}  # type: ignore[index]
        async with pair.proxied() as (session, _):
            assert (await asking.stream(session))[-1]["error"]["code"] == "upstream_disconnected"

    async def test_a_suffix_is_filled_by_its_template_only(self) -> None:
        pair = Pair(2)
        body = {"model": "smollm2", "prompt": "a", "suffix": "b", "stream": True}
        async with (
            pair.proxied(capabilities=["completion", "insert"]) as (session, _),
            session.post("/v1/completions", json=body) as response,
        ):
            events = asking.events(await response.text())
        assert events[-1]["error"]["code"] == "upstream_disconnected"

    async def test_a_server_that_renders_nothing_cannot_go_on(self) -> None:
        pair = Pair(2)
        pair.second.renders = False
        async with pair.proxied() as (session, _):
            assert (await asking.stream(session))[-1]["error"]["code"] == "incomplete_answer"
