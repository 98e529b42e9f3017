"""Ollama without Kubernetes: models that the environment lists are pulled; without a list all are served."""

import asyncio
import functools
import logging
from collections.abc import Callable, Mapping

from modelset_proxy.dispatch import fleet
from modelset_proxy.engines import port
from modelset_proxy.engines.ollama import engine, http, names
from modelset_proxy.openai import catalog
from modelset_proxy.serving import config, standalone
from modelset_proxy.telemetry import log

_logger = logging.getLogger(__name__)
_RETRY_SECONDS = 60.0
_PROGRESS_SECONDS = 5.0


class Pulling(standalone.Discovery):
    """Discovery that asks Ollama what its models can do, and pulls what is listed and missing.

    A model that cannot be pulled is logged, not listed and tried again every minute; the others serve.
    """

    def __init__(
        self,
        settings: config.Environment,
        engine: engine.Ollama,
        servers: fleet.Fleet,
        publish: Callable[[catalog.Catalog], None],
        *,
        retry_seconds: float = _RETRY_SECONDS,
    ) -> None:
        super().__init__(servers, publish)
        self._settings = settings
        self._engine = engine
        self._retry_seconds = retry_seconds
        self._wanted = [
            *((name, catalog.CHAT) for name in settings.chat_models),
            *((name, catalog.EMBEDDING) for name in settings.embedding_models),
        ]
        self._capabilities: dict[str, frozenset[str]] = {}

    async def start(self) -> None:
        """List what is there and go on in the background; the engine must have been started."""
        await super().start()
        for name in dict.fromkeys(name for name, _ in self._wanted):
            self._background.start(f"pull {name}", functools.partial(self._keep, name))

    async def _models(self, held: Mapping[str, port.Held]) -> list[catalog.Model]:
        if not self._wanted:
            return [await self._model(found.name, None, found) for found in held.values()]
        models = []
        for name, kind in self._wanted:
            found = held.get(names.canonical(name))
            if found is not None:
                models.append(await self._model(name, kind, found))
        return models

    async def _model(self, name: str, kind: str | None, held: port.Held) -> catalog.Model:
        capabilities = await self._ask_capabilities(held)
        if kind is None:
            kind = catalog.EMBEDDING if capabilities and "embedding" in capabilities else catalog.CHAT
        return catalog.Model(
            name=name,
            served_names=names.served_names(name),
            kind=kind,
            capabilities=capabilities,
            keep_alive=self._settings.keep_alive,
            created=held.changed,
        )

    async def _ask_capabilities(self, held: port.Held) -> frozenset[str] | None:
        known = self._capabilities.get(held.digest)
        if known is not None:
            return known
        holders = [url for url, sight in self._sights().items() if held in sight.held.values()]
        found = await self._engine.capabilities(holders[0], held.name) if holders else None
        if found is not None and held.digest:
            self._capabilities[held.digest] = found
        return found

    async def _keep(self, name: str) -> None:
        """Pull a model to every server that lacks it, also to servers that join later."""
        canonical = names.canonical(name)
        while True:
            lacking = [url for url, sight in self._sights().items() if canonical not in sight.held]
            failed = False
            for url in lacking:
                try:
                    await self._pull(url, name)
                except http.PullFailedError as problem:
                    failed = True
                    # Ollama's reason says it all; a traceback of ours would bury it.
                    _logger.error(  # noqa: TRY400
                        "model cannot be pulled and is not served",
                        extra=log.facts(model=name, server=url, reason=str(problem)),
                    )
            if failed:
                await asyncio.sleep(self._retry_seconds)
            elif lacking:
                await self._fleet.refresh()
            await self._fleet.next_round()

    async def _pull(self, url: str, name: str) -> None:
        _logger.info("pulling", extra=log.facts(model=name, server=url))
        loop = asyncio.get_running_loop()
        reported = loop.time()
        last = ""
        async for line in self._engine.pull(url, name, insecure=self._settings.pull_insecure):
            if line.error is not None:
                raise http.PullFailedError(line.error)
            last = line.status
            if line.total and loop.time() - reported > _PROGRESS_SECONDS:
                reported = loop.time()
                percent = f"{100 * line.completed // line.total}%"
                _logger.info(
                    "pulling", extra=log.facts(model=name, server=url, layer=line.digest[:19], done=percent)
                )
        if last != "success":
            raise http.PullFailedError(f"the pull ended with {last!r}")
        _logger.info("pulled", extra=log.facts(model=name, server=url))
