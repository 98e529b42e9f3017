"""Puts the parts together, with Ray Serve around them or without."""

import asyncio
import gc
import logging
from collections.abc import Awaitable, Mapping
from typing import Any

from . import (
    access,
    admission,
    asgi,
    catalog,
    config,
    cors,
    exchange,
    log,
    metrics,
    ollama_client,
    service,
    standalone,
)

_logger = logging.getLogger(__name__)
_GARBAGE_OBJECTS = 10_000


class Proxy:
    """The whole proxy, as an ASGI application whose lifespan starts and stops it.

    ``engine`` is the upstream. ``behind_serve`` is for Ray Serve, see ``asgi.App``; there ``configure`` is
    called after the start, elsewhere the environment is all there is.
    """

    def __init__(
        self,
        settings: config.Environment,
        *,
        behind_serve: bool = False,
        measures: metrics.Metrics | None = None,
    ) -> None:
        measures = measures or metrics.Nothing()
        self._metrics = measures
        self._settings = settings
        self._behind_serve = behind_serve
        self.engine = ollama_client.Ollama(
            settings.ollama_urls, interval=settings.refresh_seconds, measures=measures
        )
        self.turns = admission.Admission(self._servers)
        self.keys = access.Keys(settings.api_keys_dir)
        self._service = service.Service(self.engine, self.turns, measures)
        self._discovery: standalone.Discovery | None = None
        self._background: list[asyncio.Task[None]] = []
        self._by_served: dict[str, catalog.Model] = {}
        self._app = asgi.App(
            self._service,
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

        Requests under way go on with what they began with.
        """
        if self._discovery is not None:
            await self._discovery.stop()
            self._discovery = None
        if not given:
            self._app.cors = cors.Cors(self._settings.cors_origins)
            self._discovery = standalone.Discovery(self._settings, self.engine, self._publish)
            await self._discovery.start()
            return
        user_config = config.user_config(given)
        self._app.cors = cors.Cors(user_config.cors.allow_origins)
        self.turns.limits = user_config.limits
        self.engine.parallel = user_config.limits.max_in_flight_per_server
        self._publish(user_config.catalog())
        _logger.info("configured", extra=log.facts(served=", ".join(self._service.catalog.served_names)))

    def _publish(self, models: catalog.Catalog) -> None:
        self._service.catalog = models
        self._by_served = {model.served_names[0]: model for model in models.models}
        self.turns.admit()

    def _servers(self, served: str) -> int:
        model = self._by_served.get(served)
        return 0 if model is None else self.engine.servers(model)

    async def _start(self) -> None:
        await self.engine.start()
        self._background = [asyncio.create_task(self.keys.watch()), asyncio.create_task(self._keep_up())]
        if not self._behind_serve:
            await self.configure({})

    async def _keep_up(self) -> None:
        """After each look at the servers: let requests in that wait for one, and hand over numbers."""
        while True:
            await self.engine.fleet.next_round()
            self.turns.admit()
            for model in self._by_served:
                self._metrics.in_flight(model, *self.turns.counts(model))
            self._metrics.flush()

    async def _stop(self) -> None:
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        if self._discovery is not None:
            await self._discovery.stop()
        await self.engine.close()


def build(*, behind_serve: bool = False, measures: metrics.Metrics | None = None) -> Proxy:
    """Build the proxy from the environment, as for ``uvicorn --factory modelset_proxy.proxy:build``."""
    settings = config.environment()
    log.setup(settings.log_level)
    # What is here by now stays, so the collector need not look at it again; and requests make little garbage
    # that only it can free, so it need not look every 700 objects.
    gc.freeze()
    gc.set_threshold(_GARBAGE_OBJECTS, 20, 20)
    return Proxy(settings, behind_serve=behind_serve, measures=measures)
