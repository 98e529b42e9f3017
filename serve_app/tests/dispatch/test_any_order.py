"""Whatever happens in whatever order: bounds hold, nothing is lost, and all are answered in the end."""

import random

import pytest

from modelset_proxy.dispatch import facts
from modelset_proxy.engines import port
from serve_app.tests.dispatch.bench import Bench

URLS = ("s1", "s2", "s3")
MODELS = ("a", "b", "c", "d")
SLOTS = 2
LEADS = {"a": "a", "b": "a"}
STEPS = 120


class Chaos:
    """Clients that come and go, and servers that load, answer, fail, hang and are restarted at random."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)  # noqa: S311
        self.bench = Bench(
            dict.fromkeys(URLS, ""),
            max_in_flight_per_server=SLOTS,
            max_loaded_per_server=self.chance.choice([None, 1, 2]),
            memory_bytes_per_server=self.chance.choice([None, 2**29]),
            max_queued_requests=self.chance.choice([3, 1000]),
            switch_seconds=5.0,
        )
        self.requests: dict[int, facts.Request] = {}
        self.unstarted: dict[int, int] = {}
        self.running: dict[tuple[int, int], tuple[facts.Request, str]] = {}
        self.loads: list[facts.Load] = []
        self.tries: list[facts.Try] = []
        self.memory: dict[str, set[str]] = {url: set() for url in URLS}
        self.leads: dict[str, dict[str, str]] = {url: {} for url in URLS}
        self.look()

    @property
    def now(self) -> float:
        return self.bench.now

    def step(self) -> None:
        self.bench.now += self.chance.choice([0.0, 0.1, 1.0, 4.0])
        chosen = self.chance.choice(
            [self.come, self.come, self.end, self.end, self.fail, self.go, self.look, self.load, self.check]
        )
        chosen()
        self.decide()
        self.holds()

    def come(self) -> None:
        number = len(self.requests) + self.chance.randrange(10**6)
        request = facts.Request(
            number,
            self.chance.choice(MODELS),
            self.chance.choice("xyz"),
            (hash(self.chance.randrange(3)),),
            64,
            self.chance.choice([1, 1, 3]),
        )
        if number in self.requests:
            return
        try:
            self.bench.core.arrive(self.now, request)
        except facts.QueueFull:
            return
        self.requests[number] = request
        self.unstarted[number] = request.units

    def end(self) -> None:
        if self.running:
            key = self.chance.choice(list(self.running))
            request, url = self.running.pop(key)
            self.memory[url].add(request.model)
            outcome = port.Outcome(self.chance.choice([0.0, 3.0]), 0.1, 64, 10)
            self.bench.core.ended(self.now, request, key[1], outcome)
            self.forget_if_done(request)

    def fail(self) -> None:
        if self.running:
            key = self.chance.choice(list(self.running))
            request, _ = self.running.pop(key)
            self.bench.core.failed(self.now, request, key[1], absent=self.chance.random() < 0.3)
            self.unstarted[request.id] += 1
            if not self.bench.core.untried(request):
                self.bench.core.retry(request)

    def go(self) -> None:
        if self.requests:
            self.leave(self.chance.choice(list(self.requests.values())))

    def leave(self, request: facts.Request) -> None:
        self.bench.core.leave(self.now, request)
        del self.requests[request.id], self.unstarted[request.id]
        self.running = {key: found for key, found in self.running.items() if key[0] != request.id}

    def forget_if_done(self, request: facts.Request) -> None:
        if not self.unstarted[request.id] and not any(key[0] == request.id for key in self.running):
            self.leave(request)

    def look(self, *, well: bool = False) -> None:
        reports: dict[str, facts.Report | None] = {}
        for url in URLS:
            kind = 1.0 if well else self.chance.random()
            if kind < 0.05:
                self.memory[url].clear()
                continue
            if kind < 0.1:
                reports[url] = None
                continue
            if kind < 0.2:
                self.leads[url] = {} if self.leads[url] else LEADS
            began = self.now - (0 if well else self.chance.choice([0.0, 2.0]))
            loaded = dict.fromkeys(self.memory[url] | {"unserved"}, 2**28)
            reports[url] = facts.Report(began, frozenset(MODELS), loaded, self.leads[url])
        self.bench.core.report(reports)

    def load(self) -> None:
        if self.loads:
            load = self.loads.pop(self.chance.randrange(len(self.loads)))
            self.bench.core.loaded(self.now, load.model, load.url, self.chance.choice([None, 2.0]))

    def check(self) -> None:
        if self.tries:
            self.bench.core.tried(self.now, self.tries.pop(), answered=self.chance.random() < 0.7)
        waited = {(url, request.model): True for request, url in self.running.values()}
        self.take(self.bench.core.check(self.now, waited))

    def take(self, decisions: list[facts.Try | facts.GiveUp]) -> None:
        for decision in decisions:
            if isinstance(decision, facts.Try):
                self.tries.append(decision)
            else:
                request, _ = self.running.pop((decision.request.id, decision.unit))
                self.bench.core.failed(self.now, request, decision.unit)
                self.unstarted[request.id] += 1
                if not self.bench.core.untried(request):
                    self.bench.core.retry(request)

    def decide(self) -> None:
        for decision in self.bench.decide():
            match decision:
                case facts.Start(request, unit, url):
                    assert (request.id, unit) not in self.running
                    assert request.id in self.requests
                    self.running[request.id, unit] = request, url
                    self.unstarted[request.id] -= 1
                case facts.Unload(model, url):
                    self.memory[url].discard(model)
                case facts.Load():
                    self.loads.append(decision)

    def holds(self) -> None:
        """Check what is always true."""
        core, state = self.bench.core, self.bench.core._state
        for server in state.servers.values():
            for copy in server.copies.values():
                here = [running for running in core._running.values() if running.copy is copy]
                assert copy.running == len(here)
        for model in MODELS:
            running = sum(request.model == model for request, _ in self.running.values())
            waiting = sum(
                self.unstarted[number] > 0 and request.model == model
                for number, request in self.requests.items()
            )
            assert core.counts(model) == (running, waiting)
            if waiting:
                assert not any(state.takes(copy, self.now) for copy in state.copies(model))

    def settle(self) -> None:
        """Have all servers be well and answer: everybody is served."""
        for _ in range(400):
            if not self.requests:
                break
            self.bench.now += 0.5
            self.look(well=True)
            while self.tries:
                self.bench.core.tried(self.now, self.tries.pop(), answered=True)
            self.take(self.bench.core.check(self.now, {}))
            self.decide()
            for load in self.loads:
                self.bench.core.loaded(self.now, load.model, load.url, 1.0)
            self.loads.clear()
            if self.running:
                self.end()
            self.decide()
            self.holds()
        assert not self.requests
        state = self.bench.core._state
        assert not self.bench.core.waits
        assert not any(copy.running for server in state.servers.values() for copy in server.copies.values())
        assert not any(lane.running or lane.clients for lane in state.lanes.values())


@pytest.mark.parametrize("seed", range(20))
def test_all_are_answered_and_no_bound_is_broken(seed: int) -> None:
    chaos = Chaos(seed)
    for _ in range(STEPS):
        chaos.step()
    chaos.settle()


@pytest.mark.parametrize("seed", range(20))
def test_where_nothing_fails_no_runner_has_more_than_its_slots(seed: int) -> None:
    chaos = Chaos(seed)
    chaos.leads = dict.fromkeys(URLS, LEADS)
    chaos.look(well=True)
    for _ in range(STEPS):
        chaos.bench.now += chaos.chance.random()
        chaos.chance.choice([chaos.come, chaos.come, chaos.end, chaos.load])()
        chaos.decide()
        for server in chaos.bench.core._state.servers.values():
            assert all(copy.running <= SLOTS for copy in server.copies.values())
        most = chaos.bench.core.limits.max_loaded_per_server
        if most is not None:
            assert all(len(one.copies) <= most for one in chaos.bench.core._state.servers.values())
