"""How many at once, how long, how large; and what is counted."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from modelset_proxy.telemetry import metrics
from serve_app.tests import asking, fake_ollama, running


async def test_a_full_queue_is_a_429_with_retry_after(ollama: fake_ollama.FakeOllama) -> None:
    go_on = asyncio.Event()
    ollama.chat = [go_on, *fake_ollama.answer("one")]
    limits = asking.limited(maxInFlightPerServer=1, maxQueuedRequests=1)
    async with running.proxied(ollama.url, user_config=limits) as (session, built):
        first = asyncio.create_task(asking.ask(session))
        await ollama.asked.wait()
        second = asyncio.create_task(asking.ask(session, stream=True))
        await asking.until_queued(built, 1)
        async with session.post("/v1/chat/completions", json=asking.CHAT) as response:
            assert response.status == 429
            assert response.headers["retry-after"] == "5"
        go_on.set()
        assert (await first)[0] == (await second)[0] == 200
    assert len(ollama.sent("/api/chat")) == 2


async def test_a_client_that_leaves_the_queue_never_reaches_ollama(ollama: fake_ollama.FakeOllama) -> None:
    go_on = asyncio.Event()
    ollama.chat = [go_on, *fake_ollama.answer("one")]
    async with running.proxied(ollama.url, user_config=asking.limited(maxInFlightPerServer=1)) as (
        session,
        built,
    ):
        first = asyncio.create_task(asking.ask(session))
        await ollama.asked.wait()
        second = asyncio.create_task(asking.ask(session))
        await asking.until_queued(built, 1)
        second.cancel()
        await asking.until_queued(built, 0)
        go_on.set()
        assert (await first)[0] == 200
    assert len(ollama.sent("/api/chat")) == 1


@pytest.mark.parametrize("begun", [False, True])
async def test_an_answer_that_takes_too_long_is_ended(ollama: fake_ollama.FakeOllama, begun: bool) -> None:
    ollama.chat = [*fake_ollama.answer("one")[: int(begun)], asyncio.Event(), *fake_ollama.answer("two")]
    limits = asking.limited(requestTimeoutSeconds=0.2)
    async with running.proxied(ollama.url, user_config=limits) as (session, _):
        status, text = await asking.ask(session, stream=True)
        await asyncio.wait_for(ollama.cancelled.wait(), 5)
    assert status == (200 if begun else 504)
    last = text.strip().split("\n\n")[-1].removeprefix("data: ")
    assert json.loads(last)["error"]["code"] == "timeout"


async def test_a_body_that_is_too_large_is_a_413(ollama: fake_ollama.FakeOllama) -> None:
    async with running.proxied(ollama.url, user_config=asking.limited(maxBodyBytes=300)) as (session, _):
        assert (await asking.ask(session))[0] == 200
        assert (await asking.ask(session, user="x" * 300))[0] == 413

        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(4):
                yield b" " * 100

        async with session.post("/v1/chat/completions", data=pieces()) as response:
            assert (await response.json())["error"]["code"] == "request_too_large"


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/v1/chat/completions", {"content-type": "multipart/form-data; boundary=x"}),
        ("/v1/embeddings", {"content-encoding": "gzip"}),
        ("/v1/audio/transcriptions", {"content-type": "application/json"}),
    ],
)
async def test_a_body_of_the_wrong_kind_is_a_415(
    ollama: fake_ollama.FakeOllama, path: str, headers: dict[str, str]
) -> None:
    async with (
        running.proxied(ollama.url) as (session, _),
        session.post(path, data=b"{}", headers=headers) as response,
    ):
        assert response.status == 415


class Recorded(metrics.Nothing):
    """Keeps what was counted."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []
        self.levels: dict[str, tuple[int, int]] = {}

    def request(self, route: str, model: str, client: str, status: int, seconds: float) -> None:
        self.seen.append(("request", route, model, status))

    def tokens(self, model: str, client: str, prompt: int, completion: int) -> None:
        self.seen.append(("tokens", model, prompt, completion))

    def first_token(self, model: str, seconds: float) -> None:
        self.seen.append(("first", model))

    def per_token(self, model: str, seconds: float) -> None:
        self.seen.append(("each", model))

    def load(self, model: str, seconds: float) -> None:
        self.seen.append(("load", model, round(seconds)))

    def in_flight(self, model: str, running: int, queued: int) -> None:
        self.levels[model] = running, queued

    def upstream_failure(self, model: str, reason: str) -> None:
        self.seen.append(("failure", model, reason))

    def upstream_retry(self, model: str) -> None:
        self.seen.append(("retry", model))


async def test_a_stream_is_counted_and_timed(ollama: fake_ollama.FakeOllama) -> None:
    ollama.chat = fake_ollama.answer("one", "two", load_duration=2_000_000_000)
    recorded = Recorded()
    async with running.proxied(ollama.url, measures=recorded) as (session, _):
        await asking.ask(session, stream=True)
    assert recorded.seen == [
        ("first", "smollm2"),
        ("each", "smollm2"),
        ("tokens", "smollm2", 3, 2),
        ("load", "smollm2", 2),
        ("request", "/chat/completions", "smollm2", 200),
    ]


async def test_what_runs_and_waits_is_counted(ollama: fake_ollama.FakeOllama) -> None:
    go_on = asyncio.Event()
    ollama.chat = [go_on, *fake_ollama.answer("one")]
    recorded = Recorded()
    limits = asking.limited(maxInFlightPerServer=1)
    async with running.proxied(ollama.url, user_config=limits, measures=recorded) as (session, built):
        requests = [asyncio.create_task(asking.ask(session)) for _ in range(3)]
        await asking.until(lambda: recorded.levels.get("smollm2") == (1, 2), built)
        go_on.set()
        await asyncio.gather(*requests)
        await asking.until(lambda: recorded.levels.get("smollm2") == (0, 0), built)


async def test_a_model_that_leaves_is_counted_down_to_nothing(ollama: fake_ollama.FakeOllama) -> None:
    go_on = asyncio.Event()
    ollama.chat = [go_on, *fake_ollama.answer("one")]
    recorded = Recorded()
    async with running.proxied(ollama.url, measures=recorded) as (session, built):
        request = asyncio.create_task(asking.ask(session))
        await asking.until(lambda: recorded.levels.get("smollm2") == (1, 0), built)
        await built.configure({"models": [running.USER_CONFIG["models"][0]]})
        await asking.until(lambda: recorded.levels["smollm2"] == (0, 0), built)
        go_on.set()
        assert (await request)[0] == 200


async def test_failures_and_retries_are_counted_and_unknown_paths_are_one_route() -> None:
    pair = fake_ollama.FakeOllama(), fake_ollama.FakeOllama()
    recorded = Recorded()
    async with fake_ollama.running(*pair):
        pair[0].chat = [fake_ollama.CUT]
        pair[0].loaded = {"smollm2:135m"}
        async with running.proxied(*(fake.url for fake in pair), measures=recorded) as (session, _):
            assert (await asking.ask(session))[0] == 200
            async with session.get("/v1/some/path/of/theirs"):
                pass
    assert ("failure", "smollm2", "upstream_disconnected") in recorded.seen
    assert ("retry", "smollm2") in recorded.seen
    assert ("request", "", "", 404) in recorded.seen


async def test_where_all_servers_hang_waiting_ends(ollama: fake_ollama.FakeOllama) -> None:
    async with running.proxied(ollama.url, user_config=asking.limited(queueTimeoutSeconds=0.1)) as (
        session,
        built,
    ):
        built.dispatch.core._state.servers[ollama.url].sick = "another"
        status, text = await asking.ask(session)
        assert (status, json.loads(text)["error"]["code"]) == (503, "queue_timeout")
        assert built.dispatch.counts()["smollm2"] == (0, 0)


async def test_who_has_begun_to_be_answered_is_not_told_to_come_back(
    ollama: fake_ollama.FakeOllama,
) -> None:
    gate = asyncio.Event()
    ollama.chat = [gate, *fake_ollama.answer("one")]
    limits = asking.limited(queueTimeoutSeconds=0.1, maxInFlightPerServer=1)
    async with running.proxied(ollama.url, user_config=limits) as (session, built):
        patient = asyncio.create_task(asking.ask(session, n=3))
        await asking.until(lambda: len(ollama.sent("/api/chat")) == 1, built)
        # Who came later has waited too long by now, and so have two of the three choices.
        assert (await asking.ask(session))[0] == 503
        gate.set()
        status, text = await patient
        assert (status, len(json.loads(text)["choices"])) == (200, 3)


async def test_who_waited_for_all_answers_waits_on_once_the_first_has_begun(
    ollama: fake_ollama.FakeOllama,
) -> None:
    before, during = asyncio.Event(), asyncio.Event()
    ollama.chat = [before, *fake_ollama.answer("one")]
    limits = asking.limited(queueTimeoutSeconds=0.3, maxInFlightPerServer=1)
    async with running.proxied(ollama.url, user_config=limits) as (session, built):
        occupant = asyncio.create_task(asking.ask(session))
        await asking.until(lambda: len(ollama.sent("/api/chat")) == 1, built)
        patient = asyncio.create_task(asking.ask(session, n=2))
        await asking.until(lambda: built.dispatch.counts()["smollm2"] == (1, 1), built)
        ollama.chat = [during, *fake_ollama.answer("two")]
        before.set()
        assert (await occupant)[0] == 200
        await asking.until(lambda: len(ollama.sent("/api/chat")) == 2, built)
        # Who came later has waited too long by now.
        assert (await asking.ask(session))[0] == 503
        during.set()
        status, text = await patient
        assert (status, len(json.loads(text)["choices"])) == (200, 2)
