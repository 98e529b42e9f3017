"""One request and its reply."""

import asyncio
import json
from typing import Any

import pytest

from modelset_proxy.openai import errors
from modelset_proxy.web import exchange
from serve_app.tests.web import speaking

pytestmark = pytest.mark.simulated


def _headers(**values: str) -> list[exchange.Header]:
    return [(name.replace("_", "-").encode(), value.encode()) for name, value in values.items()]


@pytest.mark.parametrize(
    ("scope", "path"),
    [
        ({"path": "/v1/models"}, "/v1/models"),
        ({"path": "/base/v1/models", "root_path": "/base"}, "/v1/models"),
        ({"path": "/base", "root_path": "/base"}, "/"),
    ],
)
async def test_the_path_begins_where_the_application_is_mounted(scope: dict[str, Any], path: str) -> None:
    assert speaking.Spoken(**scope).web().path == path


async def test_query_and_headers_are_read_in_any_case() -> None:
    web = speaking.Spoken(query_string=b"a=\xe9", headers=[(b"Content-Type", b"text/plain")]).web()
    assert (web.query, web.content_type) == ("a=\u00e9", b"text/plain")
    bare = speaking.Spoken().web()
    assert (bare.query, bare.content_type) == ("", b"")


@pytest.mark.parametrize("given", ["", "two words", "x" * 201, "\u00e9"])
async def test_a_request_without_a_usable_id_gets_one(given: str) -> None:
    ids = {speaking.Spoken(headers=_headers(x_request_id=given)).web().request_id for _ in range(2)}
    assert len(ids) == 2
    assert all(one.startswith("req_") and len(one) == 28 for one in ids)


@pytest.mark.parametrize("given", ["mine", "x" * 200])
async def test_a_request_keeps_its_id(given: str) -> None:
    assert speaking.Spoken(headers=_headers(x_request_id=given)).web().request_id == given


class TestBodies:
    """Reading a body."""

    @pytest.mark.parametrize("parts", [(b"abcd",), (b"ab", b"", b"cd"), (b"",)])
    async def test_its_parts_are_joined(self, parts: tuple[bytes, ...]) -> None:
        assert await speaking.Spoken(*parts).web().body(4) == b"".join(parts)

    async def test_one_of_which_nothing_is_said_is_empty(self) -> None:
        async def receive() -> exchange.Message:
            return {"type": "http.request"}

        spoken = speaking.Spoken()
        spoken.receive = receive  # type: ignore[method-assign]
        assert await asyncio.wait_for(spoken.web(watches=False).body(4), 1) == b""

    @pytest.mark.parametrize(("declared", "size"), [("4", 4), ("many", 4), ("", 4)])
    async def test_as_large_as_it_may_be_is_not_too_large(self, declared: str, size: int) -> None:
        spoken = speaking.Spoken(b"x" * size, headers=_headers(content_length=declared))
        assert len(await spoken.web().body(4)) == size

    @pytest.mark.parametrize(("declared", "parts"), [("5", ()), ("4", (b"abc", b"de")), ("", (b"abcde",))])
    async def test_a_larger_one_is_refused(self, declared: str, parts: tuple[bytes, ...]) -> None:
        spoken = speaking.Spoken(*parts, headers=_headers(content_length=declared))
        with pytest.raises(errors.ApiError, match="4 bytes") as refusal:
            await spoken.web().body(4)
        assert (refusal.value.status, refusal.value.code) == (413, "request_too_large")

    async def test_a_client_that_leaves_before_its_end_is_gone(self) -> None:
        spoken = speaking.Spoken(b"ab", b"cd")
        spoken.hang_up()
        with pytest.raises(exchange.ClientGoneError):
            await spoken.web().body(4)


class TestClientsThatLeave:
    """Once the body is read."""

    @staticmethod
    async def _working(spoken: speaking.Spoken, *, watches: bool = True, stops: bool = False) -> bool:
        """Work for a second on a request; tell whether the client was gone, or that the work was done."""
        web = spoken.web(watches=watches)
        await web.body(9)
        if stops:
            await asyncio.sleep(0.1)
            web.stop_watching()
        spoken.hang_up()
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            return web.client_gone
        finally:
            web.stop_watching()
        return False

    async def test_their_requests_end(self) -> None:
        assert await self._working(speaking.Spoken(b"ab"))

    async def test_whoever_serves_may_watch_instead(self) -> None:
        assert not await self._working(speaking.Spoken(b"ab"), watches=False)

    async def test_nobody_is_disturbed_once_the_reply_is_out(self) -> None:
        assert not await self._working(speaking.Spoken(b"ab"), stops=True)

    async def test_a_reply_that_is_soon_out_needs_no_watcher(self) -> None:
        spoken = speaking.Spoken(b"ab")
        web = spoken.web()
        await web.body(9)
        await web.reply(200, b"")
        spoken.hang_up()
        await asyncio.sleep(1)
        assert not web.client_gone

    async def test_one_that_takes_nothing_is_dropped_once(self) -> None:
        web = speaking.Spoken(b"ab").web()
        web.drop()
        assert not web.client_gone
        await web.body(9)
        web.drop()
        web.drop()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(1)
        assert web.client_gone
        task = asyncio.current_task()
        assert task is not None
        assert task.uncancel() == 0
        web.stop_watching()


class TestReplies:
    """Writing a reply."""

    async def test_a_whole_one(self) -> None:
        spoken = speaking.Spoken()
        web = spoken.web()
        web.reply_headers.append((b"x", b"always"))
        assert not web.started
        await web.reply(201, b"{}", headers=[(b"y", b"now")])
        assert web.started
        assert spoken.sent == [
            {
                "type": "http.response.start",
                "status": 201,
                "headers": [
                    (b"content-type", b"application/json"),
                    (b"content-length", b"2"),
                    (b"y", b"now"),
                    (b"x", b"always"),
                ],
            },
            {"type": "http.response.body", "body": b"{}", "more_body": False},
        ]

    async def test_what_nobody_calls_something_else_is_json(self) -> None:
        spoken = speaking.Spoken()
        await spoken.web().reply(200, b"{}")
        assert dict(spoken.headers)[b"content-type"] == exchange.JSON == b"application/json"

    async def test_one_to_head_has_the_length_and_no_body(self) -> None:
        spoken = speaking.Spoken(method="HEAD")
        await spoken.web().reply(200, b"{}")
        assert (dict(spoken.headers)[b"content-length"], spoken.body) == (b"2", b"")

    async def test_a_stream_is_neither_cached_nor_held_up(self) -> None:
        spoken = speaking.Spoken()
        web = spoken.web()
        await web.start_events()
        await web.write(b"a")
        await web.end(b"b")
        assert (spoken.status, dict(spoken.headers)) == (
            200,
            {
                b"content-type": b"text/event-stream",
                b"cache-control": b"no-cache",
                b"x-accel-buffering": b"no",
            },
        )
        assert [message["more_body"] for message in spoken.sent[1:]] == [True, False]
        assert spoken.body == b"ab"

    async def test_one_whose_body_follows(self) -> None:
        spoken = speaking.Spoken()
        web = spoken.web()
        await web.start(202, [(b"x", b"y")])
        await web.end(b"a")
        assert (spoken.status, spoken.headers, spoken.body) == (202, [(b"x", b"y")], b"a")

    @pytest.mark.parametrize(
        ("error", "headers"),
        [
            (errors.invalid("no"), {}),
            (errors.unavailable("no", code="busy", retry_after=7), {b"retry-after": b"7"}),
            (errors.ApiError(401, "no"), {b"www-authenticate": b"Bearer"}),
            (errors.upstream_failed("no", may_retry=False), {b"x-should-retry": b"false"}),
        ],
    )
    async def test_an_error_tells_what_may_help(
        self, error: errors.ApiError, headers: dict[bytes, bytes]
    ) -> None:
        spoken = speaking.Spoken()
        web = spoken.web()
        await web.refuse(error)
        assert (spoken.status, json.loads(spoken.body)["error"]["message"]) == (error.status, "no")
        told = dict(spoken.headers)
        told.pop(b"content-length")
        assert told == {b"content-type": b"application/json", **headers}
        assert web.facts == {"error": error.code or error.kind}
