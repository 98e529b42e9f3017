"""Decides how many requests run and where. Pure: it is told what happens and when, and says what to do.

The same code runs in the proxy and in the simulator of ``benchmarks/dispatch``. After everything it is told,
``decide`` is asked for all that can be decided now, and ``wake`` for when time alone will change that.
"""

import functools
import itertools
import math
from collections.abc import Callable, Mapping, Set

from modelset_proxy.dispatch import facts, fairness, growth, memory, silence
from modelset_proxy.dispatch.state import Lane, State
from modelset_proxy.engines import port

_LONGEST_AVOIDED_SECONDS = 30.0
# A slot whose prompt would have to be read again is left alone while another one is this little busier.
_CROWD_SECONDS = 0.02
# No server has more slots for a model than this many requests could fill.
_MOST_WANTED = 256


class _Running:
    """One unit at one slot, where the share ``unread`` of its prompt was still to be read."""

    __slots__ = ("charged", "copy", "slot", "started", "unread", "waiting")

    def __init__(
        self, waiting: fairness.Waiting, copy: memory.Copy, slot: memory.Slot, now: float, unread: float
    ) -> None:
        self.waiting = waiting
        self.copy = copy
        self.slot = slot
        self.started = now
        self.charged = 0
        self.unread = unread


class Core:
    """Knows requests, servers and what is in memory; ``granted`` is as in ``state.State``."""

    def __init__(self, limits: facts.Limits, granted: Callable[[str, str], int | None] | None = None) -> None:
        self._state = State(limits, granted)
        self._waiting: dict[int, fairness.Waiting] = {}
        self._running: dict[tuple[int, int], _Running] = {}

    @property
    def limits(self) -> facts.Limits:
        """The bounds; they may be replaced at any time."""
        return self._state.limits

    @limits.setter
    def limits(self, limits: facts.Limits) -> None:
        self._state.limits = limits

    # ---- what it is told ----

    def report(self, reports: Mapping[str, facts.Report | None]) -> None:
        """Take in looks at all servers; None is for one that did not answer."""
        for url in self._state.servers.keys() - reports.keys():
            self._gone(url)
        for url, report in reports.items():
            server = self._state.servers.get(url)
            if server is None:
                server = self._state.servers[url] = memory.Server(url)
            server.reachable = report is not None
            if report is not None:
                server.held = report.held
                server.files = report.files
                self._regroup(server, report.leads)
        self._state.regroup()
        for url, report in reports.items():
            if report is not None:
                self._correct(self._state.servers[url], report)
        self._state.forget()

    def arrive(self, now: float, request: facts.Request) -> None:
        """Let a request wait. Raises QueueFull or NeverFits, and then it does not."""
        lane = self._state.lane(request.model)
        self._check_fits(lane)
        # Those of them for whom there is a slot do not wait, and neither would this one.
        if lane.line:
            if lane.line.length >= self._state.limits.max_queued_requests:
                raise facts.QueueFull(client=False)
            each = self._state.limits.max_queued_per_client
            if each is not None and lane.line.of_client(request.client) >= each:
                raise facts.QueueFull(client=True)
        elif not self._state.limits.max_queued_requests and not self._has_place(lane, now):
            raise facts.QueueFull(client=False)
        lane.known.rate.arrive(now)
        waiting = fairness.Waiting(request, now)
        self._waiting[request.id] = waiting
        lane.line.append(waiting, active=request.client in lane.clients)
        lane.clients[request.client] = lane.clients.get(request.client, 0) + 1
        self._state.queued[lane.model] = lane

    def leave(self, now: float, request: facts.Request) -> None:
        """Forget a request, whatever of it waits or runs: it is done, or nobody wants it any more."""
        lane = self._state.lanes[request.model]
        waiting = self._waiting.pop(request.id)
        if waiting.units:
            self._remove(lane, waiting)
        for unit in range(request.units):
            running = self._running.pop((request.id, unit), None)
            if running is not None:
                self._free(lane, running)
        lane.clients[request.client] -= 1
        if not lane.clients[request.client]:
            del lane.clients[request.client]
        if not lane.clients:
            lane.idle_since = now

    def served(self, request: facts.Request, unit: int, answer_tokens: int) -> None:
        """Count what a unit has been answered so far, in tokens."""
        running = self._running[request.id, unit]
        new = answer_tokens - running.charged
        running.charged = answer_tokens
        self._state.lanes[request.model].line.charge(request.client, new * fairness.ANSWER_WEIGHT)
        running.copy.loading = False

    def ended(self, now: float, request: facts.Request, unit: int, outcome: port.Outcome) -> None:
        """Take in that a unit was answered, and how it went."""
        running = self._running.pop((request.id, unit))
        lane = self._state.lanes[request.model]
        copy, server = running.copy, running.copy.server
        copy.loading = False
        copy.heard = now
        server.failures = 0
        server.avoid_until = 0.0
        held = now - running.started
        if outcome.load_seconds > 0:
            lane.known.learn_load(server.url, outcome.load_seconds)
            held -= outcome.load_seconds
        lane.known.slot_seconds.learn(max(0.0, held))
        lane.known.learn_prompt(int(outcome.prompt_tokens * running.unread), outcome.prompt_seconds)
        lane.line.charge(request.client, (outcome.answer_tokens - running.charged) * fairness.ANSWER_WEIGHT)
        self._free(lane, running)

    def failed(self, now: float, request: facts.Request, unit: int, *, absent: bool = False) -> None:
        """Take in that a server failed a unit, which waits again now, before all others of its client.

        Other requests avoid the server for a second, twice as long each time, until something works there;
        one where the model is ``absent`` is well otherwise.
        """
        running = self._running.pop((request.id, unit))
        lane, waiting = self._state.lanes[request.model], running.waiting
        server = running.copy.server
        self._free(lane, running)
        if absent:
            server.held -= {request.model}
            if not running.copy.running:
                self._state.drop(running.copy)
        else:
            _avoid(server, now)
        waiting.tried.add(server.url)
        if not waiting.units:
            lane.line.put_back(waiting)
            self._state.queued[lane.model] = lane
        waiting.units.appendleft(unit)

    def retry(self, request: facts.Request) -> None:
        """Let a request go again to servers that failed it: they may have been restarted."""
        self._waiting[request.id].tried.clear()

    def loaded(self, now: float, model: str, url: str, seconds: float | None) -> None:
        """Take in how long a load took that was decided ahead; None when it failed."""
        server = self._state.servers.get(url)
        copies = server.copies.values() if server else ()
        copy = next((one for one in copies if one.ahead == model), None)
        if server is None or copy is None:
            return
        copy.ahead = ""
        copy.loading = False
        copy.asked = now
        if seconds is None:
            self._state.drop(copy)
            _avoid(server, now)
        else:
            self._state.known(model).learn_load(url, seconds)

    def shun(self, urls: Set[str]) -> None:
        """Keep away from servers that hang for others."""
        self._state.shunned = frozenset(urls)

    def others(self, told: facts.Memory) -> bool:
        """Take in what other proxies have in memory; tell whether a look at the servers is due."""
        self._state.others = told
        return any(self._state.unknown(server) for server in self._state.servers.values())

    def heard(self, now: float, request: facts.Request, unit: int) -> None:
        """Take in that something of an answer came."""
        copy = self._running[request.id, unit].copy
        copy.heard = now
        copy.loading = False

    def tried(self, now: float, decision: facts.Try, *, answered: bool) -> None:
        """Take in whether a server that was tried answered."""
        server = self._state.servers.get(decision.url)
        if server is not None:
            silence.tried(server, now, whole=decision.whole, answered=answered)

    # ---- what it tells ----

    def holders(self, model: str) -> int:
        """Count the servers that hold a model and answer."""
        return sum(model in server.held and server.reachable for server in self._state.servers.values())

    def stranded(self) -> frozenset[str]:
        """Return the models for which somebody waits, and which no server holds that answers."""
        return frozenset(model for model in self._state.queued if not self.holders(model))

    def untried(self, request: facts.Request) -> bool:
        """Tell whether a server holds the model that has not failed this request."""
        tried = self._waiting[request.id].tried
        return any(
            request.model in server.held and server.reachable and server.url not in tried
            for server in self._state.servers.values()
        )

    def wants(self) -> dict[tuple[str, str], tuple[int, int]]:
        """Return how many units run at each copy, by URL and model, and how many would."""
        wants: dict[tuple[str, str], tuple[int, int]] = {}
        for lane in self._state.lanes.values():
            waiting = sum(len(one.units) for one in itertools.islice(lane.line, _MOST_WANTED))
            nowhere = waiting and not self._state.copies(lane.model)
            for server in self._state.servers.values():
                if lane.model not in server.held or not server.reachable:
                    continue
                lead = server.lead(lane.model)
                copy = server.copies.get(lead)
                running = copy.running if copy else 0
                _, wanted = wants.get((server.url, lead), (running, running))
                here = nowhere if copy is None else not self._state.leaves(copy)
                wants[server.url, lead] = running, wanted + (waiting if here else 0)
        return wants

    def in_use(self, now: float) -> facts.Memory:
        """Return what other proxies need to know of what this one has in memory."""
        state = self._state
        copies = [copy for server in state.servers.values() for copy in server.copies.values()]
        return facts.Memory(
            frozenset((copy.server.url, copy.model) for copy in copies if copy.running or copy.loading),
            frozenset((copy.server.url, copy.model) for copy in copies if copy.leaving in state.queued),
            {copy.model: state.known(copy.model).rate.a_second(now) for copy in copies},
        )

    @property
    def loads(self) -> int:
        """How many loads were decided."""
        return self._state.loads

    @property
    def waits(self) -> bool:
        """Whether anybody waits."""
        return bool(self._state.queued)

    def counts(self, model: str) -> tuple[int, int]:
        """Return how many units of a model run, and how many requests wait."""
        lane = self._state.lanes.get(model)
        return (lane.running, lane.line.length) if lane else (0, 0)

    def demand(self, now: float) -> dict[str, facts.Demand]:
        """Return by model who runs and waits, and how long nobody has; not of those that nobody ever had."""
        return {
            lane.model: facts.Demand(
                in_flight=lane.running,
                queued=lane.line.length,
                longest_wait_seconds=now - lane.line.oldest() if lane.line else 0.0,
                idle_seconds=0.0 if lane.clients else now - lane.idle_since,
            )
            for lane in self._state.lanes.values()
            if lane.clients or lane.idle_since < math.inf
        }

    def sick(self) -> dict[str, str]:
        """Return the servers that hang, by URL, and for which model."""
        return {url: server.sick for url, server in self._state.servers.items() if server.sick}

    def load_patience(self, model: str, url: str) -> float:
        """Return after how many seconds a load that was decided ahead has failed."""
        return silence.load_patience(self._state.known(model), url)

    def state(self) -> Mapping[str, int]:
        """Count the servers known and those that answer."""
        servers = self._state.servers.values()
        return {"servers": len(servers), "reachable": sum(server.reachable for server in servers)}

    def wake(self, now: float) -> float | None:
        """Return when ``decide`` may decide something though nothing has happened; None for never."""
        if not self._state.queued:
            return None
        times = [lane.again for lane in self._state.queued.values()]
        times += [server.avoid_until for server in self._state.servers.values() if server.avoid_until > now]
        earliest = min(times)
        return None if earliest == math.inf else max(now, earliest)

    # ---- what it decides ----

    def decide(self, now: float) -> list[facts.Decision]:
        """Return all that is to be done now, in order."""
        decisions: list[facts.Decision] = []
        queued = self._state.queued
        before = 0
        # When nobody waits for a model any more, what was to make room for it serves others again.
        while len(queued) != before:
            before = len(queued)
            lanes = list(queued.values())
            if lanes[1:]:
                lanes.sort(key=lambda lane: lane.line.oldest())
            for lane in lanes:
                self._place(now, lane, decisions)
        return decisions

    def check(self, now: float, waited_for: Mapping[tuple[str, str], bool]) -> list[facts.Try | facts.GiveUp]:
        """Return what is to be done about servers that are silent; see ``silence.check``."""
        tries, hanging = silence.check(self._state, now, waited_for)
        given_up = [
            facts.GiveUp(running.waiting.request, unit, running.copy.server.url)
            for (_, unit), running in self._running.items()
            if running.copy in hanging
        ]
        return [*given_up, *tries]

    def _place(self, now: float, lane: Lane, decisions: list[facts.Decision]) -> None:
        """Start what can be started of one model's line; make room for it where that pays."""
        lane.again = math.inf
        while lane.line:
            free = [copy for copy in self._state.copies(lane.model) if self._state.takes(copy, now)]
            if not free:
                if not growth.grow(self._state, now, lane, decisions):
                    return
                continue
            waiting = lane.line.next(functools.partial(_most_shared, free))
            untried = [copy for copy in free if copy.server.url not in waiting.tried]
            if waiting.tried and not untried:
                # Another server may take it once it has the model; meanwhile this one holds up nobody else.
                if growth.grow(self._state, now, lane, decisions, but=waiting.tried):
                    continue
                untried = free
            self._start(now, lane, waiting, self._nearest(now, lane, waiting.request, untried), decisions)

    def _nearest(
        self, now: float, lane: Lane, request: facts.Request, copies: list[memory.Copy]
    ) -> memory.Copy:
        """Return the copy where the first token comes soonest."""
        if len(copies) == 1:
            return copies[0]

        def seconds(copy: memory.Copy) -> float:
            unread = request.prompt_tokens * _unread(_most_shared([copy], request), request)
            load = max(0.0, copy.ready - now) if copy.loading else 0.0
            return load + lane.known.prompt_seconds(unread) + _CROWD_SECONDS * copy.server.running()

        return min(copies, key=seconds)

    def _start(
        self,
        now: float,
        lane: Lane,
        waiting: fairness.Waiting,
        copy: memory.Copy,
        decisions: list[facts.Decision],
    ) -> None:
        request = waiting.request
        unit = waiting.units.popleft()
        if not waiting.units:
            self._remove(lane, waiting)
        slot, shared = copy.free_slot(request.prefix, self._state.slots(copy.server.url, copy.model))
        slot.busy = True
        if not copy.running:
            copy.heard = now
        copy.running += 1
        copy.asked = now
        lane.running += 1
        unread = _unread(shared, request)
        copy.unread_tokens += unread * request.prompt_tokens
        self._running[request.id, unit] = _Running(waiting, copy, slot, now, unread)
        lane.line.charge(request.client, request.prompt_tokens * fairness.PROMPT_WEIGHT)
        decisions.append(facts.Start(request, unit, copy.server.url))

    # ---- the rest ----

    def _has_place(self, lane: Lane, now: float) -> bool:
        """Tell whether a slot is free, or the model is nowhere and to be loaded."""
        copies = self._state.copies(lane.model)
        return not copies or any(self._state.takes(copy, now) for copy in copies)

    def _check_fits(self, lane: Lane) -> None:
        """What its weights take on disk a model takes in memory at least, whatever else it takes."""
        memory_bytes = self._state.limits.memory_bytes_per_server
        if memory_bytes is not None and lane.known.weights > memory_bytes:
            raise facts.NeverFits(lane.known.weights, memory_bytes)

    def _correct(self, server: memory.Server, report: facts.Report) -> None:
        """Bring what is thought to be in a server's memory in line with what it says.

        What was asked for after the look began is newer than the look.
        """
        began = report.began
        server.unloaded = {model: at for model, at in server.unloaded.items() if at >= began}
        for model, weights in report.weights.items():
            self._state.known(model).weights = weights
        loaded = {server.lead(model): size for model, size in report.loaded.items()}
        for model, size in loaded.items():
            known = self._state.known(model)
            known.size = size or known.size
            copy = server.copies.get(model)
            if copy is not None:
                copy.size = known.bytes
                # Ollama lists a model from the beginning of its load on; those who wait for it will tell.
                if copy.asked < began and not copy.running:
                    copy.loading = False
            elif server.unloaded.get(model, -math.inf) < began:
                server.copies[model] = memory.Copy(model, server, size=known.bytes, asked=began, ready=began)
        for copy in list(server.copies.values()):
            under_way = copy.running or copy.ahead or (copy.loading and began < copy.ready)
            if copy.model not in loaded and not under_way and copy.asked < began:
                self._state.drop(copy)

    def _regroup(self, server: memory.Server, leads: Mapping[str, str]) -> None:
        """Take over which models share a copy at a server; copies that turn out to be one become one."""
        if leads == server.leads:
            return
        server.leads = leads
        for copy in list(server.copies.values()):
            lead = server.lead(copy.model)
            if lead == copy.model:
                continue
            del server.copies[copy.model]
            other = server.copies.get(lead)
            if other is None:
                copy.model = lead
                server.copies[lead] = copy
                continue
            other.take_over(copy)
            for running in self._running.values():
                if running.copy is copy:
                    running.copy = other

    def _gone(self, url: str) -> None:
        del self._state.servers[url]
        self._state.forget_server(url)

    def _free(self, lane: Lane, running: _Running) -> None:
        running.slot.busy = False
        running.slot.prefix = running.waiting.request.prefix
        running.copy.running -= 1
        running.copy.unread_tokens -= running.unread * running.waiting.request.prompt_tokens
        if not running.copy.running:
            running.copy.unread_tokens = 0.0  # not what rounding has left
        lane.running -= 1

    def _remove(self, lane: Lane, waiting: fairness.Waiting) -> None:
        lane.line.remove(waiting)
        if not lane.line:
            self._state.queued.pop(lane.model, None)


def _most_shared(copies: list[memory.Copy], request: facts.Request) -> int:
    """Return how much of a prompt some free slot has read already, in blocks."""
    return max(
        (
            memory.common(slot.prefix, request.prefix)
            for copy in copies
            for slot in copy.slots
            if not slot.busy
        ),
        default=0,
    )


def _avoid(server: memory.Server, now: float) -> None:
    """Keep away from a server that failed; all that was under way there when it did fails for one reason."""
    if server.avoid_until <= now:
        server.failures += 1
        server.avoid_until = now + min(2.0 ** (server.failures - 1), _LONGEST_AVOIDED_SECONDS)


def _unread(shared: int, request: facts.Request) -> float:
    """Return what share of a prompt is left when so many blocks of it have been read."""
    return 1.0 - shared / len(request.prefix) if request.prefix else 1.0
