"""What is simulated, and the floors that it has to reach."""

import dataclasses
from collections.abc import Iterable, Iterator

import msgspec

from benchmarks import floors
from benchmarks.dispatch import servers, simulator, ways, workload
from modelset_proxy.dispatch import facts

_PARALLEL = 4
# As much as least connections can just serve; with more it falls behind without end.
_REQUESTS_A_SECOND = 1.0
_SWITCH_SECONDS = 30.0
_BUSY_FROM, _BUSY_TO = 60.0, 600.0


def _fleet(count: int, memory_slots: int) -> list[servers.Server]:
    return [
        servers.Server(
            f"server-{number}", memory_slots=memory_slots, parallel=_PARALLEL, speed=servers.Speed()
        )
        for number in range(count)
    ]


def _ours(memory_slots: int, models: Iterable[str]) -> ways.Ours:
    limits = facts.Limits(
        max_in_flight_per_server=_PARALLEL,
        max_loaded_per_server=memory_slots,
        max_queued_requests=10**9,
        switch_seconds=_SWITCH_SECONDS,
    )
    return ways.Ours(limits, models)


def memory(requests: int) -> Iterator[floors.Floor]:
    """12 models on 3 servers that hold 2 each, popularity by Zipf's law that shifts half-way."""
    arrivals = list(
        workload.shifting_popularity(
            models=12, requests=requests, a_second=_REQUESTS_A_SECOND, exponent=1.0, seed=1
        )
    )
    models = {arrival.request.model for arrival in arrivals}
    best = workload.belady_loads(arrivals, slots=6) * servers.Speed().load
    fleet = _fleet(3, 2)
    ours = simulator.Simulation(fleet, _ours(2, models)).run(arrivals)
    fleet = _fleet(3, 2)
    least = simulator.Simulation(fleet, ways.LeastConnections([one.name for one in fleet])).run(arrivals)
    fleet = _fleet(3, 2)
    turns = simulator.Simulation(fleet, ways.RoundRobin([one.name for one in fleet])).run(arrivals)
    yield floors.Floor(
        "simulated: seconds of loading, of Belady's bound",
        ours.load_seconds / best,
        1.3,
        note=f"aim 1.15; least connections {least.load_seconds / best:.2f}, "
        f"round robin {turns.load_seconds / best:.2f}",
    )
    yield floors.Floor(
        "simulated: seconds of loading, of least connections with LRU",
        ours.load_seconds / least.load_seconds,
        1 / 3,
        note=f"{ours.load_seconds:,.0f} s and {least.load_seconds:,.0f} s",
    )
    yield floors.Floor(
        "simulated: p95 time to first token, of least connections with LRU",
        ours.percentile(0.95) / least.percentile(0.95),
        0.5,
        note=f"{ours.percentile(0.95):.1f} s and {least.percentile(0.95):.1f} s; "
        f"median {ours.percentile(0.5):.2f} s and {least.percentile(0.5):.2f} s",
    )
    # Once it is due, a switch waits for the answers under way and takes a load.
    longest_answer = max(arrival.answer_tokens for arrival in arrivals) / servers.Speed().answer
    cap = _SWITCH_SECONDS + longest_answer + servers.Speed().load
    yield floors.Floor(
        "simulated: longest wait for a first token, in caps",
        max(ours.waits) / cap,
        1.0,
        note=f"cap {cap:.0f} s",
    )


def fairness() -> Iterator[floors.Floor]:
    """One client with 16 times the requests of seven others, who send more than their share as well."""
    share = 0.8
    arrivals = list(
        workload.conversations(
            clients=[16 * share, *[share] * 7], seconds=_BUSY_TO, system_tokens=640, seed=3
        )
    )
    anonymous = [
        dataclasses.replace(one, request=msgspec.structs.replace(one.request, client="")) for one in arrivals
    ]
    results = []
    for those in (arrivals, anonymous):
        fleet = _fleet(2, 1)
        results.append(simulator.Simulation(fleet, _ours(1, {"model"})).run(those))
    fair, unfair = results
    tokens = [
        sum(count for at, count in served if _BUSY_FROM <= at <= _BUSY_TO) for served in fair.served.values()
    ]
    yield floors.Floor(
        "simulated: tokens of the client served most, of the one served least", max(tokens) / min(tokens), 1.1
    )
    hits = [1 - result.read_tokens / result.prompt_tokens for result in (fair, unfair)]
    yield floors.Floor(
        "simulated: prompt tokens found in a slot, of those without fairness",
        hits[0] / hits[1],
        0.95,
        at_least=True,
        note=f"{hits[0]:.0%} and {hits[1]:.0%}",
    )
