"""Who may call, how many at once, who is next; and what is counted."""

import asyncio
import base64
import json
import pathlib
import pickle
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest

from modelset_proxy.engines.ollama import engine
from modelset_proxy.openai import catalog, errors, forms, passthrough
from modelset_proxy.serving import config, proxy
from modelset_proxy.telemetry import log, metrics
from modelset_proxy.web import access
from serve_app.tests import fake_ollama, pictures, running

_CHAT = {"model": "smollm2", "messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture
async def ollama() -> AsyncIterator[fake_ollama.FakeOllama]:
    fake = fake_ollama.FakeOllama()
    async with fake_ollama.running(fake):
        yield fake


def _limited(**limits: Any) -> dict[str, Any]:
    return {**running.USER_CONFIG, "limits": limits}


async def _ask(
    session: aiohttp.ClientSession, headers: dict[str, str] | None = None, **extra: Any
) -> tuple[int, str]:
    async with session.post("/v1/chat/completions", json={**_CHAT, **extra}, headers=headers) as response:
        return response.status, await response.text()


async def _until(condition: Callable[[], bool], built: proxy.Proxy) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await built.fleet.next_round()


async def _until_queued(built: proxy.Proxy, count: int) -> None:
    await _until(lambda: built.dispatch.counts()["smollm2"][1] == count, built)


class TestKeys:
    """API keys in a folder."""

    def test_each_key_of_a_client_is_valid(self, tmp_path: pathlib.Path) -> None:
        (tmp_path / "team-a").write_text("old\nnew\n")
        (tmp_path / "team-b").write_text("other")
        (tmp_path / "..data").mkdir()
        keys = access.Keys(str(tmp_path))
        assert keys.client(b"Bearer old", b"") == "team-a"
        assert keys.client(b"bearer  new ", b"") == "team-a"
        assert keys.client(b"", b"other") == "team-b"

    @pytest.mark.parametrize("authorization", [b"", b"Bearer", b"Bearer wrong", b"Basic old", b"old"])
    def test_other_keys_are_not(self, tmp_path: pathlib.Path, authorization: bytes) -> None:
        (tmp_path / "team-a").write_text("old\n\n")
        with pytest.raises(errors.ApiError) as refusal:
            access.Keys(str(tmp_path)).client(authorization, b"")
        assert (refusal.value.status, refusal.value.code) == (401, "invalid_api_key")
        assert "old" not in refusal.value.message

    def test_changes_are_taken_up(self, tmp_path: pathlib.Path) -> None:
        keys = access.Keys(str(tmp_path))
        with pytest.raises(errors.ApiError):
            keys.client(b"Bearer k", b"")
        (tmp_path / "a").write_text("k")
        keys.reload()
        assert keys.client(b"Bearer k", b"") == "a"
        (tmp_path / "a").unlink()
        keys.reload()
        with pytest.raises(errors.ApiError):
            keys.client(b"Bearer k", b"")

    def test_a_folder_that_is_not_there_lets_nobody_in(self, tmp_path: pathlib.Path) -> None:
        with pytest.raises(errors.ApiError):
            access.Keys(str(tmp_path / "gone")).client(b"Bearer x", b"")

    def test_a_folder_that_goes_takes_its_keys_along(self, tmp_path: pathlib.Path) -> None:
        folder = tmp_path / "keys"
        folder.mkdir()
        (folder / "team-a").write_text("sesame")
        keys = access.Keys(str(folder))
        assert keys.client(b"Bearer sesame", b"") == "team-a"
        (folder / "team-a").unlink()
        folder.rmdir()
        keys.reload()
        with pytest.raises(errors.ApiError):
            keys.client(b"Bearer sesame", b"")

    def test_keys_of_one_client_that_cannot_be_read_hold_up_no_other(
        self, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "team-a").write_text("old")
        (tmp_path / "team-b").write_text("other")
        keys = access.Keys(str(tmp_path))
        genuine = pathlib.Path.read_bytes

        def read_bytes(path: pathlib.Path) -> bytes:
            if path.name == "team-b":
                raise PermissionError(13, "Permission denied")
            return genuine(path)

        monkeypatch.setattr(pathlib.Path, "read_bytes", read_bytes)
        (tmp_path / "team-a").write_text("new")
        keys.reload()
        keys.reload()
        assert keys.client(b"Bearer new", b"") == "team-a"
        with pytest.raises(errors.ApiError):
            keys.client(b"Bearer other", b"")
        assert [record.getMessage() for record in caplog.records].count("cannot read API keys") == 1

    def test_no_key_is_kept_as_it_was_given(self, tmp_path: pathlib.Path) -> None:
        (tmp_path / "team-a").write_text("sesame")
        assert b"sesame" not in pickle.dumps(access.Keys(str(tmp_path)))

    async def test_routes_ask_for_a_key_but_health_and_preflights_do_not(
        self,
        ollama: fake_ollama.FakeOllama,
        tmp_path: pathlib.Path,
        capfd: pytest.CaptureFixture[str],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level("INFO", logger=log.ROOT)
        (tmp_path / "team-a").write_text("sesame")
        settings = config.Environment(
            ollama_urls=(ollama.url,), api_keys_dir=str(tmp_path), refresh_seconds=0.05
        )
        async with running.proxied(settings=settings) as (session, _):
            for path in ("/v1/models", "/v1/models/smollm2", "/v1/nothing"):
                async with session.get(path) as response:
                    assert response.status == 401
                    assert response.headers["www-authenticate"] == "Bearer"
            assert (await _ask(session))[0] == 401
            assert (await _ask(session, {"authorization": "Bearer sesame"}))[0] == 200
            assert (await _ask(session, {"x-api-key": "sesame"}))[0] == 200
            async with session.get("/healthz") as response:
                assert response.status == 200
            async with session.options("/v1/models") as response:
                assert response.status == 204
        written = capfd.readouterr().err
        requests = [json.loads(line) for line in written.splitlines() if '"message":"request"' in line]
        assert {request.get("client") for request in requests} == {None, "team-a"}
        assert "sesame" not in written


async def test_a_full_queue_is_a_429_with_retry_after(ollama: fake_ollama.FakeOllama) -> None:
    go_on = asyncio.Event()
    ollama.chat = [go_on, *fake_ollama.answer("one")]
    limits = _limited(maxInFlightPerServer=1, maxQueuedRequests=1)
    async with running.proxied(ollama.url, user_config=limits) as (session, built):
        first = asyncio.create_task(_ask(session))
        await ollama.asked.wait()
        second = asyncio.create_task(_ask(session, stream=True))
        await _until_queued(built, 1)
        async with session.post("/v1/chat/completions", json=_CHAT) as response:
            assert response.status == 429
            assert response.headers["retry-after"] == "5"
        go_on.set()
        assert (await first)[0] == (await second)[0] == 200
    assert len(ollama.sent("/api/chat")) == 2


async def test_a_client_that_leaves_the_queue_never_reaches_ollama(ollama: fake_ollama.FakeOllama) -> None:
    go_on = asyncio.Event()
    ollama.chat = [go_on, *fake_ollama.answer("one")]
    async with running.proxied(ollama.url, user_config=_limited(maxInFlightPerServer=1)) as (session, built):
        first = asyncio.create_task(_ask(session))
        await ollama.asked.wait()
        second = asyncio.create_task(_ask(session))
        await _until_queued(built, 1)
        second.cancel()
        await _until_queued(built, 0)
        go_on.set()
        assert (await first)[0] == 200
    assert len(ollama.sent("/api/chat")) == 1


@pytest.mark.parametrize("begun", [False, True])
async def test_an_answer_that_takes_too_long_is_ended(ollama: fake_ollama.FakeOllama, begun: bool) -> None:
    ollama.chat = [*fake_ollama.answer("one")[: int(begun)], asyncio.Event(), *fake_ollama.answer("two")]
    limits = _limited(requestTimeoutSeconds=0.2)
    async with running.proxied(ollama.url, user_config=limits) as (session, _):
        status, text = await _ask(session, stream=True)
        await asyncio.wait_for(ollama.cancelled.wait(), 5)
    assert status == (200 if begun else 504)
    last = text.strip().split("\n\n")[-1].removeprefix("data: ")
    assert json.loads(last)["error"]["code"] == "timeout"


async def test_a_body_that_is_too_large_is_a_413(ollama: fake_ollama.FakeOllama) -> None:
    async with running.proxied(ollama.url, user_config=_limited(maxBodyBytes=300)) as (session, _):
        assert (await _ask(session))[0] == 200
        assert (await _ask(session, user="x" * 300))[0] == 413

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
        await _ask(session, stream=True)
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
    limits = _limited(maxInFlightPerServer=1)
    async with running.proxied(ollama.url, user_config=limits, measures=recorded) as (session, built):
        requests = [asyncio.create_task(_ask(session)) for _ in range(3)]
        await _until(lambda: recorded.levels.get("smollm2") == (1, 2), built)
        go_on.set()
        await asyncio.gather(*requests)
        await _until(lambda: recorded.levels.get("smollm2") == (0, 0), built)


async def test_a_model_that_leaves_is_counted_down_to_nothing(ollama: fake_ollama.FakeOllama) -> None:
    go_on = asyncio.Event()
    ollama.chat = [go_on, *fake_ollama.answer("one")]
    recorded = Recorded()
    async with running.proxied(ollama.url, measures=recorded) as (session, built):
        request = asyncio.create_task(_ask(session))
        await _until(lambda: recorded.levels.get("smollm2") == (1, 0), built)
        await built.configure({"models": [running.USER_CONFIG["models"][0]]})
        await _until(lambda: recorded.levels["smollm2"] == (0, 0), built)
        go_on.set()
        assert (await request)[0] == 200


async def test_failures_and_retries_are_counted_and_unknown_paths_are_one_route() -> None:
    pair = fake_ollama.FakeOllama(), fake_ollama.FakeOllama()
    recorded = Recorded()
    async with fake_ollama.running(*pair):
        pair[0].chat = [fake_ollama.CUT]
        pair[0].loaded = {"smollm2:135m"}
        async with running.proxied(*(fake.url for fake in pair), measures=recorded) as (session, _):
            assert (await _ask(session))[0] == 200
            async with session.get("/v1/some/path/of/theirs"):
                pass
    assert ("failure", "smollm2", "upstream_disconnected") in recorded.seen
    assert ("retry", "smollm2") in recorded.seen
    assert ("request", "", "", 404) in recorded.seen


def test_passed_on_bodies_change_in_the_model_only() -> None:
    passed = passthrough.json_request(b'{"input": [{"model": "x"}], "model": "a", "stream": true, "n": 1e3}')
    assert (passed.model, passed.stream) == ("a", True)
    content_type, body = passed.rename("b")
    assert content_type == b"application/json"
    assert json.loads(body) == {"input": [{"model": "x"}], "model": "b", "stream": True, "n": 1000}


def test_what_is_passed_on_is_what_was_read() -> None:
    passed = passthrough.json_request(
        b'{"model": "x", "model": "a", "input": [{"content": 1, "content": "y"}]}'
    )
    assert passed.model == "a"
    assert passed.rename("b")[1] == b'{"model":"b","input":[{"content":"y"}]}'


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"model": "a", "MODEL": "unlisted"}, "MODEL"),
        ({"model": "a", "Stream": True}, "Stream"),
        ({"model": "a", "\u017ftream": True}, "\u017ftream"),
        ({"model": "a", "Messages": []}, "Messages"),
        ({"model": "a", "Input": []}, "Input"),
        ({"model": "a", "messages": [{"Content": []}]}, "messages[0].Content"),
        ({"model": "a", "input": [{"content": [{"Type": "input_image"}]}]}, "input[0].content[0].Type"),
        (
            {"model": "a", "messages": [{"content": [{"type": "image", "source": {"DATA": "AAAA"}}]}]},
            "messages[0].content[0].source.DATA",
        ),
    ],
)
def test_a_field_that_only_ollama_would_read_is_refused(body: dict[str, Any], param: str) -> None:
    with pytest.raises(errors.ApiError) as refusal:
        passthrough.json_request(json.dumps(body).encode())
    assert (refusal.value.status, refusal.value.param) == (400, param)


def test_names_are_free_where_only_functions_read_them() -> None:
    body = {
        "model": "a",
        "tools": [{"name": "f", "input_schema": {"properties": {"Model": {}}}}],
        "messages": [{"content": [{"type": "tool_use", "input": {"Model": 1, "Content": []}}]}],
    }
    assert json.loads(passthrough.json_request(json.dumps(body).encode()).rename("a")[1]) == body


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"[]", "invalid_value"),
        (b'{"model": 1}', None),
        (b'{"model": "a", "stream": "yes"}', None),
        (b'{"model": "a", "input": "\xff"}', "invalid_json"),
        (b'{"model": "a", "input": ' + b'{"content":' * 20 + b"1" + b"}" * 21, None),
    ],
)
def test_a_passed_on_body_that_is_no_request_is_a_400(body: bytes, code: str | None) -> None:
    with pytest.raises(errors.ApiError) as refusal:
        passthrough.json_request(body)
    assert (refusal.value.status, refusal.value.code) == (400, code)


@pytest.mark.parametrize(
    ("contents", "param"),
    [
        (
            {"input": [{"content": [{"type": "input_image", "image_url": "data:image/png;base64,AAAA"}]}]},
            "input[0].content[0].image_url",
        ),
        (
            {
                "messages": [
                    {"content": "x"},
                    {"content": [{"type": "image", "source": {"type": "base64", "data": "iVBORw0KGgo="}}]},
                ]
            },
            "messages[1].content[0].source.data",
        ),
        (
            {
                "messages": [
                    {
                        "content": [
                            {
                                "type": "tool_result",
                                "content": [{"type": "image", "source": {"type": "base64", "data": "?"}}],
                            }
                        ]
                    }
                ]
            },
            "messages[0].content[0].content[0].source.data",
        ),
    ],
)
def test_images_that_ollama_would_not_survive_are_not_passed_on(contents: dict[str, Any], param: str) -> None:
    passed = passthrough.json_request(json.dumps({"model": "a", **contents}).encode())
    model = catalog.Model(name="a", served_names=("a",), kind=catalog.CHAT)
    with pytest.raises(errors.ApiError) as refusal:
        engine.Ollama().relay("/v1/responses", passed, model)
    assert (refusal.value.status, refusal.value.param) == (400, param)


def test_whole_images_and_links_are_passed_on() -> None:
    picture = base64.b64encode(pictures.png()).decode()
    parts = [
        {"type": "input_image", "image_url": f"data:image/png;base64,{picture}"},
        {"type": "input_image", "image_url": "https://images.example/one.png"},
        {"type": "input_image", "file_id": "file-1"},
        {"type": "input_text", "text": "data:image/png;base64,AAAA"},
    ]
    body = {"model": "a", "input": [{"role": "user", "content": parts}]}
    passed = passthrough.json_request(json.dumps(body).encode())
    model = catalog.Model(name="a", served_names=("a",), kind=catalog.CHAT)
    assert engine.Ollama().relay("/v1/responses", passed, model)
    assert json.loads(passed.rename("a")[1]) == body


_FORM = b"multipart/form-data; boundary=x"


def _field(name: str, data: bytes, more: str = "") -> bytes:
    return b'--x\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n' % (
        name.encode(),
        more.encode(),
        data,
    )


def test_form_is_made_anew_with_the_model_changed() -> None:
    audio = b"\x00whisper\r\n\r\n--y\xff"
    sent = _field("model", b"whisper") + _field("file", audio, '; filename="a \\"b\\".wav"') + b"--x--\r\n"
    passed = passthrough.form_request(_FORM, sent)
    assert passed.model == "whisper"
    content_type, body = passed.rename("w:1")
    again = forms.form(content_type, body)
    assert [(part.name, part.data) for part in again.parts] == [("model", b"w:1"), ("file", audio)]
    assert again.parts[1].filename is not None


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (b"multipart/form-data", b"--x--"),
        (_FORM, b"--x--\r\n"),
        (_FORM, b"nothing"),
        (_FORM, _field("model", b"b").replace(b"--x", b"--z") + _field("model", b"a") + b"--x--\r\n"),
        (_FORM, _field("file", b"") + b"--x--\r\n"),
        (_FORM, _field("model", b"a")),
        (_FORM, _field("model", b"a") + _field("model", b"b") + b"--x--\r\n"),
        (_FORM, _field("model", b"a") * 65 + b"--x--\r\n"),
        (_FORM, b"--x\r\nContent-Type: text/plain\r\n\r\na\r\n--x--\r\n"),
    ],
)
def test_a_form_that_cannot_be_read_is_a_400(content_type: bytes, body: bytes) -> None:
    with pytest.raises(errors.ApiError) as refusal:
        passthrough.form_request(content_type, body)
    assert refusal.value.status == 400


def test_answers_get_the_served_name_wherever_the_reads_end() -> None:
    data = b'data: {"response":{"model":"m:1","text":"\\"model\\":\\"m:1\\""}}\n\ndata: {"model":"m:1"}'
    wanted = data.replace(b'"model":"m:1"', b'"model":"served"')
    for size in range(1, len(data)):
        renamer = passthrough.Renamer("m:1", "served")
        out = b"".join(renamer.feed(data[at : at + size]) for at in range(0, len(data), size))
        assert out + renamer.rest() == wanted


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/messages", "/messages"])
async def test_other_apis_are_passed_on(ollama: fake_ollama.FakeOllama, path: str) -> None:
    async with running.proxied(ollama.url) as (session, _):
        async with session.post(path, json={"model": "smollm2", "input": "x"}) as response:
            assert (response.status, await response.json()) == (200, {"model": "smollm2", "ok": True})
        async with session.post(path, json={"model": "smollm2", "stream": True}) as response:
            assert response.headers["content-type"] == "text/event-stream"
            assert await response.text() == 'event: a\ndata: {"model":"smollm2"}\n\nevent: b\ndata: {}\n\n'
        async with session.post(path, json={"model": "none"}) as response:
            assert response.status == 404
        async with session.post(path, data=b"{") as response:
            body = await response.json()
            assert (response.status, body["error"]["code"]) == (400, "invalid_json")
            assert body.get("type") == ("error" if path.endswith("messages") else None)
    assert {sent["model"] for _, sent in ollama.requests if "model" in sent} >= {"smollm2:135m"}


async def test_what_this_ollama_does_not_offer_is_a_404(ollama: fake_ollama.FakeOllama) -> None:
    form = aiohttp.FormData()
    form.add_field("model", "smollm2")
    form.add_field("file", b"RIFF", filename="a.wav")
    async with (
        running.proxied(ollama.url) as (session, _),
        session.post("/v1/audio/transcriptions", data=form) as response,
    ):
        assert (response.status, (await response.json())["error"]["code"]) == (404, "unknown_url")


async def test_a_second_server_gets_work_once_the_first_has_no_slot_left() -> None:
    pair = fake_ollama.FakeOllama(), fake_ollama.FakeOllama()
    go_on = asyncio.Event()
    for fake in pair:
        fake.chat = [go_on, *fake_ollama.answer("one")]
    pair[0].loaded = {"smollm2:135m"}
    async with (
        fake_ollama.running(*pair),
        running.proxied(*(fake.url for fake in pair), user_config=_limited(maxInFlightPerServer=2)) as (
            session,
            built,
        ),
    ):
        requests = [asyncio.create_task(_ask(session)) for _ in range(5)]
        await _until(lambda: [len(fake.sent("/api/chat")) for fake in pair] == [2, 2], built)
        await _until_queued(built, 1)
        go_on.set()
        assert [status for status, _ in await asyncio.gather(*requests)] == [200] * 5
