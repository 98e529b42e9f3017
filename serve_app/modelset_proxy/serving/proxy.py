"""Puts the parts together, with Ray Serve around them or without."""

import gc
import logging
import socket
from collections.abc import Awaitable, Mapping
from typing import Any

from modelset_proxy.dispatch import dispatcher, facts, fleet, sharing
from modelset_proxy.engines import port
from modelset_proxy.engines.compatible import engine as compatible
from modelset_proxy.engines.ollama import engine as ollama
from modelset_proxy.openai import catalog
from modelset_proxy.serving import config, pulling, standalone
from modelset_proxy.telemetry import background, log, metrics
from modelset_proxy.web import access, asgi, cors, demand, exchange, guard, service

_logger = logging.getLogger(__name__)
_GARBAGE_OBJECTS = 10_000
# Without Kubernetes nobody starts a server because somebody waits for it.
_STANDALONE = facts.Limits(wake_timeout_seconds=0)


class Proxy:
    """The whole proxy, as an ASGI application whose lifespan starts and stops it.

    ``engine`` asks the servers that ``fleet`` knows, as ``dispatch`` decides; ``reach`` leads to the other
    proxies of the same servers, if there are any. ``behind_serve`` is for Ray Serve, see ``asgi.App``; there
    ``configure`` is called after the start, elsewhere the environment is all there is.
    """

    def __init__(
        self,
        settings: config.Environment,
        *,
        behind_serve: bool = False,
        measures: metrics.Metrics | None = None,
        reach: sharing.Reach | None = None,
    ) -> None:
        measures = measures or metrics.Nothing()
        self._metrics = measures
        self._settings = settings
        self._behind_serve = behind_serve
        self.engine: port.Engine = (
            compatible.Compatible() if settings.engine == config.OPENAI else ollama.Ollama()
        )
        # Behind Serve the first configuration says where the servers are.
        urls = () if behind_serve else settings.ollama_urls
        self.fleet = fleet.Fleet(urls, self.engine, interval=settings.refresh_seconds)
        self.dispatch = dispatcher.Dispatcher(self.engine, self.fleet, measures, reach=reach)
        self.keys = access.Keys(settings.api_keys_dir)
        self._service = service.Service(self.engine, self.dispatch, measures)
        self._demand = demand.Demand(self.dispatch)
        self._discovery: standalone.Discovery | None = None
        self._background = background.Background()
        self._app = asgi.App(
            self._service,
            self._demand,
            self.keys,
            measures,
            on_start=self._start,
            on_stop=self._stop,
            behind_serve=behind_serve,
        )

    async def __call__(self, scope: exchange.Scope, receive: exchange.Receive, send: exchange.Send) -> None:
        """Serve one connection."""
        await self._app(scope, receive, send)

    def alone(self, scope: exchange.Scope, receive: exchange.Receive, send: exchange.Send) -> Awaitable[None]:
        """Serve one HTTP request that comes from an HTTP server with nobody in between."""
        return self._app.http(scope, receive, send, alone=True)

    async def configure(self, given: Mapping[str, Any]) -> None:
        """Take a ``user_config`` into use; an empty one means that models come from the environment.

        Requests under way go on with what they began with, and at the servers where they are.
        """
        if self._discovery is not None:
            await self._discovery.stop()
            self._discovery = None
        if not given:
            self._app.cors = cors.Cors(self._settings.cors_origins)
            self._app.guard = self._guard(self._app.cors)
            self._demand.token_sha256 = None
            self.dispatch.limits = _STANDALONE
            await self.fleet.serve(self._settings.ollama_urls)
            self._discovery = self._discover()
            await self._discovery.start()
            return
        user_config = config.user_config(given)
        self._app.cors = cors.Cors(user_config.cors.allow_origins)
        # A Service or an Ingress has any number of names; keys and NetworkPolicies guard them.
        self._app.guard = None
        reader = user_config.demand
        self._demand.token_sha256 = None if reader is None else reader.token_sha256
        self.dispatch.limits = user_config.limits
        await self.fleet.serve(user_config.urls() or self._settings.ollama_urls)
        self._publish(user_config.catalog())
        _logger.info("configured", extra=log.facts(served=", ".join(self._service.catalog.served_names)))

    def _guard(self, origins: cors.Cors) -> guard.Guard | None:
        if self._settings.api_keys_dir is not None:
            return None
        return guard.Guard(origins, [socket.gethostname(), *self._settings.allowed_hosts])

    def _discover(self) -> standalone.Discovery:
        if isinstance(self.engine, ollama.Ollama):
            return pulling.Pulling(self._settings, self.engine, self.fleet, self._publish)
        return standalone.Discovery(self.fleet, self._publish)

    def _publish(self, models: catalog.Catalog) -> None:
        self._service.catalog = models
        self.dispatch.serve(models)

    async def _start(self) -> None:
        await self.engine.start()
        await self.fleet.start()
        await self.dispatch.start()
        self._background.start("API keys", self.keys.watch)
        self._background.start("numbers", self._keep_up)
        if not self._behind_serve:
            await self.configure({})

    async def _keep_up(self) -> None:
        """After each look at the servers: let requests in that wait for one, and hand over numbers."""
        told: dict[str, tuple[int, int]] = {}
        while True:
            await self.fleet.next_round()
            now = self.dispatch.counts()
            # A gauge keeps what it was told last, so a model that has left is told to be idle once.
            for model in told.keys() - now.keys():
                self._metrics.in_flight(model, 0, 0)
            for model, counts in now.items():
                self._metrics.in_flight(model, *counts)
            told = now
            self._metrics.flush()

    async def _stop(self) -> None:
        await self._background.stop()
        await self.dispatch.close()
        if self._discovery is not None:
            await self._discovery.stop()
        await self.fleet.stop()
        await self.engine.close()


def build(
    *,
    behind_serve: bool = False,
    measures: metrics.Metrics | None = None,
    reach: sharing.Reach | None = None,
) -> Proxy:
    """Build the proxy from the environment, as for ``uvicorn --factory modelset_proxy.proxy:build``."""
    settings = config.environment()
    log.setup(settings.log_level)
    # What is here by now stays, so the collector need not look at it again; and requests make little garbage
    # that only it can free, so it need not look every 700 objects.
    gc.freeze()
    gc.set_threshold(_GARBAGE_OBJECTS, 20, 20)
    return Proxy(settings, behind_serve=behind_serve, measures=measures, reach=reach)
