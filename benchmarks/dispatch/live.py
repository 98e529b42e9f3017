"""Runs a workload on real servers, through the proxy's engine: ours, or another way of choosing."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from typing import Protocol

from benchmarks.dispatch import servers, simulator, ways, workload
from benchmarks.dispatch.result import Result
from modelset_proxy.dispatch import dispatcher, facts, fleet, prompts
from modelset_proxy.engines import port
from modelset_proxy.openai import catalog, pieces, requests
from modelset_proxy.telemetry import metrics

_WORDS = ("river", "stone", "lantern", "copper", "meadow", "winter", "harbour", "signal", "cotton", "bridge")

Read = list[pieces.Piece]
Models = Mapping[str, catalog.Model]


class Asking(Protocol):
    """How requests get to servers."""

    def answer(self, request: facts.Request, job: port.Job[Read], /) -> AsyncGenerator[Read, None]:
        """Yield the answer to a request, wherever it comes from."""


class Dispatching:
    """The proxy's own dispatcher, as it runs."""

    def __init__(self, dispatch: dispatcher.Dispatcher, models: Models) -> None:
        self._dispatch = dispatch
        self._models = models

    async def answer(self, request: facts.Request, job: port.Job[Read]) -> AsyncGenerator[Read, None]:
        """Have it dispatched."""
        call = port.Call(request_id=str(request.id), served=request.model, client=request.client)
        prompt = prompts.Prompt(request.prefix, request.prompt_tokens)
        work = self._dispatch.open(job, self._models[request.model], call, prompt=prompt)
        async with work, contextlib.aclosing(work.answer(0)) as answer:
            async for read in answer:
                yield read


class Choosing:
    """A way as the simulator runs it, of those that leave it to the servers what is in memory."""

    def __init__(self, way: ways.Way) -> None:
        self._way = way
        self._turns: dict[int, asyncio.Future[str]] = {}

    async def answer(self, request: facts.Request, job: port.Job[Read]) -> AsyncGenerator[Read, None]:
        """Ask the server that is chosen, when it is."""
        turn = self._turns[request.id] = asyncio.get_running_loop().create_future()
        self._carry_out(self._way.arrive(time.monotonic(), request))
        url = await turn
        try:
            async with contextlib.aclosing(job.ask(url, 0, port.Attempt("", url))) as answer:
                async for read in answer:
                    yield read
        finally:
            self._carry_out(self._way.ended(time.monotonic(), servers.Job(request, 0, 0)))

    def _carry_out(self, decisions: Iterable[facts.Decision]) -> None:
        for decision in decisions:
            if not isinstance(decision, facts.Start):
                continue
            turn = self._turns.pop(decision.request.id)
            # When a run is ended early, nobody waits any more.
            if not turn.done():
                turn.set_result(decision.url)


@contextlib.asynccontextmanager
async def ours(
    engine: port.Engine, urls: Sequence[str], models: Models, limits: facts.Limits
) -> AsyncIterator[Asking]:
    """Have the proxy's dispatcher look after servers."""
    seen = fleet.Fleet(urls, engine, interval=simulator.LOOK_SECONDS)
    dispatch = dispatcher.Dispatcher(engine, seen, metrics.Nothing())
    dispatch.limits = limits
    dispatch.serve(catalog.Catalog(models.values()))
    await seen.start()
    await dispatch.start()
    try:
        yield Dispatching(dispatch, models)
    finally:
        await dispatch.close()
        await seen.stop()


@contextlib.asynccontextmanager
async def other(
    engine: port.Engine, urls: Sequence[str], models: Models, way: ways.Way
) -> AsyncIterator[Asking]:
    """Tell a way what is in the memory of servers."""
    names = {engine.key(model.name): name for name, model in models.items()}

    def told() -> None:
        loaded = {
            url: {names[key] for key in sight.loaded if key in names}
            for url, sight in seen.sights.items()
            if sight is not None
        }
        way.look(time.monotonic(), loaded)

    seen = fleet.Fleet(urls, engine, interval=simulator.LOOK_SECONDS)
    seen.seen = told
    await seen.start()
    try:
        yield Choosing(way)
    finally:
        await seen.stop()


async def run(
    asking: Asking,
    engine: port.Engine,
    models: Models,
    arrivals: Iterable[workload.Arrival],
    clients: int,
) -> Result:
    """Run to the end: so many clients, who each send the next request when they have been answered."""
    result = Result()
    upcoming = iter(arrivals)
    began = time.monotonic()

    async def client() -> None:
        for arrival in upcoming:
            asked = time.monotonic()
            first = 0.0
            job = await translated(engine, models[arrival.request.model], arrival)
            async with contextlib.aclosing(asking.answer(arrival.request, job)) as answer:
                async for _ in answer:
                    first = first or time.monotonic()
            result.waits.append(first - asked)
            result.ended = time.monotonic() - began

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())
    return result


async def translated(engine: port.Engine, model: catalog.Model, arrival: workload.Arrival) -> port.Job[Read]:
    """Return a request as the engine asks it."""
    request = requests.CompletionRequest(
        model=model.name,
        prompt=prompt(arrival),
        max_tokens=arrival.answer_tokens,
        temperature=0,
        stream=True,
    )
    return await engine.complete(request, model)


def prompt(arrival: workload.Arrival) -> str:
    """Return words of about a token each, to be gone on with."""
    chance = random.Random(arrival.request.id)
    return " ".join(chance.choice(_WORDS) for _ in range(arrival.request.prompt_tokens))
