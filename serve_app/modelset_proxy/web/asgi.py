"""The ASGI application: routes, request ids, CORS, what errors look like, and the access log."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from modelset_proxy.openai import errors
from modelset_proxy.telemetry import log, metrics
from modelset_proxy.web import access, cors, demand, exchange, service

_logger = logging.getLogger(__name__)
_MODELS = "/models/"
_HEALTH_PATHS = {"/", "/health", "/healthz"}
# Nobody's API key opens the demand feed; it has a token of its own.
_OPEN_PATHS = {*_HEALTH_PATHS, demand.PATH}


class App:
    """Serves ``Service`` over ASGI. ``on_start`` and ``on_stop`` run in the event loop that serves.

    ``behind_serve`` is for Ray Serve, which puts ``x-request-id`` on every reply and cancels the request of a
    client that has gone; other servers leave both to the application.
    """

    def __init__(
        self,
        routes: service.Service,
        asked: demand.Demand,
        keys: access.Keys,
        measures: metrics.Metrics,
        *,
        on_start: Callable[[], Awaitable[None]],
        on_stop: Callable[[], Awaitable[None]],
        behind_serve: bool = False,
    ) -> None:
        self._service = routes
        self._keys = keys
        self._metrics = measures
        self._on_start = on_start
        self._on_stop = on_stop
        self._behind_serve = behind_serve
        self._log = log.RequestLog()
        self.cors = cors.Cors()
        self._routes: dict[str, dict[str, service.Handler]] = {
            "/": {"GET": routes.health},
            "/health": {"GET": routes.health},
            "/healthz": {"GET": routes.health},
            "/models": {"GET": routes.list_models},
            "/chat/completions": {"POST": routes.chat},
            "/completions": {"POST": routes.complete},
            "/embeddings": {"POST": routes.embed},
            "/responses": {"POST": routes.respond},
            "/messages": {"POST": routes.message},
            "/audio/transcriptions": {"POST": routes.transcribe},
            demand.PATH: {"GET": asked.get},
        }

    async def __call__(self, scope: exchange.Scope, receive: exchange.Receive, send: exchange.Send) -> None:
        """Serve one connection of any kind that ASGI knows."""
        if scope["type"] == "http":
            await self.http(scope, receive, send, alone=not self._behind_serve)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000})

    async def _lifespan(self, receive: exchange.Receive, send: exchange.Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self._on_start()
                await send({"type": "lifespan.startup.complete"})
            else:
                await self._on_stop()
                self._log.flush()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def http(
        self, scope: exchange.Scope, receive: exchange.Receive, send: exchange.Send, *, alone: bool
    ) -> None:
        """Serve one request; ``alone`` with the HTTP server, or behind Serve, see above."""
        web = exchange.Exchange(scope, receive, send, watches=alone)
        if alone:
            web.reply_headers.append((b"x-request-id", web.request_id.encode()))
        web.reply_headers += self.cors.headers(web.headers.get(b"origin"))
        status: int | None = None
        try:
            await self._answer(web)
        except exchange.ClientGoneError:
            status = 499
        except asyncio.CancelledError:
            status = 499
            if not web.client_gone:
                raise
        finally:
            web.stop_watching()
            status = status or web.status
            seconds = time.monotonic() - web.began
            is_watch = web.path in _OPEN_PATHS
            if not is_watch:
                model = str(web.facts.get("model", ""))
                self._metrics.request(web.route, model, web.client, status, seconds)
            # Whoever watches asks every few seconds, and it says nothing.
            level = logging.DEBUG if is_watch else logging.INFO
            self._log.write(
                level,
                request_id=web.request_id,
                method=web.method,
                path=web.path,
                status=status,
                client=web.client,
                seconds=round(seconds, 4),
                **web.facts,
            )

    async def _answer(self, web: exchange.Exchange) -> None:
        try:
            handler = self._route(web)
            await handler(web)
        except exchange.ClientGoneError:
            raise
        except errors.ApiError as error:
            await web.refuse(error)
        except Exception:
            # The edge of our code: whatever the defect, the client gets an envelope, the log the rest.
            _logger.exception("defect", extra=log.facts(request_id=web.request_id, path=web.path))
            if web.started:
                raise
            await web.refuse(errors.internal())

    def _route(self, web: exchange.Exchange) -> service.Handler:
        path = web.path.removeprefix("/v1") if web.path.startswith("/v1/") else web.path
        path = path.rstrip("/") or "/"
        methods = self._routes.get(path)
        web.route = path if methods is not None else ""
        if methods is None and path.startswith(_MODELS):
            name = path.removeprefix(_MODELS)
            web.route = "/models/{id}"

            async def get_model(web: exchange.Exchange) -> None:
                await self._service.get_model(web, name)

            methods = {"GET": get_model}
        if web.method == "OPTIONS":
            return self._options
        if path not in _OPEN_PATHS:
            authorization = web.headers.get(b"authorization", b"")
            web.client = self._keys.client(authorization, web.headers.get(b"x-api-key", b""))
        if methods is None:
            raise errors.ApiError(404, f"Invalid URL ({web.method} {web.path})", code="unknown_url")
        handler = methods.get("GET" if web.method == "HEAD" else web.method)
        if handler is None:
            allowed = ", ".join(sorted(methods))
            web.reply_headers.append((b"allow", allowed.encode()))
            raise errors.ApiError(
                405,
                f"Not allowed to {web.method} on {web.path} (allowed: {allowed}).",
                code="method_not_allowed",
            )
        return handler

    async def _options(self, web: exchange.Exchange) -> None:
        requested = web.headers.get(b"access-control-request-headers", b"")
        await web.reply(204, b"", headers=self.cors.preflight(requested))
