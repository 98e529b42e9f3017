"""Puts the parts together, with Ray Serve around them or without."""

import logging
from collections.abc import Mapping
from typing import Any

from . import asgi, catalog, config, cors, exchange, log, ollama_client, service, standalone

_logger = logging.getLogger(__name__)


class Proxy:
    """The whole proxy, as an ASGI application whose lifespan starts and stops it.

    ``engine`` is the upstream. ``behind_serve`` is for Ray Serve, see ``asgi.App``; there ``configure`` is
    called after the start, elsewhere the environment is all there is.
    """

    def __init__(self, settings: config.Environment, *, behind_serve: bool = False) -> None:
        self._settings = settings
        self._behind_serve = behind_serve
        self.engine = ollama_client.Ollama(settings.ollama_urls, interval=settings.refresh_seconds)
        self._service = service.Service(self.engine)
        self._discovery: standalone.Discovery | None = None
        self._app = asgi.App(
            self._service, on_start=self._start, on_stop=self._stop, behind_serve=behind_serve
        )

    async def __call__(self, scope: exchange.Scope, receive: exchange.Receive, send: exchange.Send) -> None:
        """Serve one connection."""
        await self._app(scope, receive, send)

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
        self._publish(user_config.catalog())
        _logger.info("configured", extra=log.facts(served=", ".join(self._service.catalog.served_names)))

    def _publish(self, models: catalog.Catalog) -> None:
        self._service.catalog = models

    async def _start(self) -> None:
        await self.engine.start()
        if not self._behind_serve:
            await self.configure({})

    async def _stop(self) -> None:
        if self._discovery is not None:
            await self._discovery.stop()
        await self.engine.close()


def build(*, behind_serve: bool = False) -> Proxy:
    """Build the proxy from the environment, as for ``uvicorn --factory modelset_proxy.proxy:build``."""
    settings = config.environment()
    log.setup(settings.log_level)
    return Proxy(settings, behind_serve=behind_serve)
