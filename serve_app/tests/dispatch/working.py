"""A dispatcher, with an engine and servers that do as a test says, in simulated time."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from typing import Any

from modelset_proxy.dispatch import board, dispatcher, facts
from modelset_proxy.engines import port
from modelset_proxy.openai import catalog, errors
from modelset_proxy.telemetry import metrics

MODEL = catalog.Model(name="a", served_names=("first", "second"), kind=catalog.CHAT)
OTHER = catalog.Model(name="b", served_names=("other",), kind=catalog.CHAT)
Step = str | float | Exception


def failing(code: str = "gone", **more: bool) -> port.ServerFailure:
    return port.ServerFailure(errors.unavailable(code, code=code), code, **more)


class Engine:
    """Loads and lets go in so many seconds; keeps what it was asked for, and when."""

    def __init__(self) -> None:
        self.seconds = 1.0
        self.answers = True
        self.asked: list[tuple[float, str, str, str]] = []

    def key(self, name: str) -> str:
        return name.lower()

    async def _do(self, what: str, url: str, name: str) -> bool:
        self.asked.append((asyncio.get_running_loop().time(), what, url, name))
        await asyncio.sleep(self.seconds)
        return self.answers

    async def load(self, url: str, model: catalog.Model) -> bool:
        return await self._do("load", url, model.name)

    async def replies(self, url: str, model: catalog.Model) -> bool:
        return await self._do("replies", url, model.name)

    async def unload(self, url: str, name: str) -> None:
        await self._do("unload", url, name)


class Job:
    """Answers with the steps of its server: words, seconds to wait, and failures."""

    def __init__(
        self, steps: Mapping[str, list[Step]], *, goes_on: bool = False, load_seconds: float = 0.0
    ) -> None:
        self.streams = True
        self.steps = steps
        self.asked: list[tuple[str, int, str]] = []
        self.closed = 0
        self._goes_on = goes_on
        self._load_seconds = load_seconds

    async def check(self) -> None:
        pass

    def goes_on(self, told: port.Told) -> bool:
        return self._goes_on

    async def ask(self, url: str, unit: int, attempt: port.Attempt) -> AsyncGenerator[str, None]:
        self.asked.append((url, unit, attempt.told.text))
        try:
            for step in self.steps[url]:
                if isinstance(step, Exception):
                    raise step
                if isinstance(step, float):
                    await asyncio.sleep(step)
                    continue
                attempt.told.texts.append(step)
                yield step
            attempt.outcome = port.Outcome(
                load_seconds=self._load_seconds, answer_tokens=len(self.steps[url])
            )
        finally:
            self.closed += 1


class Counted(metrics.Nothing):
    """Keeps what was counted."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, ...]] = []

    def upstream_failure(self, model: str, reason: str) -> None:
        self.seen.append(("failure", model, reason))

    def upstream_retry(self, model: str) -> None:
        self.seen.append(("retry", model))

    def stream_continued(self, model: str) -> None:
        self.seen.append(("continued", model))


class Servers:
    """Stands for the fleet; ``refreshed`` counts how often a look was asked for."""

    def __init__(self) -> None:
        self.seen: Callable[[], None]
        self.sights: dict[str, port.Sight | None] = {}
        self.refreshed = 0
        self.hurried: list[bool] = []
        self.then: Callable[[], None] = lambda: None

    async def refresh(self) -> None:
        self.refreshed += 1
        self.then()

    def hurry(self, *, wanted: bool) -> None:
        self.hurried.append(wanted)


class Bench:
    """A dispatcher before servers that hold all models, and have loaded what is said."""

    def __init__(self, reach: board.Board | None = None, **loaded: str) -> None:
        loop = asyncio.get_running_loop()
        self.engine, self.servers, self.counted = Engine(), Servers(), Counted()
        self.dispatch = dispatcher.Dispatcher(
            self.engine,  # type: ignore[arg-type]
            self.servers,  # type: ignore[arg-type]
            self.counted,
            clock=lambda: 100.0 + loop.time(),
            reach=reach,
        )
        self.dispatch.limits = facts.Limits(wake_timeout_seconds=0)
        self.dispatch.serve(catalog.Catalog([MODEL, OTHER]))
        self.loaded = loaded
        self.look()

    def look(self, held: str = "ab", **unlike: port.Sight | None) -> None:
        now = self.dispatch.clock()
        on_disk = {name: port.Held(name) for name in held}
        sights = {url: port.Sight(now, on_disk, dict.fromkeys(of, 0)) for url, of in self.loaded.items()}
        self.servers.sights = {**sights, **unlike}
        self.servers.seen()

    def limit(self, **limits: Any) -> None:
        bounds = {"max_in_flight_per_server": 1, "wake_timeout_seconds": 0, **limits}
        self.dispatch.limits = facts.Limits(**bounds)

    async def ask(self, job: Job, model: catalog.Model = MODEL, **more: Any) -> tuple[list[str], port.Call]:
        call = port.Call("req_1", model.served_names[0], **more)
        async with self.dispatch.open(job, model, call) as work:
            return [item async for item in work.answer(0)], call


@contextlib.asynccontextmanager
async def refused(code: str, status: int = 503) -> AsyncIterator[list[errors.ApiError]]:
    found: list[errors.ApiError] = []
    try:
        yield found
    except errors.ApiError as error:
        found.append(error)
    assert [(error.status, error.code) for error in found] == [(status, code)]
