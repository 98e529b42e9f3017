"""Models without Kubernetes: pulled when they are listed in the environment, else whatever Ollama holds."""

import asyncio
import datetime
import logging
from collections.abc import Callable

from . import catalog, config, log, ollama_answers, ollama_client, ollama_names

_logger = logging.getLogger(__name__)
_RETRY_SECONDS = 60.0
_PROGRESS_SECONDS = 5.0


class Discovery:
    """Keeps the catalog in step with what the servers hold, and pulls what is listed and missing.

    ``publish`` gets a new catalog whenever it changes. A model that cannot be pulled is logged, not listed
    and tried again every minute; the others serve.
    """

    def __init__(
        self,
        settings: config.Environment,
        engine: ollama_client.Ollama,
        publish: Callable[[catalog.Catalog], None],
        *,
        retry_seconds: float = _RETRY_SECONDS,
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._publish = publish
        self._retry_seconds = retry_seconds
        self._wanted = [
            *((name, catalog.CHAT) for name in settings.chat_models),
            *((name, catalog.EMBEDDING) for name in settings.embedding_models),
        ]
        self._capabilities: dict[str, frozenset[str]] = {}
        self._published: list[catalog.Model] | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """List what is there and go on in the background; the engine must have been started."""
        await self._update()
        self._tasks.append(asyncio.create_task(self._follow(), name="discovery"))
        for name in dict.fromkeys(name for name, _ in self._wanted):
            self._tasks.append(asyncio.create_task(self._keep(name), name=f"pull {name}"))

    async def stop(self) -> None:
        """End all background work."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def _follow(self) -> None:
        while True:
            await self._engine.fleet.next_round()
            await self._update()

    async def _update(self) -> None:
        held = {name: model for tags in self._engine.fleet.tags.values() for name, model in tags.items()}
        models = []
        if self._wanted:
            for name, kind in self._wanted:
                found = held.get(ollama_names.canonical(name))
                if found is not None:
                    models.append(await self._model(name, kind, found))
        else:
            models = [await self._model(found.name, None, found) for found in held.values()]
        models.sort(key=lambda model: model.name)
        # Without any server the last list stays: it is answered from memory, and requests get a 503.
        if models != self._published and (held or self._published is None):
            self._published = models
            current = catalog.Catalog(models)
            self._publish(current)
            _logger.info("models", extra=log.facts(served=", ".join(current.served_names)))

    async def _model(self, name: str, kind: str | None, held: ollama_answers.HeldModel) -> catalog.Model:
        capabilities = await self._ask_capabilities(held)
        if kind is None:
            kind = catalog.EMBEDDING if capabilities and "embedding" in capabilities else catalog.CHAT
        return catalog.Model(
            name=name,
            served_names=ollama_names.served_names(name),
            kind=kind,
            capabilities=capabilities,
            keep_alive=self._settings.keep_alive,
            created=_unix(held.modified_at),
        )

    async def _ask_capabilities(self, held: ollama_answers.HeldModel) -> frozenset[str] | None:
        known = self._capabilities.get(held.digest)
        if known is not None:
            return known
        found = await self._engine.capabilities(held.name)
        if found is not None and held.digest:
            self._capabilities[held.digest] = found
        return found

    async def _keep(self, name: str) -> None:
        """Pull a model to every server that lacks it, also to servers that join later."""
        canonical = ollama_names.canonical(name)
        while True:
            lacking = [
                server.url
                for server in self._engine.fleet.servers.values()
                if server.reachable and canonical not in server.held
            ]
            failed = False
            for url in lacking:
                try:
                    await self._pull(url, name)
                except ollama_client.PullFailedError as problem:
                    failed = True
                    # Ollama's reason says it all; a traceback of ours would bury it.
                    _logger.error(  # noqa: TRY400
                        "model cannot be pulled and is not served",
                        extra=log.facts(model=name, server=url, reason=str(problem)),
                    )
            if failed:
                await asyncio.sleep(self._retry_seconds)
            elif lacking:
                await self._engine.fleet.refresh()
            await self._engine.fleet.next_round()

    async def _pull(self, url: str, name: str) -> None:
        _logger.info("pulling", extra=log.facts(model=name, server=url))
        loop = asyncio.get_running_loop()
        reported = loop.time()
        last = ""
        async for line in self._engine.pull(url, name, insecure=self._settings.pull_insecure):
            if line.error is not None:
                raise ollama_client.PullFailedError(line.error)
            last = line.status
            if line.total and loop.time() - reported > _PROGRESS_SECONDS:
                reported = loop.time()
                percent = f"{100 * line.completed // line.total}%"
                _logger.info(
                    "pulling", extra=log.facts(model=name, server=url, layer=line.digest[:19], done=percent)
                )
        if last != "success":
            raise ollama_client.PullFailedError(f"the pull ended with {last!r}")
        _logger.info("pulled", extra=log.facts(model=name, server=url))


def _unix(text: str) -> int:
    """Return the seconds of Ollama's RFC 3339 time, which has up to nine digits of fraction; 0 if there is
    none.
    """
    try:
        return int(datetime.datetime.fromisoformat(text).timestamp())
    except ValueError:
        return 0
