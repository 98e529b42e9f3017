"""The application on its own: routes, replies to what goes wrong, and what is counted."""

import asyncio
import json
import pathlib
from typing import Any

import pytest

from modelset_proxy.openai import errors
from modelset_proxy.telemetry import log, metrics
from modelset_proxy.web import access, asgi, cors, exchange, guard
from serve_app.tests.web import speaking

pytestmark = pytest.mark.simulated


class Routes:
    """Answers with the name of the route; ``handler`` does something else instead."""

    def __init__(self) -> None:
        self.handler: Any = None

    def __getattr__(self, name: str) -> Any:
        async def handle(web: exchange.Exchange, *given: str) -> None:
            if self.handler is not None:
                await self.handler(web)
            else:
                await web.reply(200, json.dumps([name, *given]).encode())

        return handle


class Counted(metrics.Nothing):
    """Keeps what requests were counted."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, str, int]] = []

    def request(self, route: str, model: str, client: str, status: int, seconds: float) -> None:
        assert 0 <= seconds < 5
        self.requests.append((route, model, client, status))


class Serving:
    """An application, what it was asked to start and stop, and what it counted."""

    def __init__(self, *, behind_serve: bool = False, keys: str | None = None) -> None:
        self.routes = Routes()
        self.counted = Counted()
        self.done: list[str] = []
        self.app = asgi.App(
            self.routes,  # type: ignore[arg-type]
            self.routes,  # type: ignore[arg-type]
            access.Keys(keys),
            self.counted,
            on_start=self._start,
            on_stop=self._stop,
            behind_serve=behind_serve,
        )

    async def _start(self) -> None:
        self.done.append("start")

    async def _stop(self) -> None:
        self.done.append("stop")

    async def ask(self, method: str = "GET", path: str = "/v1/models", **headers: str) -> speaking.Spoken:
        pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        spoken = speaking.Spoken(method=method, path=path, headers=pairs)
        await self.app(spoken.scope, spoken.receive, spoken.send)
        return spoken


async def _defect(web: exchange.Exchange) -> None:
    raise KeyError("a defect")


async def _defect_in_mid_reply(web: exchange.Exchange) -> None:
    await web.start_events()
    raise KeyError("a defect")


async def _refuses(web: exchange.Exchange) -> None:
    web.facts["model"] = "m"
    raise errors.invalid("no")


async def _waits(web: exchange.Exchange) -> None:
    await web.body(9)
    await asyncio.sleep(1)


@pytest.mark.parametrize(
    ("method", "path", "route", "name"),
    [
        ("GET", "/", "/", "health"),
        ("GET", "/health", "/health", "health"),
        ("GET", "/healthz", "/healthz", "health"),
        ("GET", "/v1/models", "/models", "list_models"),
        ("GET", "/models/", "/models", "list_models"),
        ("GET", "/v1/models/a/b:1", "/models/{id}", "get_model"),
        ("POST", "/v1/chat/completions", "/chat/completions", "chat"),
        ("POST", "/v1/completions", "/completions", "complete"),
        ("POST", "/v1/embeddings", "/embeddings", "embed"),
        ("POST", "/v1/responses", "/responses", "respond"),
        ("POST", "/v1/messages", "/messages", "message"),
        ("POST", "/v1/messages/count_tokens", "/messages/count_tokens", "count_tokens"),
        ("POST", "/v1/audio/transcriptions", "/audio/transcriptions", "transcribe"),
        ("GET", "/demand", "/demand", "get"),
    ],
)
async def test_each_path_has_its_route(method: str, path: str, route: str, name: str) -> None:
    serving = Serving()
    spoken = await serving.ask(method, path)
    assert json.loads(spoken.body)[0] == name
    watched = route in ("/", "/health", "/healthz", "/demand")
    assert serving.counted.requests == ([] if watched else [(route, "", "", 200)])


async def test_the_id_of_a_model_is_all_that_follows() -> None:
    assert json.loads((await Serving().ask(path="/v1/models/a/b:1")).body) == ["get_model", "a/b:1"]


async def test_head_is_get_without_a_body() -> None:
    spoken = await Serving().ask("HEAD")
    assert (spoken.status, spoken.body) == (200, b"")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("DELETE", "/v1/models/a", b"GET"),
        ("GET", "/v1/chat/completions", b"POST"),
        ("HEAD", "/v1/embeddings", b"POST"),
    ],
)
async def test_another_method_is_told_which_there_is(method: str, path: str, allow: bytes) -> None:
    serving = Serving()
    spoken = await serving.ask(method, path)
    assert (spoken.status, dict(spoken.headers)[b"allow"]) == (405, allow)
    assert serving.counted.requests[0][3] == 405
    if method != "HEAD":
        assert json.loads(spoken.body)["error"]["code"] == "method_not_allowed"


async def test_whom_the_guard_does_not_let_in_reaches_no_route() -> None:
    serving = Serving()
    serving.app.guard = guard.Guard(cors.Cors(), ())
    assert (await serving.ask(origin="https://evil.example")).status == 403
    assert (await serving.ask()).status == 200


@pytest.mark.parametrize("path", ["/v1", "/v2/models", "/v1models", "/v1/modelsX", "/v1/nothing"])
async def test_other_paths_are_unknown_and_counted_as_one(path: str) -> None:
    serving = Serving()
    spoken = await serving.ask(path=path)
    assert (spoken.status, json.loads(spoken.body)["error"]["code"]) == (404, "unknown_url")
    assert serving.counted.requests == [("", "", "", 404)]


async def test_a_preflight_is_answered_for_any_path() -> None:
    serving = Serving()
    for path in ("/v1/models", "/v1/nothing"):
        spoken = await serving.ask("OPTIONS", path, access_control_request_headers="x-a")
        assert (spoken.status, dict(spoken.headers)[b"access-control-allow-headers"]) == (204, b"x-a")
    headers = dict((await serving.ask("OPTIONS")).headers)
    assert headers[b"access-control-allow-headers"] == b"authorization, content-type"
    assert headers[b"access-control-allow-methods"] == b"GET, POST, HEAD, OPTIONS"
    assert headers[b"access-control-max-age"] == b"600"


async def test_pages_may_read_ids_and_when_to_come_back() -> None:
    serving = Serving()
    for origins in (["*"], ["https://a.example"]):
        serving.app.cors = type(serving.app.cors)(origins)
        headers = dict((await serving.ask(origin="https://a.example")).headers)
        assert {b"x-request-id", b"retry-after"} <= {*headers[b"access-control-expose-headers"].split(b", ")}
    assert headers[b"vary"] == b"origin"
    other = dict((await serving.ask(origin="https://b.example")).headers)
    assert other[b"vary"] == b"origin"
    assert b"access-control-expose-headers" not in other


@pytest.mark.parametrize(("behind_serve", "ids"), [(False, 1), (True, 0)])
async def test_the_id_is_replied_unless_serve_does_so(behind_serve: bool, ids: int) -> None:
    spoken = await Serving(behind_serve=behind_serve).ask(x_request_id="mine")
    assert [name for name, _ in spoken.headers].count(b"x-request-id") == ids


async def test_a_defect_is_a_500_that_says_nothing_of_it(caplog: pytest.LogCaptureFixture) -> None:
    serving = Serving()
    serving.routes.handler = _defect
    spoken = await serving.ask()
    assert spoken.status == 500
    assert "a defect" not in json.dumps(json.loads(spoken.body))
    [record] = caplog.records
    assert record.exc_info is not None
    assert serving.counted.requests == [("/models", "", "", 500)]


async def test_a_defect_in_mid_reply_breaks_it_off() -> None:
    serving = Serving()
    serving.routes.handler = _defect_in_mid_reply
    with pytest.raises(KeyError):
        await serving.ask()
    assert serving.counted.requests == [("/models", "", "", 200)]


async def test_a_refusal_is_replied_and_counted() -> None:
    serving = Serving()
    serving.routes.handler = _refuses
    assert (await serving.ask()).status == 400
    assert serving.counted.requests == [("/models", "m", "", 400)]


@pytest.mark.parametrize(("path", "typed"), [("/v1/messages", True), ("/v1/chat/completions", False)])
async def test_an_error_is_one_of_the_api_that_was_called(path: str, typed: bool) -> None:
    serving = Serving()
    serving.routes.handler = _refuses
    spoken = await serving.ask("POST", path)
    assert ("type" in json.loads(spoken.body)) is typed


@pytest.mark.parametrize("at_once", [True, False], ids=["before the end of its body", "later"])
async def test_a_client_that_leaves_is_counted_as_such(at_once: bool) -> None:
    serving = Serving()
    serving.routes.handler = _waits
    spoken = speaking.Spoken()
    if at_once:
        spoken.hang_up()
    asked = asyncio.create_task(serving.app(spoken.scope, spoken.receive, spoken.send))
    await asyncio.sleep(0.1)
    spoken.hang_up()
    await asked
    assert [one[3] for one in serving.counted.requests] == [499]
    assert spoken.sent == []


async def test_a_server_that_ends_a_request_ends_it() -> None:
    serving = Serving(behind_serve=True)
    serving.routes.handler = _waits
    spoken = speaking.Spoken()
    asked = asyncio.create_task(serving.app(spoken.scope, spoken.receive, spoken.send))
    await asyncio.sleep(0.1)
    spoken.hang_up()
    await asyncio.sleep(0.1)
    assert not asked.done()
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert [one[3] for one in serving.counted.requests] == [499]


async def test_nobody_watches_a_request_that_was_ended() -> None:
    serving = Serving()
    serving.routes.handler = _waits
    spoken = speaking.Spoken()
    asked = asyncio.create_task(serving.app(spoken.scope, spoken.receive, spoken.send))
    await asyncio.sleep(0.1)
    assert len(asyncio.all_tasks()) == 3
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_each_request_is_logged_by_facts(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger=log.ROOT)
    (tmp_path / "team").write_text("k")
    serving = Serving(keys=str(tmp_path))
    serving.routes.handler = _refuses
    await serving.ask("POST", "/v1/embeddings", x_request_id="mine", authorization="Bearer k")
    await serving.ask(path="/healthz")
    [line] = serving.app._log._lines
    told = json.loads(line)
    assert told.pop("time")
    assert 0 <= told.pop("seconds") < 1
    assert told == {
        "level": "info",
        "message": "request",
        "request_id": "mine",
        "method": "POST",
        "path": "/v1/embeddings",
        "status": 400,
        "client": "team",
        "model": "m",
        "error": "invalid_request_error",
    }


async def test_it_starts_and_stops_with_its_server(caplog: pytest.LogCaptureFixture) -> None:
    serving = Serving()
    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    replies: list[exchange.Message] = []

    async def receive() -> exchange.Message:
        return messages.pop(0)

    async def send(message: exchange.Message) -> None:
        replies.append(message)

    caplog.set_level("INFO", logger=log.ROOT)
    await serving.ask()
    assert serving.app._log._lines
    await serving.app({"type": "lifespan"}, receive, send)
    assert not serving.app._log._lines
    assert serving.done == ["start", "stop"]
    assert [reply["type"] for reply in replies] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_there_are_no_websockets() -> None:
    spoken = speaking.Spoken(type="websocket")
    await Serving().app(spoken.scope, spoken.receive, spoken.send)
    assert spoken.sent == [{"type": "websocket.close", "code": 1000}]


async def test_a_key_that_is_missing_is_told_from_a_wrong_one(tmp_path: pathlib.Path) -> None:
    serving = Serving(keys=str(tmp_path))
    for headers, told in (
        ({}, b"did not provide"),
        ({"x_api_key": "x"}, b"Incorrect"),
        ({"authorization": "Bearer x"}, b"Incorrect"),
    ):
        spoken = await serving.ask(**headers)
        assert (spoken.status, told in spoken.body) == (401, True)
    assert serving.counted.requests == [("/models", "", "", 401)] * 3
