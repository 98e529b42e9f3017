"""Requests to the API server, against a real HTTP server on this machine."""

import urllib.parse
from collections.abc import AsyncIterator
from typing import Any

import aiohttp.web
import pytest
from kubernetes.aio import client

from modelset_operator import cluster


class Server:
    """Answers with what a test prepared, and keeps what was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, str]] = {}
        self.asked: list[tuple[str, str, str, Any]] = []

    async def handle(self, request: aiohttp.web.Request) -> aiohttp.web.Response:
        body = await request.text()
        self.asked.append((request.method, request.path_qs, request.headers["Content-Type"], body))
        status, text = self.answers.get(request.path, (404, "404 page not found\n"))
        return aiohttp.web.Response(status=status, text=text)


@pytest.fixture
async def server() -> Server:
    return Server()


@pytest.fixture
async def api(server: Server) -> AsyncIterator[cluster.Cluster]:
    app = aiohttp.web.Application()
    app.router.add_route("*", "/{tail:.*}", server.handle)
    runner = aiohttp.web.AppRunner(app)
    await runner.setup()
    site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    configuration = client.Configuration()
    configuration.host = f"http://127.0.0.1:{runner.addresses[0][1]}"
    async with client.ApiClient(configuration) as connection:
        yield cluster.Cluster(connection)
    await runner.cleanup()


SERVICES = "/api/v1/namespaces/default/services"
RAY = "/apis/ray.io/v1/namespaces/default/rayservices/assistants"


async def test_an_object(api: cluster.Cluster, server: Server) -> None:
    server.answers[f"{SERVICES}/a"] = (200, '{"kind": "Service"}')
    assert await api.get(cluster.SERVICE, "default", "a") == {"kind": "Service"}


async def test_an_object_that_is_not_there(api: cluster.Cluster, server: Server) -> None:
    server.answers[RAY] = (404, '{"kind": "Status", "message": "rayservices \\"assistants\\" not found"}')
    assert await api.get(cluster.RAY_SERVICE, "default", "assistants") is None


async def test_a_kind_that_is_not_there(api: cluster.Cluster) -> None:
    with pytest.raises(cluster.KindMissingError):
        await api.get(cluster.RAY_SERVICE, "default", "assistants")


async def test_a_refusal_has_the_api_servers_words(api: cluster.Cluster, server: Server) -> None:
    server.answers[f"{SERVICES}/a"] = (403, '{"kind": "Status", "message": "exceeded quota"}')
    with pytest.raises(cluster.RefusedError, match="exceeded quota") as refused:
        await api.get(cluster.SERVICE, "default", "a")
    assert refused.value.status == 403


async def test_a_list_is_selected_by_labels(api: cluster.Cluster, server: Server) -> None:
    server.answers["/api/v1/namespaces/default/pods"] = (200, '{"items": [{"metadata": {"name": "p"}}]}')
    found = await api.list(cluster.POD, "default", {"b": "2", "a": "1"})
    assert found == [{"metadata": {"name": "p"}}]
    path = urllib.parse.unquote(server.asked[0][1])
    assert path == "/api/v1/namespaces/default/pods?labelSelector=a=1,b=2"


async def test_apply_is_server_side_and_forced(api: cluster.Cluster, server: Server) -> None:
    server.answers[f"{SERVICES}/a"] = (200, '{"kind": "Service", "spec": {}}')
    manifest = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "namespace": "default"}}
    assert await api.apply(manifest) == {"kind": "Service", "spec": {}}
    method, path, content_type, body = server.asked[0]
    assert (method, path) == ("PATCH", f"{SERVICES}/a?fieldManager=modelset-operator&force=true")
    assert content_type == "application/apply-patch+yaml"
    assert '"name": "a"' in body


async def test_a_json_patch_stays_a_list(api: cluster.Cluster, server: Server) -> None:
    path = "/apis/ray.io/v1/namespaces/default/rayclusters/c"
    server.answers[path] = (200, "{}")
    await api.scale_workers("default", "c", "uid", 2, ("w",))
    assert server.asked[0][2] == "application/json-patch+json"
    assert server.asked[0][3].startswith('[{"op": "test", "path": "/metadata/uid", "value": "uid"}')


async def test_an_api_server_that_is_away() -> None:
    configuration = client.Configuration()
    configuration.host = "http://127.0.0.1:9"
    async with client.ApiClient(configuration) as connection:
        with pytest.raises(cluster.UnreachableError, match="does not answer"):
            await cluster.Cluster(connection).get(cluster.SERVICE, "default", "a")
