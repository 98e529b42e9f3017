"""Models without Kubernetes: whatever the servers hold."""

import logging
from collections.abc import Callable, Mapping

from modelset_proxy.dispatch import fleet
from modelset_proxy.engines import port
from modelset_proxy.openai import catalog
from modelset_proxy.telemetry import background, log

_logger = logging.getLogger(__name__)


class Discovery:
    """Keeps the catalog in step with what the servers hold.

    ``publish`` gets a new catalog whenever it changes.
    """

    def __init__(self, servers: fleet.Fleet, publish: Callable[[catalog.Catalog], None]) -> None:
        self._fleet = servers
        self._publish = publish
        self._published: list[catalog.Model] | None = None
        self._background = background.Background()

    async def start(self) -> None:
        """List what is there and go on in the background; the engine must have been started."""
        await self._update()
        self._background.start("discovery", self._follow)

    async def stop(self) -> None:
        """End all background work."""
        await self._background.stop()

    async def _follow(self) -> None:
        while True:
            await self._fleet.next_round()
            await self._update()

    async def _update(self) -> None:
        sights = self._sights()
        if not sights:
            # The last list stays: it is answered from memory, and requests get a 503.
            return
        held = {name: model for sight in sights.values() for name, model in sight.held.items()}
        models = sorted(await self._models(held), key=lambda model: model.name)
        if models != self._published:
            self._published = models
            current = catalog.Catalog(models)
            self._publish(current)
            _logger.info("models", extra=log.facts(served=", ".join(current.served_names)))

    async def _models(self, held: Mapping[str, port.Held]) -> list[catalog.Model]:
        """Return what is to be served of what is held; that is all, and what it is for is not known."""
        return [
            catalog.Model(
                name=found.name, served_names=(found.name,), kind=catalog.ANY, created=found.changed
            )
            for found in held.values()
        ]

    def _sights(self) -> dict[str, port.Sight]:
        """Return what the servers that answer hold."""
        return {url: sight for url, sight in self._fleet.sights.items() if sight is not None}
