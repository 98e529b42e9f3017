"""Bodies that come slowly, that are too many at once, or that are no text."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from modelset_proxy.dispatch import facts
from modelset_proxy.openai import catalog, errors, requests
from modelset_proxy.serving import config, proxy
from modelset_proxy.web import asgi, bodies
from serve_app.tests import asking, fake_ollama, running, simulated
from serve_app.tests.web import visits


def _app() -> asgi.App:
    """Return an application that serves no model: what it has read is answered by a 404."""
    built = proxy.Proxy(config.Environment())
    built._publish(catalog.Catalog())
    return built._app


# By which part after part comes, each so long after the one before.
_Parts = list[tuple[float, int]]
_PACES: dict[str, tuple[_Parts, int, float]] = {
    "nothing": ([(999, 1)], 408, 10),
    "a long gap": ([(1, 1), (9.9, 1), (10.1, 1)], 408, 20.9),
    "a byte now and then": ([(9, 1)] * 9, 408, 30),
    "half as fast as is asked for": ([(1, 50_000)] * 99, 408, 59),
    "fast enough for long": ([(1, 120_000)] * 60, 404, 60),
    "late, and then all": ([(9.9, 1_000_000)] * 4, 404, 39.6),
}


@pytest.mark.parametrize("case", _PACES)
def test_a_body_has_to_come_at_some_pace(case: str) -> None:
    parts, status, seconds = _PACES[case]

    async def ask() -> tuple[visits.Visit, float]:
        visit, loop = visits.Visit(), asyncio.get_running_loop()
        body = b'{"model": "m", "messages": [{"role": "user", "content": "hi"}]}'

        async def send() -> None:
            for after, size in parts:
                await asyncio.sleep(after)
                visit.feed(b" " * size)
            visit.feed(body, more=False)

        sending = asyncio.create_task(send())
        await visit.to(_app())
        sending.cancel()
        return visit, loop.time()

    visit, ended = simulated.run(ask())
    assert (visit.status, ended) == (status, pytest.approx(seconds, abs=0.01))
    if status == 408:
        assert visit.error["code"] == "request_timeout"


async def test_a_connection_whose_body_does_not_come_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "_GAP_SECONDS", 0.05)
    fake = fake_ollama.FakeOllama()
    async with fake_ollama.running(fake), running.proxied(fake.url) as (session, _), asyncio.timeout(5):
        reader, writer = await asyncio.open_connection("127.0.0.1", session._base_url.port)
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\n{")
        answer = await reader.read()
        writer.close()
    assert answer.startswith(b"HTTP/1.1 408 ")


class _Crowd:
    """An application whose budget is small, and its visitors."""

    def __init__(self, app: asgi.App, size: int) -> None:
        self.app = app
        app.budget = bodies.Budget(size)
        self._tasks: list[asyncio.Task[None]] = []

    async def come(self, *parts: bytes, more: bool = True, **headers: str) -> visits.Visit:
        """Let one more begin to send."""
        visit = visits.Visit(**headers)
        for number, part in enumerate(parts, 1):
            visit.feed(part, more=more or number < len(parts))
        self._tasks.append(asyncio.create_task(visit.to(self.app)))
        await visit.taken()
        return visit

    async def end(self) -> None:
        await asyncio.gather(*self._tasks)


async def test_what_does_not_fit_beside_others_is_refused_and_they_go_on() -> None:
    crowd = _Crowd(_app(), len(visits.CHAT) + 300)
    crowd.app._service._dispatch.core.limits = facts.Limits(max_body_bytes=200)
    large = await crowd.come(b" " * 150)
    other = await crowd.come(b" " * 140)
    declared = await crowd.come(content_length="150")
    assert (declared.status, declared.error["code"], declared.headers[b"retry-after"]) == (
        503,
        "server_overloaded",
        b"5",
    )
    grown = await crowd.come(b" " * 60, b" " * 60)
    assert grown.error["code"] == "server_overloaded"
    small = await crowd.come(visits.CHAT, more=False)
    assert small.error["code"] == "model_not_found"
    for visit in (large, other):
        visit.feed(b"!", more=False)
    await crowd.end()
    assert [visit.error["code"] for visit in (large, other)] == ["invalid_json"] * 2
    assert crowd.app.budget.held == 0


async def test_what_is_announced_to_be_too_large_is_refused_unread() -> None:
    crowd = _Crowd(_app(), 10)
    visit = await crowd.come(content_length=str(64 * 1024 * 1024 + 1))
    assert visit.error["code"] == "request_too_large"


async def test_one_alone_may_send_as_much_as_a_body_may_have() -> None:
    crowd = _Crowd(_app(), 10)
    visit = await crowd.come(visits.CHAT, more=False)
    assert visit.error["code"] == "model_not_found"


async def test_what_was_announced_and_does_not_come_takes_no_room_from_others() -> None:
    crowd = _Crowd(_app(), 10)
    limit = str(64 * 1024 * 1024)
    idle = [await crowd.come(content_length=limit) for _ in range(3)]
    visit = await crowd.come(visits.CHAT, more=False)
    assert visit.error["code"] == "model_not_found"
    for one in idle:
        one.leave()
    await crowd.end()


async def _answered(built: proxy.Proxy, fake: fake_ollama.FakeOllama) -> None:
    visit = visits.Visit()
    visit.feed(visits.CHAT, more=False)
    await visit.to(built._app)
    assert visit.status == 200


async def _refused(built: proxy.Proxy, fake: fake_ollama.FakeOllama) -> None:
    visit = visits.Visit()
    visit.feed(b"{", more=False)
    await visit.to(built._app)
    assert visit.status == 400


async def _too_large(built: proxy.Proxy, fake: fake_ollama.FakeOllama) -> None:
    built.dispatch.core.limits = facts.Limits(max_body_bytes=15)
    visit = visits.Visit()
    for _ in range(2):
        visit.feed(b" " * 10)
    await visit.to(built._app)
    assert visit.status == 413


async def _gone_while_sending(built: proxy.Proxy, fake: fake_ollama.FakeOllama) -> None:
    visit = visits.Visit()
    visit.feed(visits.CHAT)
    visit.leave()
    await visit.to(built._app)
    assert not visit.sent


async def _gone_while_answered(built: proxy.Proxy, fake: fake_ollama.FakeOllama) -> None:
    fake.chat = [asyncio.Event()]
    visit = visits.Visit()
    visit.feed(visits.CHAT, more=False)
    visiting = asyncio.create_task(visit.to(built._app))
    await fake.asked.wait()
    assert built._app.budget.held == len(visits.CHAT)
    visit.leave()
    await visiting
    assert not visit.sent


async def _cancelled(built: proxy.Proxy, fake: fake_ollama.FakeOllama) -> None:
    visit = visits.Visit()
    visit.feed(visits.CHAT)
    visiting = asyncio.create_task(visit.to(built._app))
    await visit.taken()
    assert built._app.budget.held == len(visits.CHAT)
    visiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await visiting


async def _defect(built: proxy.Proxy, fake: fake_ollama.FakeOllama) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(requests, "chat", None)
        visit = visits.Visit()
        visit.feed(visits.CHAT, more=False)
        await visit.to(built._app)
    assert visit.status == 500


@pytest.mark.parametrize(
    "way_out",
    [_answered, _refused, _too_large, _gone_while_sending, _gone_while_answered, _cancelled, _defect],
    ids=lambda way: way.__name__.strip("_"),
)
async def test_the_room_of_a_body_is_given_back(
    way_out: Callable[[proxy.Proxy, fake_ollama.FakeOllama], Coroutine[Any, Any, None]],
) -> None:
    fake = fake_ollama.FakeOllama()
    async with fake_ollama.running(fake), running.proxied(fake.url) as (_, built), asyncio.timeout(5):
        await way_out(built, fake)
        assert built._app.budget.held == 0


_WORD = '{"user": "h\u00e9\u6f22\U0001f600"}'.encode()


@pytest.mark.parametrize("cut", range(len(_WORD)))
async def test_letters_may_be_cut_in_two_on_their_way(cut: int) -> None:
    visit = visits.Visit()
    visit.feed(_WORD[:cut])
    visit.feed(_WORD[cut:], more=False)
    await visit.to(_app())
    assert visit.error["code"] == "missing_required_parameter"


@pytest.mark.parametrize("path", ["chat/completions", "completions", "embeddings", "responses", "messages"])
@pytest.mark.parametrize(
    "flaw", [b"\xff", b"\xc3", b"\xed\xa0\x80"], ids=["no letter", "half a letter", "half a pair"]
)
async def test_what_is_no_utf_8_is_no_json_wherever_it_stands(path: str, flaw: bytes) -> None:
    visit = visits.Visit(f"/v1/{path}")
    body = {**asking.CHAT, "prompt": "a", "input": "a", "max_tokens": 1, "ignored": "?"}
    visit.feed(json.dumps(body).encode().replace(b"?", flaw), more=False)
    await visit.to(_app())
    # Anthropic's errors have no code.
    code = None if path == "messages" else "invalid_json"
    assert (visit.status, visit.error.get("code")) == (400, code)
    assert "UTF-8" in visit.error["message"]


async def test_a_body_that_ends_within_a_letter_is_no_json() -> None:
    visit = visits.Visit()
    visit.feed(_WORD + b"\xc3", more=False)
    await visit.to(_app())
    assert "UTF-8" in visit.error["message"]


async def test_a_form_may_hold_any_bytes() -> None:
    visit = visits.Visit("/v1/audio/transcriptions", content_type="multipart/form-data; boundary=x")
    for name, value in ((b"model", b"m"), (b"file", b"\xff\xc3")):
        visit.feed(b'--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (name, value))
    visit.feed(b"--x--\r\n", more=False)
    await visit.to(_app())
    assert visit.error["code"] == "model_not_found"


async def test_a_long_body_is_put_together_as_it_came() -> None:
    visit = visits.Visit()
    content = "".join(map(chr, range(32, 127))).replace('"', "").replace("\\", "") * 4_000
    body = json.dumps({"model": content, "messages": [{"role": "user", "content": "hi"}]}).encode()
    for start in range(0, len(body), 60_001):
        visit.feed(body[start : start + 60_001])
    visit.feed(b"", more=False)
    await visit.to(_app())
    assert visit.error["code"] == "model_not_found"


async def test_an_error_quotes_no_more_than_helps() -> None:
    name = "x" * 1_000_000
    body = {**asking.CHAT, "model": name}
    visit = visits.Visit()
    visit.feed(json.dumps(body).encode(), more=False)
    await visit.to(_app())
    assert len(visit.body) < 1_200
    assert visit.error["message"].startswith("The model 'xxx")
    assert visit.error["message"].endswith("GET /v1/models lists the models that do.")


def test_what_fits_exactly_is_not_too_much() -> None:
    budget = bodies.Budget(4)
    budget.take(4, 1)
    with pytest.raises(errors.ApiError):
        budget.check(1, 1)
