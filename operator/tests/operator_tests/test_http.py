"""Requests to the API server, against a real HTTP server on this machine."""

import asyncio
import contextlib
import json
import urllib.parse
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp.web
import pytest
from kubernetes.aio import client

from modelset_operator import metrics
from modelset_operator.cluster import http, kinds, writes


class Server:
    """Answers with what a test prepared, one answer after the other, and keeps what was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, list[tuple[int, str, dict[str, str]]]] = {}
        self.asked: list[tuple[str, str, str, Any]] = []
        self.headers: list[Mapping[str, str]] = []
        self.speaks = asyncio.Event()
        self.speaks.set()

    def answer(self, path: str, status: int, text: str, **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers.setdefault(path, []).append((status, text, named))

    async def handle(self, request: aiohttp.web.Request) -> aiohttp.web.Response:
        self.headers.append(request.headers)
        await self.speaks.wait()
        body = await request.text()
        path = urllib.parse.unquote(request.path_qs)
        self.asked.append((request.method, path, request.headers["Content-Type"], body))
        prepared = self.answers.get(request.path) or [(404, "404 page not found\n", {})]
        status, text, headers = prepared.pop(0)
        return aiohttp.web.Response(status=status, text=text, headers=headers)


@pytest.fixture
async def server() -> Server:
    return Server()


@contextlib.asynccontextmanager
async def _connected(server: Server, bearer: str = "") -> AsyncIterator[http.Http]:
    app = aiohttp.web.Application()
    app.router.add_route("*", "/{tail:.*}", server.handle)
    runner = aiohttp.web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    configuration = client.Configuration()
    configuration.host = f"http://127.0.0.1:{runner.addresses[0][1]}"
    if bearer:
        configuration.api_key["BearerToken"] = f"Bearer {bearer}"
    async with client.ApiClient(configuration) as connection:
        yield http.Http(connection)
    await runner.cleanup()


@pytest.fixture
async def api(server: Server) -> AsyncIterator[http.Http]:
    async with _connected(server) as connected:
        yield connected


SERVICE = "/api/v1/namespaces/default/services/a"
PODS = "/api/v1/namespaces/default/pods"
RAY = "/apis/ray.io/v1/namespaces/default/rayservices/assistants"


async def test_an_object(api: http.Http, server: Server) -> None:
    server.answer(SERVICE, 200, '{"kind": "Service"}')
    assert await api.ask("GET", kinds.SERVICE.path("default", "a")) == {"kind": "Service"}


async def test_a_kind_that_is_not_there_is_told_from_an_object_that_is_not(
    api: http.Http, server: Server
) -> None:
    with pytest.raises(http.KindMissingError):
        await api.ask("GET", kinds.RAY_SERVICE.path("default", "assistants"))
    server.answer(RAY, 404, '{"kind": "Status", "message": "rayservices \\"assistants\\" not found"}')
    with pytest.raises(http.RefusedError, match="not found"):
        await api.ask("GET", kinds.RAY_SERVICE.path("default", "assistants"))


@pytest.mark.parametrize(
    ("status", "headers", "passing", "retry_after"),
    [
        (403, {}, False, None),
        (422, {}, False, None),
        (409, {}, True, None),
        (429, {"Retry_After": "7"}, True, 7.0),
        (500, {}, True, None),
        (503, {"Retry_After": "soon"}, True, None),
    ],
)
async def test_a_refusal_has_the_api_servers_words_and_says_whether_it_may_pass(
    api: http.Http,
    server: Server,
    status: int,
    headers: dict[str, str],
    passing: bool,
    retry_after: float | None,
) -> None:
    server.answer(SERVICE, status, '{"kind": "Status", "message": "not now"}', **headers)
    with pytest.raises(http.RefusedError, match="not now") as refused:
        await api.ask("PATCH", kinds.SERVICE.path("default", "a"), body={})
    assert refused.value.status == status
    assert (refused.value.passing, refused.value.retry_after) == (passing, retry_after)


async def test_a_list_comes_in_pages(api: http.Http, server: Server) -> None:
    for name, more in (("p", "next"), ("q", "")):
        page = {
            "metadata": {"resourceVersion": "7", "continue": more},
            "items": [{"metadata": {"name": name}}],
        }
        server.answer(PODS, 200, json.dumps(page))
    pages = [page async for page in api.list(kinds.POD, "default", "a=1")]
    assert [([item["metadata"]["name"] for item in items], version) for items, version in pages] == [
        (["p"], "7"),
        (["q"], "7"),
    ]
    assert [path for _, path, _, _ in server.asked] == [
        f"{PODS}?limit=100&labelSelector=a=1",
        f"{PODS}?limit=100&labelSelector=a=1&continue=next",
    ]


async def test_all_namespaces_are_one_list(api: http.Http, server: Server) -> None:
    server.answer("/api/v1/pods", 200, '{"metadata": {"resourceVersion": "7"}}')
    assert [page async for page in api.list(kinds.POD, "", "")] == [([], "7")]
    assert server.asked[0][1] == "/api/v1/pods?limit=100"


async def _watched(api: http.Http) -> list[tuple[str, str]]:
    events = api.watch(kinds.POD, "default", "a", "7", 60)
    return [(kind, found["metadata"]["name"] if found else "") async for kind, found in events]


def _event(kind: str, name: str) -> str:
    return json.dumps({"type": kind, "object": {"metadata": {"name": name}}}) + "\n"


async def test_a_watch_tells_what_happens_from_a_version_on(api: http.Http, server: Server) -> None:
    server.answer(PODS, 200, _event("ADDED", "p") + _event("BOOKMARK", ""))
    assert await _watched(api) == [(http.BEGUN, ""), ("ADDED", "p"), ("BOOKMARK", "")]
    query = "watch=1&resourceVersion=7&allowWatchBookmarks=true&timeoutSeconds=60&labelSelector=a"
    assert server.asked[0][1] == f"{PODS}?{query}"


@pytest.mark.parametrize(
    ("status", "text", "error"),
    [
        (410, "{}", http.ExpiredError),
        (200, '{"type": "ERROR", "object": {"code": 410, "message": "too old"}}\n', http.ExpiredError),
        (200, '{"type": "ERROR", "object": {"code": 500, "message": "oh"}}\n', http.RefusedError),
        (403, '{"message": "forbidden"}', http.RefusedError),
        (200, '{"type": "ADDED", "obj', http.UnreachableError),
    ],
)
async def test_what_ends_a_watch(
    api: http.Http, server: Server, status: int, text: str, error: type[Exception]
) -> None:
    server.answer(PODS, status, text)
    with pytest.raises(error):
        await _watched(api)


async def test_apply_is_server_side_and_forced_and_what_came_of_it_is_known(
    api: http.Http, server: Server
) -> None:
    server.answer(SERVICE, 200, '{"kind": "Service", "spec": {}}')
    manifest = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "namespace": "default"}}
    known: list[Any] = []
    assert await writes.Writes(api, known.append).apply(manifest) == {"kind": "Service", "spec": {}}
    assert known == [{"kind": "Service", "spec": {}}]
    method, path, content_type, body = server.asked[0]
    assert (method, path) == ("PATCH", f"{SERVICE}?fieldManager=modelset-operator&force=true")
    assert content_type == "application/apply-patch+yaml"
    assert '"name": "a"' in body


async def test_a_json_patch_stays_a_list(api: http.Http, server: Server) -> None:
    server.answer("/apis/ray.io/v1/namespaces/default/rayclusters/c", 200, "{}")
    await writes.Writes(api, lambda _: None).scale_workers("default", "c", "uid", 2, ("w",))
    assert server.asked[0][2] == "application/json-patch+json"
    assert server.asked[0][3].startswith('[{"op": "test", "path": "/metadata/uid", "value": "uid"}')


async def test_an_api_server_that_is_away() -> None:
    configuration = client.Configuration()
    configuration.host = "http://127.0.0.1:9"
    async with client.ApiClient(configuration) as connection:
        with pytest.raises(http.UnreachableError, match="does not answer"):
            await http.Http(connection).ask("GET", kinds.SERVICE.path("default", "a"))


async def test_requests_say_who_asks_for_what(server: Server) -> None:
    async with _connected(server, bearer="abc") as api:
        server.answer(SERVICE, 200, "{}")
        await api.ask("GET", kinds.SERVICE.path("default", "a"))
        server.answer(PODS, 200, "")
        assert await _watched(api) == [(http.BEGUN, "")]
    for headers in server.headers:
        assert headers["Authorization"] == "Bearer abc"
        assert headers["Accept"] == headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    ("status", "passing"), [(400, False), (403, False), (408, True), (422, False), (429, True), (500, True)]
)
async def test_what_is_no_status_object_is_told_as_it_is(
    api: http.Http, server: Server, status: int, passing: bool
) -> None:
    server.answer(SERVICE, status, " so it is \n")
    with pytest.raises(http.RefusedError, match=f"^HTTP {status}: so it is$") as refused:
        await api.ask("GET", kinds.SERVICE.path("default", "a"))
    assert refused.value.passing == passing
    assert refused.value.retry_after is None


@pytest.mark.parametrize("status", [300, 304])
async def test_only_what_is_done_is_an_answer(api: http.Http, server: Server, status: int) -> None:
    server.answer(SERVICE, status, "")
    with pytest.raises(http.RefusedError):
        await api.ask("GET", kinds.SERVICE.path("default", "a"))


async def test_an_event_is_posted(api: http.Http, server: Server) -> None:
    event = {"metadata": {"name": "a", "namespace": "default"}}
    server.answer("/api/v1/namespaces/default/events", 201, "{}")
    await writes.Writes(api, lambda _: None).create_event(event)
    assert server.asked == [
        ("POST", "/api/v1/namespaces/default/events", "application/json", json.dumps(event))
    ]


async def test_what_is_looked_for_and_not_found_is_none_and_other_refusals_are_not(
    api: http.Http, server: Server
) -> None:
    asking = writes.Writes(api, lambda _: None)
    manifest = {"kind": "Service", "metadata": {"name": "a", "namespace": "default"}}
    server.answer(SERVICE, 404, '{"message": "not found"}')
    server.answer(SERVICE, 403, '{"message": "forbidden"}')
    assert await asking.find(manifest) is None
    with pytest.raises(http.RefusedError, match="forbidden"):
        await asking.find(manifest)


async def test_an_api_server_that_says_nothing_is_given_up(
    api: http.Http, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "REQUEST_SECONDS", 0.05)
    monkeypatch.setattr(http, "_SPARE_SECONDS", 0.05)
    server.speaks.clear()
    with pytest.raises(http.UnreachableError):
        await api.ask("GET", kinds.SERVICE.path("default", "a"))
    with pytest.raises(http.UnreachableError):
        async for _ in api.watch(kinds.POD, "default", "", "1", 0):
            pass
    server.speaks.set()


async def test_requests_are_counted_with_what_came_of_them(api: http.Http, server: Server) -> None:
    def count(code: str) -> float:
        labels = {"verb": "get", "resource": "services", "code": code}
        return metrics.REGISTRY.get_sample_value("modelset_operator_api_requests_total", labels) or 0.0

    before = count("200"), count("403")
    server.answer(SERVICE, 200, "{}")
    server.answer(SERVICE, 403, "no")
    await api.ask("GET", SERVICE)
    with pytest.raises(http.RefusedError):
        await api.ask("GET", SERVICE)
    assert (count("200"), count("403")) == (before[0] + 1, before[1] + 1)


async def test_an_annotation_is_set_only_on_what_was_looked_at(api: http.Http, server: Server) -> None:
    path = kinds.MODEL_SET.path("default", "assistants")
    server.answer(path, 200, "{}")
    metadata = {"name": "assistants", "namespace": "default", "uid": "u", "resourceVersion": "7"}
    found = {"kind": "OllamaModelSet", "metadata": metadata}
    await writes.Writes(api, lambda _: None).annotate(found, "a/b", "c")
    method, _, content_type, body = server.asked[-1]
    assert (method, content_type) == ("PATCH", "application/merge-patch+json")
    assert json.loads(body)["metadata"] == {"uid": "u", "resourceVersion": "7", "annotations": {"a/b": "c"}}


class Silent:
    """Takes the place of the official client: keeps how long it was to wait, and that was too long."""

    def __init__(self) -> None:
        self.waited: list[aiohttp.ClientTimeout] = []

    async def param_serialize(self, *request: Any, **_: Any) -> tuple[Any, ...]:
        return request

    async def call_api(self, *_: Any, _request_timeout: aiohttp.ClientTimeout) -> None:
        self.waited.append(_request_timeout)
        raise TimeoutError


async def test_an_answer_is_waited_for_as_long_as_it_may_take() -> None:
    silent: Any = Silent()
    api = http.Http(silent)
    with pytest.raises(http.UnreachableError, match=r"does not answer \(TimeoutError\)"):
        await api.ask("GET", kinds.SERVICE.path("default", "a"))
    with pytest.raises(http.UnreachableError, match=r"does not answer \(TimeoutError\)"):
        await anext(api.watch(kinds.POD, "default", "", "1", 60))
    assert silent.waited == [
        aiohttp.ClientTimeout(total=20),
        aiohttp.ClientTimeout(total=80, sock_connect=20, sock_read=80),
    ]


@pytest.mark.parametrize(
    ("status", "data", "error", "message"),
    [
        (410, b"", http.ExpiredError, "/p"),
        (404, b"404 page not found", http.KindMissingError, "the API server has nothing at /p"),
        (404, b'{"message": "no such pod"}', http.RefusedError, "no such pod"),
        (500, b"\xff no", http.RefusedError, "HTTP 500: \N{REPLACEMENT CHARACTER} no"),
        (500, b"[]", http.RefusedError, "HTTP 500: []"),
        (500, "{}", http.RefusedError, "HTTP 500: {}"),
        (500, 201 * "x", http.RefusedError, f"HTTP 500: {200 * 'x'}"),
    ],
)
def test_what_an_answer_that_is_none_is_told_as(
    status: int, data: bytes | str, error: type[Exception], message: str
) -> None:
    found = http._error(status, {}, "/p", data)
    assert (type(found), str(found)) == (error, message)


async def test_an_error_of_a_watch_without_a_code_is_the_servers_own(api: http.Http, server: Server) -> None:
    server.answer(PODS, 200, '{"type": "ERROR", "object": {"message": "oh"}}\n')
    with pytest.raises(http.RefusedError, match="oh") as refused:
        await _watched(api)
    assert refused.value.status == 500
