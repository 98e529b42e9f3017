"""Runs jobs as the core decides: the clock, the waiting and the asking around it.

Until something has been handed on, a unit may start again on another server: generating has no side effects.
Afterwards it goes on there after what was handed on, where its job can; else a failure is an error, never a
second answer.
"""

import asyncio
import contextlib
import itertools
import logging
import secrets
import time
from collections.abc import Callable, Coroutine, Mapping, Set
from typing import Any

from modelset_proxy.dispatch import core, facts, fleet, leases, prompts, sharing, variants
from modelset_proxy.dispatch.work import Work
from modelset_proxy.engines import port
from modelset_proxy.openai import catalog
from modelset_proxy.telemetry import background, log, metrics

_logger = logging.getLogger(__name__)
_CHECK_SECONDS = 1.0
_UNLOAD_SECONDS = 10.0
_SETTLE_SECONDS = 5.0


class Dispatcher:
    """Runs the units of jobs on the servers of one engine.

    ``servers`` is looked at by this; nothing may run before it has been started.
    """

    def __init__(
        self,
        engine: port.Engine,
        servers: fleet.Fleet,
        measures: metrics.Metrics,
        clock: Callable[[], float] = time.monotonic,
        reach: sharing.Reach | None = None,
    ) -> None:
        self.engine = engine
        self.fleet = servers
        self.metrics = measures
        self.clock = clock
        self._sharing = None if reach is None else sharing.Sharing(secrets.token_hex(8), reach, self)
        self.core = core.Core(facts.Limits(), None if reach is None else self._granted)
        self._changed: set[asyncio.Event] = set()
        self._ids = itertools.count(1)
        self._works: dict[int, Work[Any]] = {}
        self._models: dict[str, catalog.Model] = {}
        self._since: dict[str, float] = {}
        self.stranded: frozenset[str] = frozenset()
        self._alarm: asyncio.TimerHandle | None = None
        self._asking: set[asyncio.Task[None]] = set()
        self._letting_go: dict[str, asyncio.Task[None]] = {}
        self._background = background.Background()
        self.leases: set[leases.Lease] = set()
        servers.seen = self._seen

    @property
    def limits(self) -> facts.Limits:
        """The bounds on what is accepted; they may be replaced."""
        return self.core.limits

    @limits.setter
    def limits(self, limits: facts.Limits) -> None:
        self.core.limits = limits
        self.decide()

    def serve(self, models: catalog.Catalog) -> None:
        """Take over which models there are."""
        now = self.clock()
        self._models = {self.engine.key(model.name): model for model in models.models}
        self._since = {key: self._since.get(key, now) for key in self._models}
        self._seen()
        for work in self._works.values():
            work.check()

    async def start(self) -> None:
        """Watch over servers that fall silent, from now on, and share slots with other proxies."""
        self._background.start("silence", self._watch)
        if self._sharing is not None:
            self._background.start("sharing", self._sharing.run)
            await self._sharing.settle(_SETTLE_SECONDS)

    async def close(self) -> None:
        """End what was asked for in the background."""
        await self._background.stop()
        if self._sharing is not None:
            await self._sharing.leave()
        if self._alarm is not None:
            self._alarm.cancel()
        for task in self._asking:
            task.cancel()
        await asyncio.gather(*self._asking, return_exceptions=True)

    def counts(self) -> dict[str, tuple[int, int]]:
        """Return how many requests run and wait, by first served name."""
        return {model.served_names[0]: self.core.counts(key) for key, model in self._models.items()}

    def demand(self) -> dict[str, facts.Demand]:
        """Return what is asked of each model now, by first served name.

        One that nobody has asked anything yet is idle since it is served.
        """
        now = self.clock()
        known = self.core.demand(now)
        return {
            model.served_names[0]: known.get(key) or facts.Demand(0, 0, 0.0, now - self._since[key])
            for key, model in self._models.items()
        }

    def feed(self) -> facts.Feed:
        """Return what is asked of this proxy, and which servers hang."""
        served = {key: model.served_names[0] for key, model in self._models.items()}
        sick = {url: served.get(model, model) for url, model in self.core.sick().items()}
        return facts.Feed(self.demand(), sick)

    def feed_of_all(self) -> facts.Feed:
        """Return what is asked of all proxies that share their slots with this one."""
        return self.feed() if self._sharing is None else self._sharing.feed

    async def change(self, seconds: float) -> None:
        """Wait until something may have changed, for so long at most."""
        changed = asyncio.Event()
        self._changed.add(changed)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await changed.wait()
        finally:
            self._changed.discard(changed)

    def shun(self, urls: Set[str]) -> None:
        """Keep away from servers that hang for other proxies."""
        self.core.shun(urls)

    def memory(self) -> facts.Memory:
        """Return what of the servers' memory this proxy uses."""
        return self.core.in_use(self.clock())

    def others(self, memory: facts.Memory) -> None:
        """Take in what other proxies use; look at the servers where that is news."""
        if self.core.others(memory):
            self._ask(self.fleet.refresh())

    def note(self) -> None:
        """Tell whoever waits for a change."""
        for changed in self._changed:
            changed.set()

    @property
    def slots(self) -> int | None:
        """How many requests of a model run at one server, of all proxies; None is no bound."""
        return self.limits.max_in_flight_per_server

    def wake_seconds(self, model: str) -> float:
        """Return how long requests wait for a server that holds a model, where there is none.

        For a model that is served no more none may ever come.
        """
        return self.limits.wake_timeout_seconds if model in self._models else 0.0

    def wants(self) -> Mapping[tuple[str, str], tuple[int, int]]:
        """Return how many slots of which servers and models are busy, and how many would be."""
        return self.core.wants()

    def state(self) -> Mapping[str, int]:
        """Count the servers known, those that answer and those that hang."""
        return {**self.core.state(), "hanging": len(self.core.sick())}

    def open(
        self,
        job: port.Job[Any],
        model: catalog.Model,
        call: port.Call,
        *,
        units: int = 1,
        prompt: prompts.Prompt | None = None,
    ) -> Work[Any]:
        """Return the work of a request, to be entered before its units are asked for, and left after."""
        prompt = prompt or prompts.Prompt()
        request = facts.Request(
            next(self._ids), self.engine.key(model.name), call.client, prompt.prefix, prompt.tokens, units
        )
        return Work(self, job, request, call)

    def enter(self, work: Work[Any]) -> None:
        """Let work wait; raises QueueFull or NeverFits."""
        self.core.arrive(self.clock(), work.request)
        self._works[work.request.id] = work
        self.decide()

    def leave(self, work: Work[Any]) -> None:
        """Forget work, which is done or not wanted any more."""
        if self._works.pop(work.request.id, None) is not None:
            self.core.leave(self.clock(), work.request)
            self.decide()

    def decide(self) -> None:
        """Carry out all that the core decides now; to be called after everything that it was told."""
        now = self.clock()
        loads = self.core.loads
        for decision in self.core.decide(now):
            if isinstance(decision, facts.Start):
                self._works[decision.request.id].deliver(decision)
            elif isinstance(decision, facts.Unload):
                self._letting_go[decision.url] = self._ask(self._unload(decision))
            else:
                self._ask(self._load(decision))
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        self._note_stranded()
        if self._sharing is not None:
            # What is loaded takes room from the others too.
            self._sharing.look(waits=self.core.waits or self.core.loads != loads)
        if self._changed:
            self.note()
        due = self.core.wake(now)
        if due is not None:
            self._alarm = asyncio.get_running_loop().call_later(max(0.0, due - now), self.decide)

    def _note_stranded(self) -> None:
        stranded = self.core.stranded()
        if stranded == self.stranded:
            return
        self.stranded = stranded
        self.fleet.hurry(wanted=bool(stranded))
        for work in self._works.values():
            work.check()

    def lease(self, start: facts.Start, call: port.Call, *, streams: bool) -> leases.Lease:
        """Note that a unit is asked for, until its lease is taken out of ``leases``."""
        lease = leases.Lease(start, call, self.clock(), streams=streams)
        self.leases.add(lease)
        return lease

    def check(self) -> None:
        """Look for servers that hang and for clients that take nothing; to be called every second."""
        now = self.clock()
        for lease in self.leases:
            if lease.moved(now):
                self.core.heard(now, lease.start.request, lease.start.unit)
            lease.drop_if_stalled(now)
        given_up = []
        hanging = set(self.core.sick())
        for decision in self.core.check(now, leases.waited_for(self.leases)):
            if isinstance(decision, facts.Try):
                self._ask(self._try(decision))
            else:
                given_up.append((decision.request, decision.unit))
        for lease in self.leases:
            if (lease.start.request, lease.start.unit) in given_up:
                lease.give_up()
        for url in self.core.sick().keys() - hanging:
            _logger.warning(
                "model server hangs, and is left alone until it answers", extra=log.facts(server=url)
            )
            self.note()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            self.check()

    async def _try(self, decision: facts.Try) -> None:
        model = self._models.get(decision.model)
        ask = self.engine.replies if decision.whole else self.engine.load
        answered = False
        if model is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.core.load_patience(decision.model, decision.url)):
                    answered = await ask(decision.url, model)
        self.core.tried(self.clock(), decision, answered=answered)
        if decision.whole and answered:
            _logger.info("model server answers again", extra=log.facts(server=decision.url))
        self.decide()

    async def settled(self, url: str) -> None:
        """Wait until a server has let go of what it was to let go of last."""
        if task := self._letting_go.get(url):
            await asyncio.wait([task])

    def _granted(self, url: str, model: str) -> int | None:
        slots = self.slots
        if slots is None or self._sharing is None:
            return slots
        return self._sharing.granted(url, model, slots)

    def _seen(self) -> None:
        pinned = {key: model.context_length for key, model in self._models.items()}
        self.core.report({url: _report(sight, pinned) for url, sight in self.fleet.sights.items()})
        for url in [url for url, task in self._letting_go.items() if task.done()]:
            del self._letting_go[url]
        self.decide()

    def _ask(self, asking: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(asking)
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)
        return task

    async def _unload(self, decision: facts.Unload) -> None:
        # Where it fails, the server lets go of what it used least when it needs the room.
        served = self._models.get(decision.model)
        name = decision.model if served is None else served.name
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_UNLOAD_SECONDS):
                await self.engine.unload(decision.url, name)

    async def _load(self, decision: facts.Load) -> None:
        began = self.clock()
        await self.settled(decision.url)
        model = self._models.get(decision.model)
        done = False
        if model is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.core.load_patience(decision.model, decision.url)):
                    done = await self.engine.load(decision.url, model)
        now = self.clock()
        self.core.loaded(now, decision.model, decision.url, now - began if done else None)
        self.decide()


def _report(sight: port.Sight | None, pinned: Mapping[str, int | None]) -> facts.Report | None:
    """Return what the core is told of a look; ``pinned`` as in ``variants.leads``."""
    if sight is None:
        return None
    return facts.Report(
        began=sight.began,
        held=frozenset(sight.held),
        loaded=sight.loaded,
        leads=variants.leads(sight.held, pinned),
        weights={key: held.size for key, held in sight.held.items()},
        files={key: held.file for key, held in sight.held.items() if held.file},
    )
