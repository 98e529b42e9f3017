"""Where requests enter a Ray Serve replica: at its HTTP server, and straight into the application.

Between its HTTP server and the application Serve starts two tasks and a queue for each request and counts
what ``ray_metrics`` counts too, all of which is work for each request. Serve lets the host put
middleware in front (``RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH``), and the one here leaves Serve what is
Serve's: its own paths, such as health checks, and all that is not HTTP. A replica that stops still waits for
its streams, because its HTTP server waits for its connections. Where the variable is not set, requests take
Serve's way and get the same answers.

Uvicorn sends whatever has no length in chunks, which HTTP/1.0 does not know; here its streams end with their
connection instead.
"""

from collections.abc import Awaitable, Callable

from starlette.middleware import Middleware
from uvicorn.protocols.http import httptools_impl

from modelset_proxy.serving import proxy, ray_board, ray_metrics
from modelset_proxy.web import exchange

_Asgi = Callable[[exchange.Scope, exchange.Receive, exchange.Send], Awaitable[None]]
_SERVES_OWN = "/-/"

# The application of this process; empty in Serve's processes that are no replicas.
_built: list[proxy.Proxy] = []


def build() -> proxy.Proxy:
    """Build the ASGI application inside the replica that serves it."""
    built = proxy.build(behind_serve=True, measures=ray_metrics.RayMetrics(), reach=ray_board.RayBoard())
    _built[:] = [built]
    return built


def middlewares() -> list[Middleware]:
    """Return what Serve is to put in front of itself; called once the replica has built its application."""
    return [Middleware(Shortcut, application=application) for application in _built]


class Shortcut:
    """Hands HTTP requests to the application, everything else to Serve."""

    def __init__(self, serve: _Asgi, application: proxy.Proxy) -> None:
        self._serve = serve
        self._application = application

    async def __call__(self, scope: exchange.Scope, receive: exchange.Receive, send: exchange.Send) -> None:
        """Serve one connection."""
        if scope["type"] == "http" and not scope["path"].startswith(_SERVES_OWN):
            if scope["http_version"] == "1.0":
                send = _without_chunks(send)
            await self._application.alone(scope, receive, send)
        else:
            await self._serve(scope, receive, send)


def _without_chunks(send: exchange.Send) -> exchange.Send:
    """Return a ``send`` that has uvicorn write bodies as they are; it closes such connections anyway."""
    cycle = getattr(send, "__self__", None)
    if not isinstance(cycle, httptools_impl.RequestResponseCycle):
        return send
    cycle.chunked_encoding = False

    async def send_plainly(message: exchange.Message) -> None:
        # Without chunks it counts what is left of the declared length, of which there is none.
        cycle.expected_content_length = len(message.get("body", b""))
        await send(message)

    return send_plainly
