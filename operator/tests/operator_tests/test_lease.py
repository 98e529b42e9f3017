"""Leadership by a Lease: one acts, another follows in time, and never two."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import pytest

from modelset_operator.cluster import http, kinds, leading, lease

from . import fake_api

HELD = {"holderIdentity": "other", "leaseDurationSeconds": 15, "renewTime": "t1", "acquireTime": "t0"}


def election(spec: Mapping[str, Any] | None = None, at: float = 0.0) -> lease.Election:
    found = lease.Election("me")
    found.saw(spec, at)
    return found


@pytest.mark.parametrize(
    ("spec", "now", "may"),
    [
        (None, 0.0, True),
        ({}, 0.0, True),
        ({**HELD, "holderIdentity": ""}, 0.0, True),
        ({**HELD, "holderIdentity": "me"}, 0.0, True),
        (HELD, 14.9, False),
        (HELD, 15.0, True),
        ({**HELD, "leaseDurationSeconds": 40}, 39.0, False),
    ],
)
def test_a_lease_may_be_taken_that_nobody_holds_or_renews(
    spec: Mapping[str, Any] | None, now: float, may: bool
) -> None:
    assert election(spec).may_claim(now) is may


def test_a_lease_lasts_from_when_its_change_was_seen_here_whatever_its_clock_says() -> None:
    found = election(HELD)
    found.saw(HELD, 10.0)
    assert found.may_claim(15.0)
    found.saw({**HELD, "renewTime": "t2"}, 14.0)
    assert not found.may_claim(28.9)
    assert found.may_claim(29.0)


def test_a_leader_stops_before_the_lease_is_over_for_others() -> None:
    leader, standby = election(), lease.Election("standby")
    spec = leader.claim("t")
    leader.wrote(spec, asked_at=100.0)
    standby.saw(spec, 100.0)
    assert leader.leads(109.9)
    assert not leader.leads(110.0)
    assert not standby.may_claim(114.9)


def test_a_leader_that_sees_another_holding_the_lease_stops_at_once() -> None:
    found = election()
    found.wrote(found.claim("t"), 0.0)
    found.saw(HELD, 1.0)
    assert not found.leads(1.0)


def test_one_that_stands_by_looks_when_the_lease_is_over_and_not_later() -> None:
    found = election(HELD)
    assert found.pause(0.0) == lease.RETRY_SECONDS
    assert found.pause(14.5) == 0.5
    assert found.pause(15.0) == lease.RETRY_SECONDS


def test_what_a_claim_says_of_those_before() -> None:
    assert election().claim("t9")["leaseTransitions"] == 0
    taken = election({**HELD, "leaseTransitions": 3}).claim("t9")
    assert taken == {
        "holderIdentity": "me",
        "leaseDurationSeconds": 15,
        "acquireTime": "t9",
        "renewTime": "t9",
        "leaseTransitions": 4,
    }
    again = election(taken).claim("t10")
    assert (again["acquireTime"], again["renewTime"], again["leaseTransitions"]) == ("t9", "t10", 4)


class Api(fake_api.FakeApi):
    """Does not answer, when told so."""

    away = False

    async def ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | Sequence[Any] | None = None,
        content_type: str = "application/json",
    ) -> dict[str, Any]:
        if self.away:
            raise http.UnreachableError("the API server does not answer")
        return await super().ask(method, path, query=query, body=body, content_type=content_type)


class Bench:
    """Candidates, and a clock that goes on when nobody has anything to do at this moment."""

    def __init__(self) -> None:
        self.api = Api()
        self.now = 0.0
        self.acting: set[str] = set()
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.candidates: dict[str, leading.Leading] = {}
        self.timers: list[tuple[float, asyncio.Future[None]]] = []

    def start(self, name: str, api: http.Http | None = None) -> None:
        candidate = leading.Leading(api or self.api, "system", "operator", name, lambda: self.now)

        async def act() -> None:
            self.acting.add(name)
            try:
                await asyncio.Event().wait()
            finally:
                self.acting.discard(name)

        self.candidates[name] = candidate
        self.tasks[name] = asyncio.create_task(candidate.run(act))

    async def sleep(self, seconds: float) -> None:
        timer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.timers.append((self.now + seconds, timer))
        await timer

    async def wait(self, tasks: list[asyncio.Task[None]], timeout: float | None = None) -> None:  # noqa: ASYNC109
        if timeout is None:
            await asyncio.gather(*tasks, return_exceptions=True)
        else:
            timer = asyncio.create_task(self.sleep(timeout))
            await asyncio.wait([timer, *tasks], return_when=asyncio.FIRST_COMPLETED)
            timer.cancel()

    async def settle(self) -> None:
        for _ in range(30):
            await asyncio.sleep(0)

    async def until(self, moment: float) -> None:
        await self.settle()
        while due := [one for one in self.timers if one[0] <= moment and not one[1].done()]:
            first = min(due, key=lambda one: one[0])
            self.timers.remove(first)
            self.now = max(self.now, first[0])
            first[1].set_result(None)
            await self.settle()
            assert len(self.acting) <= 1
        self.now = moment

    @property
    def lease(self) -> dict[str, Any]:
        found: dict[str, Any] = self.api.find("Lease", "operator", "system")["spec"]
        return found


class FakeAsyncio:
    """asyncio, whose waiting is the bench's."""

    def __init__(self, bench: Bench) -> None:
        self.sleep = bench.sleep
        self.wait = bench.wait

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)


@pytest.fixture
async def bench(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    bench = Bench()
    monkeypatch.setattr(leading, "asyncio", FakeAsyncio(bench))
    yield bench
    for task in bench.tasks.values():
        task.cancel()
    await asyncio.gather(*bench.tasks.values(), return_exceptions=True)


async def test_of_two_replicas_one_acts_and_the_other_stands_by(bench: Bench) -> None:
    bench.start("a")
    bench.start("b")
    await bench.until(100.0)
    assert bench.acting == {"a"}
    assert bench.lease["holderIdentity"] == "a"
    assert not bench.candidates["b"].leads
    assert {write.split()[0] for write in bench.api.writes} == {"create", "update"}


async def test_a_leader_that_dies_is_followed_in_under_20_seconds(bench: Bench) -> None:
    bench.start("a", dying := Api())
    dying.objects, dying._log = bench.api.objects, bench.api._log
    bench.start("b")
    await bench.until(30.0)
    assert bench.acting == {"a"}
    dying.away = True
    await bench.until(39.9)
    assert bench.acting == {"a"}
    await bench.until(40.1)
    assert bench.acting == set()
    await bench.until(49.0)
    assert bench.acting == {"b"}
    assert bench.lease["leaseTransitions"] == 1


async def test_a_leader_that_ends_gives_the_lease_back(bench: Bench) -> None:
    bench.start("a")
    await bench.settle()
    bench.start("b")
    await bench.until(10.0)
    bench.tasks["a"].cancel()
    await bench.settle()
    assert bench.lease["holderIdentity"] == ""
    await bench.until(12.1)
    assert bench.acting == {"b"}


async def test_a_leader_cut_off_for_a_while_goes_on(bench: Bench) -> None:
    bench.start("a")
    await bench.until(5.0)
    bench.api.away = True
    await bench.until(12.0)
    bench.api.away = False
    await bench.until(30.0)
    assert bench.acting == {"a"}
    bench.api.away = True
    await bench.until(60.0)
    assert bench.acting == set()
    bench.api.away = False
    await bench.until(80.0)
    assert bench.acting == {"a"}


async def test_a_lease_that_somebody_deletes_is_made_anew(bench: Bench) -> None:
    bench.start("a")
    await bench.until(5.0)
    bench.api.remove("Lease", "system", "operator")
    await bench.until(15.0)
    assert bench.acting == {"a"}
    assert bench.lease["holderIdentity"] == "a"


async def test_a_lease_that_somebody_takes_is_let_go(bench: Bench) -> None:
    bench.start("a")
    await bench.until(5.0)
    with bench.api.edited("Lease", "operator", "system") as found:
        found["spec"] = HELD
    await bench.until(10.0)
    assert bench.acting == set()


async def test_what_acting_raises_comes_out(bench: Bench) -> None:
    async def act() -> None:
        raise RuntimeError("a defect")

    candidate = leading.Leading(bench.api, "system", "operator", "a", lambda: bench.now)
    with pytest.raises(RuntimeError, match="a defect"):
        await candidate.run(act)
    assert bench.lease["holderIdentity"] == ""


async def test_nothing_is_asked_on_behalf_of_one_that_does_not_lead(bench: Bench) -> None:
    bench.start("a")
    await bench.settle()
    fenced = leading.LeadersHttp(bench.api, bench.candidates["a"])
    path = kinds.LEASE.path("system", "operator")
    assert (await fenced.ask("GET", path))["spec"]["holderIdentity"] == "a"
    bench.now = lease.RENEW_DEADLINE_SECONDS
    with pytest.raises(http.UnreachableError, match="another replica"):
        await fenced.ask("GET", path)
