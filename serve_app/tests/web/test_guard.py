"""Web pages, which reach what the machines of their readers reach."""

import contextlib
import pathlib
import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest

from modelset_proxy.serving import config
from modelset_proxy.web import cors, guard
from serve_app.tests import asking, fake_ollama, running

_LOCAL = "http://localhost:3000"


@contextlib.asynccontextmanager
async def _keyless(hosts: tuple[str, ...] = ()) -> AsyncIterator[aiohttp.ClientSession]:
    """Run a proxy that takes its settings from the environment, and asks for no key."""
    fake = fake_ollama.FakeOllama()
    async with fake_ollama.running(fake):
        settings = config.Environment(ollama_urls=(fake.url,), allowed_hosts=hosts, refresh_seconds=0.05)
        async with running.proxied(settings=settings, user_config=None) as (session, built):
            await running.discovered(session, built)
            yield session


async def _ask(session: aiohttp.ClientSession, headers: dict[str, str]) -> tuple[int, str | None]:
    body = {**asking.CHAT, "model": "smollm2:135m"}
    async with session.post("/v1/chat/completions", json=body, headers=headers) as response:
        return response.status, (await response.json()).get("error", {}).get("code")


async def test_a_foreign_page_is_refused_and_a_local_one_is_not() -> None:
    async with _keyless() as session:
        for origin in ("https://evil.example", "null", "http://localhost.evil.example"):
            assert await _ask(session, {"origin": origin}) == (403, "origin_not_allowed")
        assert await _ask(session, {"sec-fetch-site": "cross-site"}) == (403, "origin_not_allowed")
        assert await _ask(session, {"origin": _LOCAL, "sec-fetch-site": "cross-site"}) == (200, None)
        assert await _ask(session, {"sec-fetch-site": "none"}) == (200, None)
        async with session.get("/v1/models", headers={"origin": "https://evil.example"}) as response:
            assert response.status == 403


async def test_a_preflight_of_a_foreign_page_is_answered_without_leave() -> None:
    headers = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    async with _keyless() as session, session.options("/v1/chat/completions", headers=headers) as response:
        assert response.status == 204
        assert "access-control-allow-origin" not in response.headers


async def test_a_page_that_the_same_address_serves_is_ours() -> None:
    async with _keyless(hosts=("ai.example",)) as session:
        own = {"host": "ai.example:8000", "origin": "https://ai.example:8000"}
        assert await _ask(session, own) == (200, None)
        assert (await _ask(session, {**own, "origin": "https://ai.example"}))[0] == 403


async def test_a_name_that_is_not_ours_is_refused_and_says_what_to_set() -> None:
    async with _keyless(hosts=("models.example",)) as session:
        assert await _ask(session, {"host": "evil.example"}) == (403, "host_not_allowed")
        # As after the name was made to lead here, when the page counts as our own.
        rebound = {"host": "evil.example:8000", "origin": "http://evil.example:8000"}
        assert await _ask(session, {**rebound, "sec-fetch-site": "same-origin"}) == (403, "host_not_allowed")
        assert await _ask(session, {"host": "models.example"}) == (200, None)


@pytest.mark.parametrize(
    ("host", "hosts", "is_ours"),
    [
        ("127.0.0.1:8000", (), True),
        ("[::1]:8000", (), True),
        ("[::ffff:127.0.0.1]", (), True),
        ("192.168.1.7", (), True),
        ("localhost:8000", (), True),
        ("localhost.", (), True),
        ("app.localhost", (), True),
        ("modelset", (), True),
        ("", (), True),
        ("Models.Example:8000", ("models.example",), True),
        ("models.example", ("Models.Example",), True),
        ("evil.example", ("models.example",), False),
        ("evil.example", ("*",), True),
        ("localhost.evil.example", (), False),
        ("127.0.0.1.evil.example", (), False),
        ("[x:evil.example]", (), False),
    ],
)
def test_addresses_and_names_of_the_own_network_are_ours(
    host: str, hosts: tuple[str, ...], is_ours: bool
) -> None:
    check = guard.Guard(cors.Cors(), hosts).check
    with contextlib.nullcontext() if is_ours else pytest.raises(guard.errors.ApiError):
        check({b"host": host.encode()})


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_page_is_ours_with_and_without_encryption(scheme: str) -> None:
    origin = f"{scheme}://models.example:8000".encode()
    guard.Guard(cors.Cors(), ["models.example"]).check({b"host": b"models.example:8000", b"origin": origin})


def test_a_page_of_no_origin_is_not_one_of_no_host() -> None:
    with pytest.raises(guard.errors.ApiError):
        guard.Guard(cors.Cors(), ()).check({b"origin": b"null"})


async def test_the_machine_is_known_by_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "box.lan.example")
    async with _keyless() as session:
        assert await _ask(session, {"host": "box.lan.example:8000"}) == (200, None)


@pytest.mark.parametrize("way", ["keys", "kubernetes"])
async def test_where_others_guard_it_pages_and_names_are_left_alone(way: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / "team").write_text("sesame")
    fake = fake_ollama.FakeOllama()
    headers = {"origin": "https://evil.example", "host": "evil.example", "authorization": "Bearer sesame"}
    async with fake_ollama.running(fake):
        settings = config.Environment(
            ollama_urls=(fake.url,),
            api_keys_dir=str(tmp_path) if way == "keys" else None,
            refresh_seconds=0.05,
        )
        models = [{**running.USER_CONFIG["models"][1], "servedNames": ["smollm2:135m"]}]
        given = None if way == "keys" else {"models": models}
        async with running.proxied(settings=settings, user_config=given) as (session, built):
            session.headers.update(headers)
            await running.discovered(session, built)
            assert await _ask(session, headers) == (200, None)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": "application/x-www-form-urlencoded"}, 200),
        ({"content-type": "text/plain"}, 200),
        ({"content-type": "text/plain", "origin": _LOCAL}, 415),
        ({"content-type": "application/x-www-form-urlencoded", "sec-fetch-site": "same-origin"}, 415),
        ({"content-type": "Application/JSON; charset=utf-8", "origin": _LOCAL}, 200),
        ({"content-type": "application/vnd.api+json", "origin": _LOCAL}, 200),
        ({"content-type": "", "origin": _LOCAL}, 200),
    ],
)
async def test_a_page_has_to_say_that_it_sends_json(
    client: aiohttp.ClientSession, headers: dict[str, str], status: int
) -> None:
    body = b'{"model": "smollm2", "messages": [{"role": "user", "content": "Hi"}]}'
    async with client.post("/v1/chat/completions", data=body, headers=headers) as response:
        assert response.status == status


def test_hosts_come_from_the_environment() -> None:
    assert config.environment({"PROXY_ALLOWED_HOSTS": "a.example, *"}).allowed_hosts == ("a.example", "*")
