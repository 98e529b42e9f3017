"""What proxies tell of what they are asked: over HTTP, in the background, and what opens it."""

import asyncio
import dataclasses
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from modelset_operator.cluster import http, keys
from modelset_operator.demand import feed, proxies, readers

from . import fake_api, fake_proxies

OWNER = ("default", "assistants")
SOURCE = feed.Source("http://assistants-serve-svc.default.svc:8000/demand", "a-token", "assistants-abc")
BUSY = {"inFlight": 3, "queued": 2, "longestWaitSeconds": 1.5, "idleSeconds": 0.0}
QUIET = {"inFlight": 0, "queued": 0, "longestWaitSeconds": 0.0, "idleSeconds": 40.0}


def answering(handler: Callable[[httpx.Request], httpx.Response]) -> proxies.Proxies:
    return proxies.Proxies(httpx.AsyncClient(transport=httpx.MockTransport(handler)))


async def ask(handler: Callable[[httpx.Request], httpx.Response]) -> feed.Answer:
    return await answering(handler).ask(SOURCE, "v1", 20.0)


@pytest.mark.parametrize(
    ("models", "answer"),
    [
        ({}, feed.Answer("v2", 0, 0, None)),
        ({"a": QUIET}, feed.Answer("v2", 0, 0, 40.0)),
        ({"a": BUSY, "b": QUIET}, feed.Answer("v2", 3, 2, 0.0)),
        ({"a": BUSY, "b": BUSY}, feed.Answer("v2", 6, 4, 0.0)),
    ],
)
async def test_the_feed_is_summed_over_all_models(models: dict[str, Any], answer: feed.Answer) -> None:
    told = {"version": "v2", "models": models, "sick": {}}
    assert await ask(lambda _: httpx.Response(200, json=told)) == answer


async def test_the_request_says_what_is_known_how_long_to_wait_and_who_asks() -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"version": "v1", "models": {}, "sick": {}})

    await ask(handler)
    (request,) = seen
    assert str(request.url) == f"{SOURCE.url}?version=v1&wait=20.0"
    assert request.headers["authorization"] == "Bearer a-token"


async def test_no_connection_is_kept_to_a_proxy_that_may_be_on_its_way_out() -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"version": "v1", "models": {}, "sick": {}})

    await ask(handler)
    assert seen[0].headers["connection"] == "close"


@pytest.mark.parametrize(
    ("response", "why"),
    [
        pytest.param(httpx.Response(404), "HTTP 404", id="not the token"),
        pytest.param(httpx.Response(503, text="away"), "HTTP 503", id="starting"),
        pytest.param(httpx.Response(200, text="<html>"), "something else", id="not JSON"),
        pytest.param(httpx.Response(200, json={"models": {}}), "something else", id="no version"),
        pytest.param(
            httpx.Response(200, json={"version": "", "models": {"a": 1}}), "something else", id="a number"
        ),
        pytest.param(httpx.Response(200, json=[]), "something else", id="a list"),
        pytest.param(httpx.Response(200, content=b" " * (1024 * 1024 + 1)), "does not end", id="endless"),
    ],
)
async def test_what_is_no_answer_of_a_proxy_is_told(response: httpx.Response, why: str) -> None:
    with pytest.raises(feed.UnreachableError, match=why):
        await ask(lambda _: response)


async def test_a_connection_that_fails_is_told() -> None:
    def handler(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    with pytest.raises(feed.UnreachableError, match="refused"):
        await ask(handler)


async def test_an_answer_that_takes_too_long_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxies, "_SPARE_SECONDS", 0.01)

    async def handler(_: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    client = httpx.AsyncClient(transport=httpx.MockTransport(handler))
    with pytest.raises(feed.UnreachableError, match="in time"):
        await proxies.Proxies(client).ask(SOURCE, "", 0.0)


class Reading:
    """Readers, and when they tell."""

    def __init__(self) -> None:
        self.proxies = fake_proxies.FakeProxies()
        self.now = 1000.0
        self.told: asyncio.Queue[readers.Set] = asyncio.Queue()
        self.readers = readers.Readers(self.proxies, self.told.put_nowait, lambda: self.now)

    async def news(self) -> feed.Asked | None:
        async with asyncio.timeout(5):
            assert await self.told.get() == OWNER
        return self.readers.asked(OWNER)


@pytest.fixture
def reading(monkeypatch: pytest.MonkeyPatch) -> Reading:
    monkeypatch.setattr(readers, "_AGAIN_SECONDS", 0.001)
    return Reading()


async def test_a_reader_tells_of_each_change(reading: Reading) -> None:
    reading.proxies.tell(in_flight=1)
    reading.readers.sync(OWNER, SOURCE)
    assert await reading.news() == feed.Asked(1, 0, 0.0)
    reading.proxies.tell(in_flight=1, queued=7)
    assert await reading.news() == feed.Asked(1, 7, 0.0)
    assert reading.told.empty()
    await reading.readers.close()


async def test_idle_time_goes_on_between_answers(reading: Reading) -> None:
    reading.proxies.tell(idle_seconds=30.0)
    reading.readers.sync(OWNER, SOURCE)
    await reading.news()
    reading.now += 12.0
    assert reading.readers.asked(OWNER) == feed.Asked(0, 0, 42.0)
    await reading.readers.close()


async def test_of_a_proxy_that_nobody_has_asked_idle_time_counts_from_its_first_answer(
    reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "WAIT_SECONDS", 0.001)
    reading.proxies.tell(idle_seconds=None)
    reading.readers.sync(OWNER, SOURCE)
    assert await reading.news() == feed.Asked(0, 0, 0.0)
    for _ in range(3):
        reading.now += 10.0
        await reading.proxies.until_asked(2)
    assert reading.readers.asked(OWNER) == feed.Asked(0, 0, 30.0)
    reading.proxies.tell(in_flight=1)
    assert await reading.news() == feed.Asked(1, 0, 0.0)
    reading.proxies.tell(idle_seconds=None)
    assert await reading.news() == feed.Asked(0, 0, 0.0)
    await reading.readers.close()


async def test_what_a_silent_proxy_was_asked_is_not_known(reading: Reading) -> None:
    reading.proxies.tell(in_flight=1)
    reading.readers.sync(OWNER, SOURCE)
    await reading.news()
    reading.proxies.fall_silent()
    assert await reading.news() is None
    reading.proxies.tell(in_flight=2)
    assert await reading.news() == feed.Asked(2, 0, 0.0)
    await reading.readers.close()


async def test_before_the_first_answer_nothing_is_known_and_nobody_told(reading: Reading) -> None:
    reading.readers.sync(OWNER, SOURCE)
    await reading.proxies.until_asked(3)
    assert reading.readers.asked(OWNER) is None
    assert reading.told.empty()
    await reading.readers.close()


async def test_another_source_is_read_anew_and_the_same_goes_on(reading: Reading) -> None:
    reading.proxies.tell(in_flight=1)
    reading.readers.sync(OWNER, SOURCE)
    await reading.news()
    reading.readers.sync(OWNER, SOURCE)
    assert reading.readers.asked(OWNER) is not None
    other = dataclasses.replace(SOURCE, cluster="assistants-def")
    reading.readers.sync(OWNER, other)
    assert reading.readers.asked(OWNER) is None
    await reading.news()
    assert reading.proxies.sources[-1] == other
    await reading.readers.close()


async def test_a_set_that_is_forgotten_is_read_no_more(reading: Reading) -> None:
    reading.proxies.tell(in_flight=1)
    reading.readers.sync(OWNER, SOURCE)
    await reading.news()
    reading.readers.forget(OWNER)
    assert reading.readers.asked(OWNER) is None
    await asyncio.sleep(0)
    reading.proxies.tell(in_flight=2)
    await asyncio.sleep(0.01)
    assert reading.told.empty()
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("demand of")]


async def test_the_key_is_made_once_and_kept_in_a_secret() -> None:
    api = fake_api.FakeApi()
    first = await keys.Keys(api, "system", "modelset-operator").key()
    assert len(first) == 32
    found = api.find("Secret", "modelset-operator-demand", "system")
    assert found["type"] == "Opaque"
    again = keys.Keys(api, "system", "modelset-operator")
    assert await again.key() == first
    reads = len(api.reads)
    assert await again.key() == first
    assert len(api.reads) == reads
    assert api.writes == ["create Secret/modelset-operator-demand"]


async def test_who_is_slower_in_making_the_key_is_refused_and_gets_the_others() -> None:
    api = fake_api.FakeApi()
    slow = keys.Keys(api, "system", "modelset-operator")
    looked = await slow._get()
    assert looked is None
    first = await keys.Keys(api, "system", "modelset-operator").key()
    with pytest.raises(http.RefusedError) as refused:
        await slow._create()
    assert refused.value.passing
    assert await slow.key() == first


async def test_a_refused_secret_is_told() -> None:
    api = fake_api.FakeApi()
    api.refusals["Secret"] = http.RefusedError(403, "secrets is forbidden")
    with pytest.raises(http.RefusedError, match="forbidden"):
        await keys.Keys(api, "system", "modelset-operator").key()


def test_each_set_has_a_token_of_its_own_of_which_the_proxy_knows_the_hash() -> None:
    one, other = (keys.token(b"k" * 32, uid) for uid in ("uid-1", "uid-2"))
    assert one != other
    assert one != keys.token(b"l" * 32, "uid-1")
    assert keys.token_hash("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
