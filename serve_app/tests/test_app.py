"""The Serve binding, as far as it goes without a running Ray."""

from typing import Any

import pytest
import uvicorn

from modelset_proxy import app
from modelset_proxy.serving import ingress
from modelset_proxy.web import exchange


def test_serve_finds_one_deployment_that_admits_all_and_is_always_configured() -> None:
    deployment = app.Proxy
    assert deployment.name == "Proxy"
    assert deployment.user_config == {}
    assert deployment.max_ongoing_requests == 100_000


class Application:
    """Stands in for the proxy: keeps the paths it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def alone(self, scope: exchange.Scope, receive: exchange.Receive, send: exchange.Send) -> None:
        self.asked.append(scope["path"])


@pytest.mark.parametrize(
    ("scope", "way"),
    [
        ({"type": "http", "http_version": "1.1", "path": "/v1/models"}, "application"),
        ({"type": "http", "http_version": "1.1", "path": "/"}, "application"),
        ({"type": "http", "http_version": "1.1", "path": "/-/healthz"}, "serve"),
        ({"type": "http", "http_version": "1.1", "path": "/-/routes"}, "serve"),
        ({"type": "websocket", "path": "/v1/realtime"}, "serve"),
    ],
)
async def test_requests_take_the_short_way_and_all_else_is_left_to_serve(
    scope: dict[str, Any], way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    application, served = Application(), list[str]()

    async def serve(scope: exchange.Scope, receive: exchange.Receive, send: exchange.Send) -> None:
        served.append(scope["path"])

    async def receive() -> exchange.Message:
        raise AssertionError

    async def send(message: exchange.Message) -> None:
        raise AssertionError

    monkeypatch.setattr(ingress, "_built", [application])
    (middleware,) = ingress.middlewares()
    # As Serve's HTTP server loads it, which looks at the kind of callable it is given.
    config = uvicorn.Config(middleware.cls(serve, *middleware.args, **middleware.kwargs), proxy_headers=False)
    config.load()
    await config.loaded_app(scope, receive, send)
    assert {"application": application.asked, "serve": served}[way] == [scope["path"]]
    assert len(application.asked) + len(served) == 1


def test_a_process_that_is_no_replica_leaves_serve_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingress, "_built", [])
    assert ingress.middlewares() == []
