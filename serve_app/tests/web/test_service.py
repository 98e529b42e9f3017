"""What routes do with what they are asked."""

import asyncio
import types
from collections.abc import AsyncGenerator
from typing import Any

import aiohttp
import pytest

from modelset_proxy.dispatch import work
from modelset_proxy.engines import port, relay
from modelset_proxy.openai import catalog, errors, parts, usage
from modelset_proxy.telemetry import log, metrics
from modelset_proxy.web import holding, service
from serve_app.tests import asking, fake_compatible, fake_ollama, running
from serve_app.tests.web import speaking


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/smollm2", "/healthz"])
async def test_what_is_known_is_told(client: aiohttp.ClientSession, path: str) -> None:
    async with client.get(path) as response:
        assert (response.status, response.headers["content-type"]) == (200, "application/json")


def test_before_it_is_configured_it_serves_nothing_and_says_of_no_name_that_there_is_no_such_model() -> None:
    found = service.Service(None, None, metrics.Nothing())  # type: ignore[arg-type]
    assert found.catalog.served_names == []
    with pytest.raises(errors.ApiError) as refusal:
        found.catalog.entry("smollm2")
    assert refusal.value.status == 503


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", asking.CHAT),
        ("/v1/completions", {"model": "smollm2", "prompt": ["What is this?", "b"]}),
    ],
)
async def test_where_a_request_goes_is_decided_by_its_prompt(
    ollama: fake_ollama.FakeOllama, path: str, body: dict[str, Any]
) -> None:
    async with running.proxied(ollama.url) as (client, built):
        seen: list[tuple[int, int]] = []
        genuine = built.dispatch.open

        def open_work(*given: Any, **more: Any) -> work.Work[Any]:
            found = genuine(*given, **more)
            seen.append((len(found.request.prefix), found.request.prompt_tokens))
            return found

        built.dispatch.open = open_work  # type: ignore[method-assign]
        assert (await asking.post(client, path, body))[0] == 200
    [(blocks, tokens)] = seen
    assert blocks == 1
    assert tokens > 0


def _limited(seconds: float | None, measures: metrics.Metrics) -> service.Service:
    """A service whose requests may take so long."""
    limits = types.SimpleNamespace(request_timeout_seconds=seconds)
    return service.Service(None, types.SimpleNamespace(limits=limits), measures)  # type: ignore[arg-type]


class Timed(metrics.Nothing):
    """Keeps tokens and times."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int, int]] = []
        self.seconds: list[float] = []
        self.loads: list[tuple[str, float]] = []

    def tokens(self, model: str, client: str, prompt: int, completion: int) -> None:
        self.seen.append((model, prompt, completion))

    def first_token(self, model: str, seconds: float) -> None:
        self.seconds.append(seconds)

    def per_token(self, model: str, seconds: float) -> None:
        self.seconds.append(seconds)

    def load(self, model: str, seconds: float) -> None:
        self.loads.append((model, seconds))


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the access log is told."""
    found: list[dict[str, Any]] = []
    monkeypatch.setattr(log.RequestLog, "write", lambda _log, _level, **values: found.append(values))
    return found


async def test_an_embedding_takes_the_tokens_of_its_texts(
    ollama: fake_ollama.FakeOllama, logged: list[dict[str, Any]]
) -> None:
    timed = Timed()
    async with running.proxied(ollama.url, measures=timed) as (client, _):
        await asking.post(client, "/v1/embeddings", {"model": "all-minilm", "input": "x"})
    assert timed.seen == [("all-minilm", 7, 0)]
    assert (logged[0]["stream"], logged[0]["prompt_tokens"], logged[0]["attempts"]) == (False, 7, 1)
    assert logged[0]["upstream"] == ollama.url


async def test_a_stream_is_timed_and_logged(
    ollama: fake_ollama.FakeOllama, logged: list[dict[str, Any]]
) -> None:
    timed = Timed()
    async with running.proxied(ollama.url, measures=timed) as (client, _):
        await asking.stream(client)
    assert len(timed.seconds) == 2
    assert all(0 <= seconds < 5 for seconds in timed.seconds)
    assert logged[0]["stream"] is True
    assert 0 <= logged[0]["first_byte_seconds"] < 5
    assert "error" not in logged[0]


@pytest.mark.parametrize(
    ("completion", "seconds"), [(0, [2.5]), (1, [2.5]), (2, [2.5, 3.0]), (4, [2.5, 1.0])]
)
async def test_tokens_after_the_first_are_timed_from_it(
    completion: int, seconds: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    timed, times, tokens = Timed(), iter([102.5, 105.5]), usage.Tokens()
    found = service.Service(None, None, timed)  # type: ignore[arg-type]
    web, call = speaking.Spoken().web(), port.Call("req_1", "smollm2")
    web.began, tokens.completion = 100.0, completion
    monkeypatch.setattr(service, "time", types.SimpleNamespace(monotonic=times.__next__))
    hold = holding.Holding(web, stranded=bool, asked=bool)
    await found._begin(web, call, hold)
    assert hold.ended
    found._time_tokens(web, call, tokens)
    assert (timed.seconds, web.facts) == (seconds, {"first_byte_seconds": 2.5})


class Spelling:
    """Answers of so many units, in two pieces a second apart each, and frames that spell them out."""

    stranded = True

    def __init__(self, units: int) -> None:
        self.units = units
        self.tokens = usage.Tokens()

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, *_: object) -> None:
        pass

    async def answer(self, unit: int) -> AsyncGenerator[str, None]:
        for count in range(2):
            await asyncio.sleep(1)
            yield f"{unit}.{count} "

    def events(self, index: int, pieces: str) -> bytes:
        return f"{index}:{pieces}".encode()

    def end(self) -> bytes:
        return b"end"


@pytest.mark.simulated
@pytest.mark.parametrize(
    ("units", "told"), [(1, b"0:0.0 0:0.1 end"), (2, b"0:0.0 1:1.0 0:0.1 1:1.1 end")], ids=["one", "two"]
)
async def test_a_stream_of_any_number_of_choices_begins_once(units: int, told: bytes) -> None:
    timed, spoken, spelling = Timed(), speaking.Spoken(), Spelling(units)
    found = _limited(None, timed)
    await found._stream(spoken.web(), port.Call("req_1"), spelling, spelling)  # type: ignore[arg-type]
    assert (spoken.status, spoken.body, len(timed.seconds)) == (200, told, 1)


@pytest.mark.parametrize(
    ("queued", "load", "logged", "loads"),
    [
        (0.01, 0.1, {}, []),
        (0.0123, 0.0, {"queued_seconds": 0.0123}, []),
        (0.0, 0.25, {"load_seconds": 0.25}, [("smollm2", 0.25)]),
    ],
    ids=["neither", "waited", "loaded"],
)
def test_waits_are_logged_that_somebody_notices(
    queued: float, load: float, logged: dict[str, float], loads: list[tuple[str, float]]
) -> None:
    timed, tokens = Timed(), usage.Tokens()
    web = speaking.Spoken().web()
    call = port.Call("req_1", "smollm2", server="one", attempts=2, load_seconds=load, queued_seconds=queued)
    service.Service(None, None, timed)._note(web, call, tokens)  # type: ignore[arg-type]
    told = {"upstream": "one", "attempts": 2, "prompt_tokens": 0, "completion_tokens": 0}
    assert (web.facts, timed.loads) == ({**told, **logged}, loads)


def test_a_client_that_must_go_is_let_go_by_its_call() -> None:
    web = speaking.Spoken().web()
    model = catalog.Model(name="m:1", served_names=("m", "n"), kind=catalog.CHAT)
    web.client = "someone"
    call = service.Service(None, None, metrics.Nothing())._call(web, model)  # type: ignore[arg-type]
    assert (call.request_id, call.served, call.client) == (web.request_id, "m", "someone")
    assert call.drop == web.drop


async def test_a_stream_that_fails_is_logged_with_its_reason(
    ollama: fake_ollama.FakeOllama, logged: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    ollama.chat = [*fake_ollama.answer("one")[:1], {"error": "CUDA error"}]
    async with running.proxied(ollama.url) as (client, _):
        await asking.stream(client, response_format={"type": "json_object"})
    assert logged[0]["error"] == "upstream_error"
    assert "stream failed" in [record.message for record in caplog.records]


async def test_a_large_embedding_is_the_same_in_parts(
    ollama: fake_ollama.FakeOllama, logged: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    body = {"model": "all-minilm", "input": ["a", "b", "c"]}
    replies = []
    async with running.proxied(ollama.url) as (client, _):
        for size in (10_000, 10):
            monkeypatch.setattr(parts, "_PART_BYTES", size)
            async with client.post("/v1/embeddings", json=body) as response:
                head = response.status, response.headers["content-type"], response.headers["content-length"]
                replies.append((head, await response.read()))
    assert replies[0] == replies[1]
    assert [(one["prompt_tokens"], one["status"]) for one in logged] == [(7, 200)] * 2


@pytest.mark.parametrize("parts", [[b"whole"], [b"two ", b"parts"], [b"a", b"b", b"c"]])
async def test_no_part_of_an_answer_is_missing_and_its_end_is_told(parts: list[bytes]) -> None:
    spoken, tokens = speaking.Spoken(), usage.Tokens()
    found = service.Service(None, None, metrics.Nothing())  # type: ignore[arg-type]
    await found._reply_in_parts(spoken.web(), port.Call("req_1"), iter(parts), tokens)
    assert (spoken.status, spoken.body) == (200, b"".join(parts))
    assert dict(spoken.headers)[b"content-length"] == b"%d" % len(spoken.body)
    assert [message.get("more_body", False) for message in spoken.sent[1:]][-1] is False


@pytest.mark.parametrize(
    ("content_type", "says"),
    [
        (b"", True),
        (b"application/json", True),
        (b"Application/JSON ; charset=utf-8", True),
        (b"application/vnd.api+json", True),
        (b"text/plain", False),
        (b"text/json", False),
    ],
)
def test_json_is_what_says_so_or_says_nothing(content_type: bytes, says: bool) -> None:
    assert service._says_json(content_type) is says


async def test_a_form_is_no_request_of_json() -> None:
    web = speaking.Spoken(headers=[(b"content-type", b"multipart/form-data; boundary=x")]).web()
    with pytest.raises(errors.ApiError) as refusal:
        await service.Service(None, None, metrics.Nothing())._json_body(web)  # type: ignore[arg-type]
    assert (refusal.value.status, refusal.value.code) == (415, "unsupported_media_type")


async def test_tokens_cannot_be_counted_before_an_answer() -> None:
    with pytest.raises(errors.ApiError) as refusal:
        await service.Service(None, None, metrics.Nothing()).count_tokens(None)  # type: ignore[arg-type]
    assert (refusal.value.status, refusal.value.code) == (404, "unknown_url")


async def test_what_is_passed_on_is_whole_and_no_stream(
    logged: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ask(*_: Any) -> AsyncGenerator[bytes, None]:
        for part in (b'{"text"', b":1}"):
            yield part

    monkeypatch.setattr(relay.Relay, "ask", ask)
    fake = fake_compatible.FakeCompatible()
    form = aiohttp.FormData({"model": "smollm2"}, default_to_multipart=True)
    async with (
        fake_compatible.running(fake),
        running.proxied(fake.url, engine="openai") as (client, _),
        client.post("/v1/audio/transcriptions", data=form) as response,
    ):
        assert await response.text() == '{"text":1}'
    assert (logged[0]["stream"], logged[0]["upstream"], logged[0]["attempts"]) == (False, fake.url, 1)


@pytest.mark.simulated
async def test_what_took_too_long_is_not_to_be_tried_again() -> None:
    with pytest.raises(errors.ApiError) as refusal:
        async with _limited(5.0, metrics.Nothing())._deadline():
            await asyncio.sleep(6)
    assert asyncio.get_running_loop().time() == 5
    assert (refusal.value.status, refusal.value.code, refusal.value.may_retry) == (504, "timeout", False)
    assert refusal.value.kind == "server_error"


@pytest.mark.simulated
@pytest.mark.parametrize("seconds", [None, 5.0])
async def test_an_answer_in_time_is_not_cut_off(seconds: float | None) -> None:
    async with _limited(seconds, metrics.Nothing())._deadline():
        await asyncio.sleep(4)
    assert asyncio.get_running_loop().time() == 4
