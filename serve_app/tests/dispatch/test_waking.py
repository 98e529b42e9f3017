"""Requests for a model that no server holds: they wait for one, in simulated time."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from modelset_proxy.dispatch import board, facts, ledger
from modelset_proxy.engines import port
from modelset_proxy.openai import catalog
from serve_app.tests.dispatch.working import MODEL, OTHER, Bench, Job, failing, refused

pytestmark = pytest.mark.simulated
WITHOUT_A = port.Sight(100.0, {"b": port.Held("b")}, {})


def asleep(bench: Bench) -> None:
    """Have no server left, as when a set is scaled to zero."""
    bench.servers.sights = {}
    bench.servers.seen()


def held(**limits: float) -> Bench:
    """Return a bench at zero, whose requests are held for 300 s, or as ``limits`` say."""
    bench = Bench(s1="")
    bench.limit(**{"wake_timeout_seconds": 300, **limits})
    asleep(bench)
    return bench


def asking(bench: Bench, *steps: str | float, model: catalog.Model = MODEL) -> asyncio.Task[object]:
    return asyncio.create_task(bench.ask(Job({"s1": list(steps) or ["one"]}), model))


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_a_request_is_answered_as_soon_as_a_server_is_seen() -> None:
    bench = held()
    asked = asyncio.create_task(bench.ask(Job({"s1": ["one"]})))
    await asyncio.sleep(250)
    assert bench.dispatch.counts()["first"] == (0, 1)
    bench.look()
    items, call = await asked
    assert (items, call.server, call.queued_seconds) == (["one"], "s1", 250.0)
    assert now() == 250.0


async def test_it_counts_as_waiting_at_once_and_until_its_client_leaves() -> None:
    bench = held()
    asked = [asking(bench) for _ in range(2)]
    await asyncio.sleep(0)
    assert bench.dispatch.demand()["first"] == facts.Demand(0, 2, 0.0, 0.0)
    await asyncio.sleep(7)
    assert bench.dispatch.demand()["first"] == facts.Demand(0, 2, 7.0, 0.0)
    for task in asked:
        task.cancel()
    await asyncio.gather(*asked, return_exceptions=True)
    await asyncio.sleep(5)
    assert bench.dispatch.demand()["first"] == facts.Demand(0, 0, 0.0, 5.0)


async def test_it_knows_whether_it_is_a_server_that_it_waits_for() -> None:
    bench = held(max_in_flight_per_server=1)
    async with (
        bench.dispatch.open(Job({"s1": [9.0]}), MODEL, port.Call("req_1", "first")) as work,
        bench.dispatch.open(Job({}), MODEL, port.Call("req_2", "first")) as other,
    ):
        waiting = [asyncio.create_task(anext(one.answer(0), None)) for one in (work, other)]
        await asyncio.sleep(1)
        assert (work.stranded, other.stranded) == (True, True)
        bench.look()
        await asyncio.sleep(1)
        # One is at the server, the other waits for its turn there.
        assert (work.stranded, other.stranded) == (False, False)
        bench.look(s1=None)
        assert (work.stranded, other.stranded) == (False, True)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


class TestThoseThatWaitTooLong:
    """What they are told, and when."""

    async def test_no_server_came(self) -> None:
        bench = held()
        async with refused("wake_timeout") as found:
            await bench.ask(Job({}))
        assert now() == 300.0
        assert (found[0].retry_after, found[0].may_retry) == (10, True)
        assert bench.dispatch.counts()["first"] == (0, 0)

    async def test_one_came_and_was_busy(self) -> None:
        bench = held(queue_timeout_seconds=60)
        first, second = asking(bench, 999.0), asking(bench)
        await asyncio.sleep(200)
        bench.look()
        async with refused("queue_timeout"):
            await second
        assert now() == 260.0
        first.cancel()

    async def test_one_came_and_went(self) -> None:
        bench = held(queue_timeout_seconds=60)
        first, second = asking(bench, 999.0), asking(bench)
        await asyncio.sleep(200)
        bench.look()
        await asyncio.sleep(30)
        bench.look(s1=None)
        async with refused("wake_timeout"):
            await second
        assert now() == 330.0
        first.cancel()

    async def test_all_answers_of_one_request_end_together(self) -> None:
        bench = held()
        call = port.Call("req_1", "first")
        async with refused("wake_timeout"), bench.dispatch.open(Job({}), MODEL, call, units=3) as work:

            async def one(unit: int) -> list[str]:
                return [item async for item in work.answer(unit)]

            await asyncio.gather(*map(one, range(3)))
        assert now() == 300.0

    async def test_what_follows_an_answer_waits_for_a_server_and_not_for_ever(self) -> None:
        bench = held()
        asleep_again = asyncio.get_running_loop().call_later(20, bench.look)
        job = Job({"s1": [5.0, "x"]})
        call = port.Call("req_1", "first")
        async with refused("wake_timeout"), bench.dispatch.open(job, MODEL, call, units=2) as work:
            asyncio.get_running_loop().call_later(22, asleep, bench)
            assert [item async for item in work.answer(0)] == ["x"]
            assert [item async for item in work.answer(1)] == []
        assert now() == 302.0
        assert asleep_again.when() < now()


class TestWhatCanNeverBe:
    """It is refused at once."""

    @pytest.mark.parametrize(
        ("sight", "code"), [(None, "upstream_unavailable"), (WITHOUT_A, "model_not_ready")]
    )
    async def test_nobody_starts_servers(self, sight: port.Sight | None, code: str) -> None:
        bench = held(wake_timeout_seconds=0)
        bench.look(s1=sight)
        async with refused(code):
            await bench.ask(Job({}))
        assert (now(), bench.servers.refreshed) == (0.0, 1)

    async def test_a_model_that_is_served_no_more(self) -> None:
        bench = held()
        asked = asking(bench)
        await asyncio.sleep(9)
        bench.dispatch.serve(catalog.Catalog([OTHER]))
        async with refused("upstream_unavailable"):
            await asked
        async with refused("upstream_unavailable"):
            await bench.ask(Job({}))
        assert now() == 9.0

    async def test_a_model_that_fits_nowhere(self) -> None:
        bench = held(memory_bytes_per_server=800)
        bench.look(s1=port.Sight(100.0, {"a": port.Held("a", size=801)}, {}))
        asleep(bench)
        async with refused("model_too_large"):
            await bench.ask(Job({}))

    async def test_more_than_may_wait(self) -> None:
        bench = held(max_queued_requests=2)
        asked = [asking(bench) for _ in range(2)]
        await asyncio.sleep(0)
        async with refused("queue_full", 429):
            await bench.ask(Job({}))
        for task in asked:
            task.cancel()

    async def test_where_none_may_wait_one_does_or_nothing_would_ever_wake(self) -> None:
        bench = held(max_queued_requests=0)
        asked = asking(bench)
        await asyncio.sleep(0)
        async with refused("queue_full", 429):
            await bench.ask(Job({}))
        asked.cancel()


class TestAServerThatIsLost:
    """Whoever has been told nothing yet waits for the next one."""

    @pytest.mark.parametrize("problem", [failing(lost=True), failing(absent=True)], ids=["lost", "absent"])
    async def test_the_only_one_fails(self, problem: port.ServerFailure) -> None:
        bench = Bench(s1="a")
        bench.limit(wake_timeout_seconds=300)
        job = Job({"s1": [4.0, problem]})
        bench.servers.then = lambda: bench.look(s1=None if problem.lost else WITHOUT_A)
        asked = asyncio.create_task(bench.ask(job))
        await asyncio.sleep(100)
        assert bench.dispatch.demand()["first"] == facts.Demand(0, 1, 100.0, 0.0)
        job.steps = {"s1": ["one"]}
        bench.look()
        items, call = await asked
        assert (items, call.attempts) == (["one"], 2)

    async def test_not_for_ever(self) -> None:
        bench = Bench(s1="a")
        bench.limit(wake_timeout_seconds=300)
        bench.servers.then = lambda: asleep(bench)
        async with refused("wake_timeout"):
            await bench.ask(Job({"s1": [4.0, failing(lost=True)]}))
        assert now() == 304.0

    async def test_who_was_told_something_is_told_the_failure(self) -> None:
        bench = Bench(s1="a")
        bench.limit(wake_timeout_seconds=300)
        bench.servers.then = lambda: asleep(bench)
        async with refused("gone"):
            await bench.ask(Job({"s1": ["one", 4.0, failing(lost=True)]}, goes_on=True))
        assert now() == 4.0

    async def test_where_nobody_starts_another_the_failure_is_told(self) -> None:
        bench = Bench(s1="a")
        bench.limit(wake_timeout_seconds=0)
        bench.servers.then = lambda: asleep(bench)
        async with refused("gone"):
            await bench.ask(Job({"s1": [4.0, failing(lost=True)]}))
        assert now() == 4.0

    async def test_one_that_loses_a_server_each_time_is_given_up(self) -> None:
        bench = Bench(s1="a")
        bench.limit(wake_timeout_seconds=300)

        def crash() -> None:
            asleep(bench)
            asyncio.get_running_loop().call_later(10, bench.look)

        bench.servers.then = crash
        async with refused("gone"):
            await bench.ask(Job({"s1": [4.0, failing(lost=True)]}))
        assert now() == 4 * 4.0 + 3 * 10.0

    async def test_whoever_waits_for_a_turn_there_waits_on(self) -> None:
        bench = Bench(s1="a")
        bench.limit(wake_timeout_seconds=300, queue_timeout_seconds=60)
        busy, waiting = asking(bench, 999.0), asking(bench)
        await asyncio.sleep(50)
        asleep(bench)
        busy.cancel()
        await asyncio.sleep(100)
        assert bench.dispatch.demand()["first"] == facts.Demand(0, 1, 150.0, 0.0)
        bench.look()
        await waiting
        assert now() == 150.0


class TestMany:
    """A thousand that come while nothing is there."""

    COUNT = 1000

    async def test_all_are_answered_by_slots_and_the_model_is_loaded_once(self) -> None:
        bench = held(max_in_flight_per_server=4)
        at_once, most = 0, 0

        class Counting(Job):
            async def ask(self, *_: object) -> AsyncGenerator[str, None]:
                nonlocal at_once, most
                at_once += 1
                most = max(most, at_once)
                await asyncio.sleep(1)
                yield "x"
                at_once -= 1

        asked = [asyncio.create_task(bench.ask(Counting({}))) for _ in range(self.COUNT)]
        await asyncio.sleep(30)
        assert bench.dispatch.demand()["first"] == facts.Demand(0, self.COUNT, 30.0, 0.0)
        bench.limit(max_in_flight_per_server=4, wake_timeout_seconds=300, queue_timeout_seconds=999)
        bench.look()
        found = await asyncio.gather(*asked)
        assert [items for items, _ in found] == [["x"]] * self.COUNT
        assert (most, bench.dispatch.core.loads) == (4, 1)
        assert now() == 30 + self.COUNT / 4

    async def test_one_more_costs_the_same_however_many_wait(self, monkeypatch: pytest.MonkeyPatch) -> None:
        bench = held()
        calls = 0
        genuine = bench.dispatch.core.holders

        def holders(model: str) -> int:
            nonlocal calls
            calls += 1
            return genuine(model)

        monkeypatch.setattr(bench.dispatch.core, "holders", holders)
        asked, costs = [], []
        for _ in range(3):
            before = calls
            asked += [asking(bench) for _ in range(100)]
            await asyncio.sleep(1)
            costs.append(calls - before)
        assert costs[1] == costs[2] <= costs[0]
        for task in asked:
            task.cancel()


class TestLookingForServers:
    """There are looks all the time while somebody waits for one, and only then."""

    async def test_from_the_first_that_waits_until_there_is_a_server(self) -> None:
        bench = held()
        assert bench.servers.hurried == []
        asked = [asking(bench) for _ in range(2)]
        await asyncio.sleep(0)
        assert bench.servers.hurried == [True]
        bench.look()
        assert bench.servers.hurried == [True, False]
        await asyncio.gather(*asked)
        assert bench.servers.hurried == [True, False]

    async def test_until_all_have_left(self) -> None:
        bench = held()
        asked = [asking(bench), asking(bench, model=OTHER)]
        await asyncio.sleep(1)
        for task, hurried in zip(asked, (True, False), strict=True):
            task.cancel()
            await asyncio.sleep(0)
            assert bench.servers.hurried[-1] is hurried

    async def test_who_waits_for_a_turn_only_does_not_count(self) -> None:
        bench = Bench(s1="a")
        bench.limit(wake_timeout_seconds=300)
        asked = [asking(bench, 9.0), asking(bench, 9.0)]
        await asyncio.gather(*asked)
        assert bench.servers.hurried == []


async def test_all_proxies_know_at_once_of_the_first_that_waits() -> None:
    shared = board.Board(asyncio.get_running_loop().time)
    await asyncio.sleep(ledger.GRACE_SECONDS)
    benches = [Bench(shared, s1="a") for _ in range(2)]
    for bench in benches:
        bench.limit(wake_timeout_seconds=300)
        asleep(bench)
        await bench.dispatch.start()
    await asyncio.sleep(4.5)
    asked = asking(benches[0])
    await asyncio.sleep(0.01)
    assert benches[1].dispatch.feed_of_all().models["first"].queued == 1
    asked.cancel()
    for bench in benches:
        await bench.dispatch.close()


async def test_a_model_is_idle_since_it_was_asked_last_or_is_served() -> None:
    bench = held()
    await asyncio.sleep(5)
    assert bench.dispatch.demand() == {
        "first": facts.Demand(0, 0, 0.0, 5.0),
        "other": facts.Demand(0, 0, 0.0, 5.0),
    }
    bench.dispatch.serve(catalog.Catalog([MODEL]))
    bench.dispatch.serve(catalog.Catalog([MODEL, OTHER]))
    await asyncio.sleep(1)
    assert bench.dispatch.demand()["first"].idle_seconds == 6.0
    assert bench.dispatch.demand()["other"].idle_seconds == 1.0
    bench.look()
    await bench.ask(Job({"s1": ["x"]}))
    await asyncio.sleep(2)
    assert bench.dispatch.demand()["first"].idle_seconds == 2.0


async def test_who_asks_for_what_fits_nowhere_keeps_nothing_awake() -> None:
    bench = held(memory_bytes_per_server=1)
    bench.look(s1=port.Sight(100.0, {"a": port.Held("a", size=9)}, {}))
    await asyncio.sleep(5)
    async with refused("model_too_large"):
        await bench.ask(Job({}))
    await asyncio.sleep(3)
    assert bench.dispatch.demand()["first"].idle_seconds == 8.0
