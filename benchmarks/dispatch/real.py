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
# Of each way twice, the second time in the opposite order: whether the machine gets slower or faster
# meanwhile, or warmer, then makes no difference.
_ROUNDS = 2
_REQUESTS, _MOST_SECONDS = 220, 600.0
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
    "loads": lambda result: float(result.loads),
    "median time to first token": lambda result: result.percentile(0.5),
    "p95 time to first token": lambda result: result.percentile(0.95),
    "answers a second": lambda result: len(result.waits) / result.ended,
}
_MOST_OFF = 0.25
_CALIBRATING = 8
# Small differences in time lead to other orders of requests; these many runs, a little faster or slower,
# tell what is to be expected.
_SIMULATIONS, _SPEEDS_VARY = 20, 0.1
_MOST_LOOKS, _LOOK_SECONDS = 300, 0.1

Results = dict[str, Result]
Rounds = Sequence[Sequence[workload.Arrival]]


def compared() -> Iterator[floors.Floor]:
    """All ways on the same servers, one after another, with the same requests; then once more."""
    with (
        folders.short() as folder,
        ollama.started(
            folder, copies=_SERVERS, OLLAMA_MAX_LOADED_MODELS="1", OLLAMA_NUM_PARALLEL="1"
        ) as started,
    ):
        with step.step(f"make {len(_MODELS)} models"):
            models.make_copies(started[0].url, _MODELS)
        speed, rounds, measured = asyncio.run(_measure(started))
    print(
        f"real: a load takes {speed.load:.2f} s, a request {speed.request:.2f} s and its tokens; "
        f"prompts {speed.prompt:.0f} and answers {speed.answer:.0f} tokens/s",
        flush=True,
    )
    for name, result in measured.items():
        told = ", ".join(f"{what} {of(result):.2f}" for what, of in _QUANTITIES.items())
        print(f"       {name}: {told}, seconds of loading {result.load_seconds:.1f}", flush=True)
    yield from foreseen(measured, [predict(speed, rounds, seed) for seed in range(_SIMULATIONS)])


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


def predict(speed: servers.Speed, rounds: Rounds, seed: int) -> Results:
    """Simulate all ways with servers of about such a speed."""
    chance = random.Random(seed)
    return {
        name: together([_simulated(name, speed, requests, chance) for requests in rounds])
        for name in (_OURS, *OTHERS)
    }


def together(results: Sequence[Result]) -> Result:
    """Return what came of all rounds of one way."""
    return Result(
        [wait for one in results for wait in one.waits],
        sum(one.load_seconds for one in results),
        sum(one.ended for one in results),
        sum(one.loads for one in results),
    )


def _simulated(
    name: str, speed: servers.Speed, requests: Sequence[workload.Arrival], chance: random.Random
) -> Result:
    fleet = [
        servers.Server(str(number), memory_slots=1, parallel=1, speed=_about(speed, chance), chance=chance)
        for number in range(_SERVERS)
    ]
    if name == _OURS:
        way: ways.Way = ways.Ours(_LIMITS, _MODELS)
    else:
        way = OTHERS[name]([server.name for server in fleet])
    return simulator.Simulation(fleet, way).run(requests, _CLIENTS)


def _about(speed: servers.Speed, chance: random.Random) -> servers.Speed:
    def vary(value: float) -> float:
        return value * chance.uniform(1 - _SPEEDS_VARY, 1 + _SPEEDS_VARY)

    return dataclasses.replace(
        speed,
        request=vary(speed.request),
        load=vary(speed.load),
        prompt=vary(speed.prompt),
        answer=vary(speed.answer),
    )


def affordable(speed: servers.Speed) -> Rounds:
    """Return as many requests as all ways together get done in the time there is."""
    rounds = _rounds(_REQUESTS)
    seconds = sum(result.ended for result in predict(speed, rounds, seed=0).values())
    return rounds if seconds <= _MOST_SECONDS else _rounds(int(_REQUESTS * _MOST_SECONDS / seconds))


def _rounds(requests: int) -> Rounds:
    return [workloads(requests, seed) for seed in range(_ROUNDS)]


async def _measure(started: Sequence[contenders.Upstream]) -> tuple[servers.Speed, Rounds, Results]:
    urls = [one.url for one in started]
    asking = engine.Ollama()
    known = {
        name: catalog.Model(
            name=name, served_names=(name,), kind=catalog.CHAT, capabilities=frozenset({"completion"})
        )
        for name in _MODELS
    }
    names = [*OTHERS, _OURS]
    found: dict[str, list[Result]] = {name: [] for name in names}
    await asking.start()
    try:
        answers = await _calibrate(asking, urls, known)
        rounds = affordable(calibration.speed(answers))
        for requests in rounds:
            for name in names:
                await _empty(asking, urls, known)
                before = _loads(started)
                with step.step(f"{len(requests)} requests: {name}"):
                    result = await _run(name, asking, urls, known, requests)
                after = _loads(started)
                result.loads, result.load_seconds = len(after) - len(before), sum(after) - sum(before)
                found[name].append(result)
            names.reverse()
        answers += await _calibrate(asking, urls, known)
    finally:
        await asking.close()
    return calibration.speed(answers), rounds, {name: together(those) for name, those in found.items()}


async def _calibrate(asking: port.Engine, urls: Sequence[str], known: live.Models) -> list[calibration.Timed]:
    with step.step("measure loading, reading and answering"):
        await _empty(asking, urls, known)
        return await calibration.timed(asking, urls, known, workloads(_CALIBRATING, seed=5))


async def _run(
    name: str,
    asking: port.Engine,
    urls: Sequence[str],
    known: live.Models,
    requests: Sequence[workload.Arrival],
) -> Result:
    if name == _OURS:
        way = live.ours(asking, urls, known, _LIMITS)
    else:
        way = live.other(asking, urls, known, OTHERS[name](urls))
    async with way as chosen:
        return await live.run(chosen, asking, known, requests, _CLIENTS)


def _loads(started: Sequence[contenders.Upstream]) -> list[float]:
    return [seconds for one in started for seconds in ollama.loads(one.group.log.read_text())]


async def _empty(asking: port.Engine, urls: Sequence[str], known: live.Models) -> None:
    """Have nothing in memory, as at the beginning."""
    for url in urls:
        for model in known.values():
            await asking.unload(url, model.name)
        for _ in range(_MOST_LOOKS):
            if not (await asking.look(url)).loaded:
                break
            await asyncio.sleep(_LOOK_SECONDS)
        else:
            raise step.StepFailed(f"{url} does not let go of its models")
