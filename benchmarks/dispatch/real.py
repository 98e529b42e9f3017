"""Real Ollamas, fewer and smaller: ours beside other ways, and whether the simulator foresaw it."""

import asyncio
import dataclasses
import random
import statistics
from collections.abc import Callable, Iterator, Sequence

from benchmarks import contenders, floors, folders, models, ollama
from benchmarks.dispatch import calibration, live, servers, simulator, ways, workload
from benchmarks.dispatch.result import Result
from modelset_proxy.dispatch import facts
from modelset_proxy.engines import port
from modelset_proxy.engines.ollama import engine
from modelset_proxy.openai import catalog
from stack import step

_SERVERS = 2
_MODELS = workload.names(4)
_CLIENTS = 8
_REQUESTS, _MOST_SECONDS = 300, 480.0
# A small model is loaded in half a second: short requests, as of classifiers, for it to matter.
_PROMPT, _ANSWER = 24, 6
_LIMITS = facts.Limits(max_in_flight_per_server=1, max_loaded_per_server=1)
_OURS = "ours"
OTHERS: dict[str, Callable[[Sequence[str]], ways.Way]] = {
    "round robin": ways.RoundRobin,
    "least connections": ways.LeastConnections,
    "the former router": lambda urls: ways.Former(urls, parallel=1),
}
_QUANTITIES: dict[str, Callable[[Result], float]] = {
    "seconds of loading": lambda result: result.load_seconds,
    "median time to first token": lambda result: result.percentile(0.5),
    "p95 time to first token": lambda result: result.percentile(0.95),
    "answers a second": lambda result: len(result.waits) / result.ended,
}
_MOST_OFF = 0.25
_CALIBRATING = 12
# Small differences in time lead to other orders of requests; these many runs, a little faster or slower,
# tell what is to be expected.
_SIMULATIONS, _SPEEDS_VARY = 20, 0.1
_MOST_LOOKS, _LOOK_SECONDS = 300, 0.1

Results = dict[str, Result]


def compared() -> Iterator[floors.Floor]:
    """All ways on the same servers, one after another, with the same requests."""
    with (
        folders.short() as folder,
        ollama.started(
            folder, copies=_SERVERS, OLLAMA_MAX_LOADED_MODELS="1", OLLAMA_NUM_PARALLEL="1"
        ) as started,
    ):
        with step.step(f"make {len(_MODELS)} models"):
            models.make_copies(started[0].url, _MODELS)
        speed, requests, measured = asyncio.run(_measure(started))
    print(
        f"real: a load takes {speed.load:.2f} s, a request {speed.request:.2f} s and its tokens; "
        f"prompts {speed.prompt:.0f} and answers {speed.answer:.0f} tokens/s",
        flush=True,
    )
    for name, result in measured.items():
        print(f"       {name}: " + ", ".join(f"{what} {of(result):.2f}" for what, of in _QUANTITIES.items()))
    yield from foreseen(measured, [predict(speed, requests, seed) for seed in range(_SIMULATIONS)])


def workloads(requests: int, seed: int) -> list[workload.Arrival]:
    """Return requests that have nothing in common, for as many models as there are."""
    arrivals = workload.shifting_popularity(
        models=len(_MODELS),
        requests=requests,
        a_second=1.0,
        exponent=1.0,
        seed=seed,
        prompt=_PROMPT,
        answer=_ANSWER,
    )
    return [
        dataclasses.replace(
            one, request=facts.Request(one.request.id, one.request.model, "", (), one.request.prompt_tokens)
        )
        for one in arrivals
    ]


def foreseen(measured: Results, predicted: Sequence[Results]) -> Iterator[floors.Floor]:
    """Compare ours with each other way, and what was measured of that with what was predicted."""
    for name in OTHERS:
        for what, quantity in _QUANTITIES.items():
            found = quantity(measured[_OURS]) / quantity(measured[name])
            expected = statistics.mean(quantity(one[_OURS]) for one in predicted) / statistics.mean(
                quantity(one[name]) for one in predicted
            )
            yield floors.Floor(
                f"{what}, ours of {name}: how far off the simulator was",
                abs(expected / found - 1),
                _MOST_OFF,
                note=f"measured {found:.2f}, predicted {expected:.2f}",
            )


def predict(speed: servers.Speed, requests: Sequence[workload.Arrival], seed: int) -> Results:
    """Simulate all ways with servers of about such a speed."""
    chance = random.Random(seed)
    results = {}
    for name in (_OURS, *OTHERS):
        fleet = [
            servers.Server(str(number), memory_slots=1, parallel=1, speed=_about(speed, chance))
            for number in range(_SERVERS)
        ]
        urls = [server.name for server in fleet]
        if name == _OURS:
            way: ways.Way = ways.Ours(_LIMITS, _MODELS)
        else:
            way = OTHERS[name](urls)
        results[name] = simulator.Simulation(fleet, way).run(requests, _CLIENTS)
    return results


def _about(speed: servers.Speed, chance: random.Random) -> servers.Speed:
    def vary(value: float) -> float:
        return value * chance.uniform(1 - _SPEEDS_VARY, 1 + _SPEEDS_VARY)

    return servers.Speed(vary(speed.request), vary(speed.load), vary(speed.prompt), vary(speed.answer))


def affordable(speed: servers.Speed) -> list[workload.Arrival]:
    """Return as many requests as all ways together get done in the time there is."""
    requests = workloads(_REQUESTS, seed=4)
    seconds = sum(result.ended for result in predict(speed, requests, seed=0).values())
    if seconds <= _MOST_SECONDS:
        return requests
    return workloads(int(_REQUESTS * _MOST_SECONDS / seconds), seed=4)


async def _measure(
    started: Sequence[contenders.Upstream],
) -> tuple[servers.Speed, Sequence[workload.Arrival], Results]:
    urls = [one.url for one in started]
    asking = engine.Ollama()
    known = {
        name: catalog.Model(
            name=name, served_names=(name,), kind=catalog.CHAT, capabilities=frozenset({"completion"})
        )
        for name in _MODELS
    }
    results = {}
    await asking.start()
    try:
        with step.step("measure loading, reading and answering"):
            sizes = workloads(_CALIBRATING, seed=5)
            speed = calibration.speed(await calibration.timed(asking, urls, known, sizes))
        requests = affordable(speed)
        for name in (*OTHERS, _OURS):
            await _empty(asking, urls, known)
            before = _load_seconds(started)
            with step.step(f"{len(requests)} requests: {name}"):
                if name == _OURS:
                    way = live.ours(asking, urls, known, _LIMITS)
                else:
                    way = live.other(asking, urls, known, OTHERS[name](urls))
                async with way as chosen:
                    results[name] = await live.run(chosen, asking, known, requests, _CLIENTS)
            results[name].load_seconds = _load_seconds(started) - before
    finally:
        await asking.close()
    return speed, requests, results


def _load_seconds(started: Sequence[contenders.Upstream]) -> float:
    return sum(sum(ollama.loads(one.group.log.read_text())) for one in started)


async def _empty(asking: port.Engine, urls: Sequence[str], known: live.Models) -> None:
    """Have nothing in memory, as at the beginning."""
    for url in urls:
        for model in known.values():
            await asking.unload(url, model)
        for _ in range(_MOST_LOOKS):
            if not (await asking.look(url)).loaded:
                break
            await asyncio.sleep(_LOOK_SECONDS)
        else:
            raise step.StepFailed(f"{url} does not let go of its models")
