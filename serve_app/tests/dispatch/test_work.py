"""The work of requests, with an engine and servers that do as a test says, in simulated time."""

import asyncio
import contextlib
import math

import pytest

from modelset_proxy.dispatch import board, facts, ledger
from modelset_proxy.engines import port
from modelset_proxy.openai import catalog, errors
from serve_app.tests.dispatch.working import MODEL, OTHER, Bench, Job, failing, refused

pytestmark = pytest.mark.simulated


async def test_an_answer_is_handed_on_and_noted() -> None:
    bench = Bench(s1="a")
    job = Job({"s1": ["one", 3.0, "two"]}, load_seconds=2.0)
    items, call = await bench.ask(job)
    assert items == ["one", "two"]
    assert (call.server, call.attempts, call.load_seconds, call.queued_seconds) == ("s1", 1, 2.0, 0.0)
    assert (job.asked, job.closed, bench.counted.seen) == ([("s1", 0, "")], 1, [])
    assert bench.dispatch.counts() == {"first": (0, 0), "other": (0, 0)}
    assert not bench.dispatch.leases


async def test_one_waits_for_a_slot_and_how_long_is_noted() -> None:
    bench = Bench(s1="a")
    bench.limit()
    first = asyncio.create_task(bench.ask(Job({"s1": [4.0, "one"]})))
    await asyncio.sleep(1)
    second = asyncio.create_task(bench.ask(Job({"s1": ["two"]})))
    await asyncio.sleep(1)
    assert bench.dispatch.counts()["first"] == (1, 1)
    demand = bench.dispatch.demand()
    assert demand == {"first": facts.Demand(1, 1, 1.0, 0.0), "other": facts.Demand(0, 0, 0.0, 2.0)}
    assert (await first)[0] == ["one"]
    items, call = await second
    assert (items, call.queued_seconds) == (["two"], 3.0)


class TestTurnsThatDoNotCome:
    """What whoever waits is told."""

    async def test_the_model_is_busy(self) -> None:
        bench = Bench(s1="a")
        bench.limit(queue_timeout_seconds=5)
        busy = asyncio.create_task(bench.ask(Job({"s1": [60.0]})))
        await asyncio.sleep(1)
        async with refused("queue_timeout"):
            await bench.ask(Job({}))
        assert asyncio.get_running_loop().time() == pytest.approx(6.0)
        assert bench.dispatch.counts()["first"] == (1, 0)
        busy.cancel()

    @pytest.mark.parametrize(
        ("limits", "whose"),
        [
            ({"max_queued_requests": 0}, "requests are"),
            ({"max_queued_per_client": 1}, "requests of yours are"),
        ],
    )
    async def test_too_many_wait(self, limits: dict[str, int], whose: str) -> None:
        bench = Bench(s1="a")
        bench.limit(**limits)
        asked = [asyncio.create_task(bench.ask(Job({"s1": [60.0]}), client="me")) for _ in range(2)]
        await asyncio.sleep(1)
        async with refused("queue_full", 429) as found:
            await bench.ask(Job({}), client="me")
        assert f"Too many {whose} waiting" in found[0].message
        assert (found[0].kind, found[0].retry_after, found[0].may_retry) == ("requests", 5, True)
        for task in asked:
            task.cancel()

    async def test_the_model_fits_nowhere(self, monkeypatch: pytest.MonkeyPatch) -> None:
        bench = Bench(s1="a")

        def arrive(*_: object) -> None:
            raise facts.NeverFits(9, 5)

        monkeypatch.setattr(bench.dispatch.core, "arrive", arrive)
        async with refused("model_too_large") as found:
            await bench.ask(Job({}))
        assert (found[0].kind, found[0].may_retry) == ("server_error", False)

    async def test_who_has_failed_once_waits_anew_and_not_for_ever(self) -> None:
        bench = Bench(s1="a", s2="a")
        bench.limit(queue_timeout_seconds=5)
        asked = asyncio.create_task(bench.ask(Job({"s1": [8.0, failing()]})))
        await asyncio.sleep(0)
        busy = asyncio.create_task(bench.ask(Job({"s2": [60.0]})))
        await asyncio.sleep(8.5)
        bench.look(s1=None)
        async with refused("queue_timeout"):
            await asked
        assert asyncio.get_running_loop().time() == pytest.approx(13.0)
        busy.cancel()

    @pytest.mark.parametrize(("away", "code"), [(True, "upstream_unavailable"), (False, "model_not_ready")])
    async def test_no_server_has_the_model(self, away: bool, code: str) -> None:
        bench = Bench(s1="a")
        bench.look(s1=None if away else port.Sight(100.0, {"b": port.Held("b")}, {}))
        async with refused(code):
            await bench.ask(Job({}))
        assert bench.servers.refreshed == 1
        assert asyncio.get_running_loop().time() == 0.0

    async def test_a_look_may_find_one(self) -> None:
        bench = Bench(s1="a")
        bench.look(s1=None)
        bench.servers.then = bench.look
        assert (await bench.ask(Job({"s1": ["one"]})))[0] == ["one"]

    async def test_the_servers_go_while_one_waits(self) -> None:
        bench = Bench(s1="a")
        bench.limit()
        busy = asyncio.create_task(bench.ask(Job({"s1": [60.0]})))
        await asyncio.sleep(1)
        waiting = asyncio.create_task(bench.ask(Job({})))
        await asyncio.sleep(1)
        bench.look()
        await asyncio.sleep(1)
        assert not waiting.done()
        bench.look(s1=None)
        async with refused("upstream_unavailable"):
            await waiting
        assert asyncio.get_running_loop().time() == pytest.approx(3.0)
        busy.cancel()

    async def test_the_servers_have_gone_when_the_time_is_over(self) -> None:
        bench = Bench(s1="a")
        bench.limit(queue_timeout_seconds=5)
        busy = asyncio.create_task(bench.ask(Job({"s1": [60.0]})))
        await asyncio.sleep(1)
        waiting = asyncio.create_task(bench.ask(Job({})))
        await asyncio.sleep(1)
        bench.dispatch.core.report({"s1": None})
        async with refused("upstream_unavailable"):
            await waiting
        busy.cancel()


class TestServersThatFail:
    """Another one is asked, as long as there is one and nothing was handed on."""

    async def test_another_answers(self) -> None:
        bench = Bench(s1="a", s2="a")
        job = Job({"s1": [failing()], "s2": ["one"]})
        items, call = await bench.ask(job)
        assert (items, call.server, call.attempts) == (["one"], "s2", 2)
        assert [(url, unit) for url, unit, _ in job.asked] == [("s1", 0), ("s2", 0)]
        assert bench.counted.seen == [("failure", "first", "gone"), ("retry", "first")]
        assert job.closed == 2

    async def test_the_last_failure_is_told_when_all_have_failed(self) -> None:
        bench = Bench(s1="a", s2="a")
        async with refused("two"):
            await bench.ask(Job({"s1": [failing("one")], "s2": [failing("two")]}))
        assert bench.servers.refreshed == 1
        assert bench.dispatch.counts()["first"] == (0, 0)

    async def test_one_whose_connection_broke_may_be_back(self) -> None:
        bench = Bench(s1="a")
        job = Job({"s1": [failing(lost=True)]})

        def back() -> None:
            job.steps = {"s1": ["one"]}

        bench.servers.then = back
        assert (await bench.ask(job))[0] == ["one"]

    async def test_four_are_asked_at_most(self) -> None:
        bench = Bench(s1="a", s2="a", s3="a", s4="a", s5="a")
        job = Job({f"s{number}": [failing(f"s{number}")] for number in range(1, 6)})
        async with refused("s4"):
            await bench.ask(job)
        assert len(job.asked) == 4

    async def test_one_that_lacks_the_model_is_well(self) -> None:
        bench = Bench(s1="a", s2="a")
        await bench.ask(Job({"s1": [failing(absent=True)], "s2": ["one"]}))
        assert bench.dispatch.core.holders("a") == 1
        assert bench.dispatch.core.holders("b") == 2

    async def test_no_other_is_asked_once_something_was_handed_on(self) -> None:
        bench = Bench(s1="a", s2="a")
        job = Job({"s1": ["one", failing()], "s2": ["two"]})
        async with refused("gone"):
            await bench.ask(job)
        assert len(job.asked) == 1

    async def test_an_answer_goes_on_where_its_job_can(self) -> None:
        bench = Bench(s1="a", s2="a")
        job = Job({"s1": ["one", failing()], "s2": ["two"]}, goes_on=True)
        items, call = await bench.ask(job)
        assert (items, call.attempts) == (["one", "two"], 2)
        assert job.asked == [("s1", 0, ""), ("s2", 0, "one")]
        assert ("continued", "first") in bench.counted.seen

    async def test_what_begins_anew_is_not_counted_as_going_on(self) -> None:
        bench = Bench(s1="a", s2="a")
        await bench.ask(Job({"s1": [failing()], "s2": ["two"]}, goes_on=True))
        assert ("continued", "first") not in bench.counted.seen

    async def test_a_refusal_is_nobody_elses(self) -> None:
        bench = Bench(s1="a", s2="a")
        job = Job({"s1": [errors.invalid("no", code="no")]})
        async with refused("no", 400):
            await bench.ask(job)
        assert (len(job.asked), bench.counted.seen) == (1, [])
        assert bench.dispatch.counts()["first"] == (0, 0)


class TestSeveralUnits:
    """Choices of one request."""

    @staticmethod
    async def _all(bench: Bench, job: Job, units: int) -> list[list[str]]:
        call = port.Call("req_1", "first")
        async with bench.dispatch.open(job, MODEL, call, units=units) as work:
            assert work.units == units

            async def one(unit: int) -> list[str]:
                return [item async for item in work.answer(unit)]

            return await asyncio.gather(*map(one, range(units)))

    async def test_each_has_a_turn(self) -> None:
        bench = Bench(s1="a", s2="a")
        bench.limit()
        job = Job({"s1": [1.0, "x"], "s2": [1.0, "x"]})
        assert await self._all(bench, job, 5) == [["x"]] * 5
        assert sorted(unit for _, unit, _ in job.asked) == [0, 1, 2, 3, 4]
        assert asyncio.get_running_loop().time() == pytest.approx(3.0)

    async def test_those_that_follow_the_first_are_waited_for(self) -> None:
        bench = Bench(s1="a")
        bench.limit(queue_timeout_seconds=5)
        assert await self._all(bench, Job({"s1": [20.0, "x"]}), 3) == [["x"]] * 3

    async def test_all_wait_no_longer_than_they_may_for_the_first(self) -> None:
        bench = Bench(s1="a")
        bench.limit(queue_timeout_seconds=5)
        busy = asyncio.create_task(bench.ask(Job({"s1": [60.0]})))
        await asyncio.sleep(1)
        async with refused("queue_timeout"):
            await self._all(bench, Job({}), 3)
        assert asyncio.get_running_loop().time() == pytest.approx(6.0)
        busy.cancel()


async def test_a_client_that_leaves_frees_its_slot_and_ends_the_answer() -> None:
    bench = Bench(s1="a")
    job = Job({"s1": [60.0]})
    asked = asyncio.create_task(bench.ask(job))
    await asyncio.sleep(1)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert (job.closed, bench.dispatch.counts()["first"], bench.counted.seen) == (1, (0, 0), [])


async def test_one_that_leaves_the_queue_takes_no_turn() -> None:
    bench = Bench(s1="a")
    bench.limit()
    first = asyncio.create_task(bench.ask(Job({"s1": [5.0]})))
    await asyncio.sleep(1)
    leaver = asyncio.create_task(bench.ask(Job({})))
    stayer = asyncio.create_task(bench.ask(Job({"s1": ["one"]})))
    await asyncio.sleep(1)
    leaver.cancel()
    await first
    assert (await stayer)[0] == ["one"]


class TestMemory:
    """Loading and letting go."""

    async def test_nothing_is_asked_before_the_server_has_let_go(self) -> None:
        bench = Bench(s1="b")
        bench.limit(max_loaded_per_server=1)
        await bench.ask(Job({"s1": [1.0, "one"]}))
        assert [(what, model) for _, what, _, model in bench.engine.asked] == [("unload", "b")]
        assert asyncio.get_running_loop().time() == pytest.approx(2.0)

    async def test_one_that_does_not_let_go_is_asked_after_a_while(self) -> None:
        bench = Bench(s1="b")
        bench.engine.seconds = 999
        bench.limit(max_loaded_per_server=1)
        await bench.ask(Job({"s1": ["one"]}))
        assert asyncio.get_running_loop().time() == pytest.approx(10.0)

    async def test_a_second_server_loads_while_one_waits(self) -> None:
        bench = Bench(s1="a", s2="")
        bench.limit()
        busy = asyncio.create_task(bench.ask(Job({"s1": [60.0]})))
        await asyncio.sleep(0)
        bench.engine.seconds = 7.0
        _, call = await bench.ask(Job({"s2": ["one"]}))
        assert (call.server, call.queued_seconds) == ("s2", 7.0)
        assert [(what, url, model) for _, what, url, model in bench.engine.asked] == [("load", "s2", "a")]
        assert bench.dispatch.core.load_patience("a", "s2") == 35.0
        busy.cancel()

    async def test_a_load_that_failed_is_not_used(self) -> None:
        bench = Bench(s1="a", s2="")
        bench.limit(queue_timeout_seconds=5)
        bench.engine.answers = False
        busy = asyncio.create_task(bench.ask(Job({"s1": [60.0]})))
        await asyncio.sleep(0)
        async with refused("queue_timeout"):
            await bench.ask(Job({}))
        busy.cancel()

    async def test_one_that_takes_too_long_has_failed(self) -> None:
        bench = Bench(s1="a", s2="")
        bench.limit(queue_timeout_seconds=400)
        bench.engine.seconds = 350.0
        busy = asyncio.create_task(bench.ask(Job({"s1": [999.0]})))
        await asyncio.sleep(0)
        async with refused("queue_timeout"):
            await bench.ask(Job({}))
        busy.cancel()

    async def test_a_server_lets_go_before_it_loads_ahead(self) -> None:
        bench = Bench(s1="a", s2="b")
        bench.limit(max_loaded_per_server=1)
        asked = [asyncio.create_task(bench.ask(Job({"s1": [60.0], "s2": [60.0]}))) for _ in range(4)]
        await asyncio.sleep(3)
        assert bench.engine.asked == [(0.0, "unload", "s2", "b"), (1.0, "load", "s2", "a")]
        for task in asked:
            task.cancel()

    async def test_a_look_leaves_alone_what_is_still_let_go(self) -> None:
        bench = Bench(s1="b")
        bench.limit(max_loaded_per_server=1)
        asked = asyncio.create_task(bench.ask(Job({"s1": ["one"]})))
        await asyncio.sleep(0.5)
        assert "s1" in bench.dispatch._letting_go
        bench.look()
        assert "s1" in bench.dispatch._letting_go
        await asked
        bench.look()
        assert not bench.dispatch._letting_go
        assert not bench.dispatch._asking

    async def test_what_a_look_finds_is_used_at_once(self) -> None:
        bench = Bench(s1="a")
        bench.limit()
        busy = asyncio.create_task(bench.ask(Job({"s1": [60.0]})))
        await asyncio.sleep(0)
        waiting = asyncio.create_task(bench.ask(Job({"s2": ["one"]})))
        await asyncio.sleep(1)
        bench.loaded["s2"] = "a"
        bench.look()
        _, call = await waiting
        assert (call.server, call.queued_seconds) == ("s2", 1.0)
        busy.cancel()

    async def test_what_variants_have_in_common_depends_on_how_they_are_served(self) -> None:
        bench = Bench(s1="a")
        bench.limit()
        bench.servers.sights = {
            "s1": port.Sight(100.0, {one: port.Held(one, weights="w") for one in "ab"}, {"a": 0})
        }
        bench.servers.seen()
        busy = asyncio.create_task(bench.ask(Job({"s1": [5.0]})))
        await asyncio.sleep(0)
        _, call = await bench.ask(Job({"s1": ["one"]}), OTHER)
        assert call.queued_seconds == 5.0
        busy = asyncio.create_task(bench.ask(Job({"s1": [5.0]})))
        await asyncio.sleep(0)
        longer = catalog.Model(name="b", served_names=("other",), kind=catalog.CHAT, context_length=9)
        bench.dispatch.serve(catalog.Catalog([MODEL, longer]))
        _, call = await bench.ask(Job({"s1": ["one"]}), longer)
        assert call.queued_seconds == 0.0
        await busy

    async def test_a_runner_of_the_same_file_waits_until_the_other_one_is_idle(self) -> None:
        bench = Bench(s1="a")
        bench.limit()
        held = {one: port.Held(one, weights=one, file="w") for one in "ab"}
        bench.servers.sights = {"s1": port.Sight(100.0, held, {"a": 0})}
        bench.servers.seen()
        busy = asyncio.create_task(bench.ask(Job({"s1": [5.0]})))
        await asyncio.sleep(0)
        _, call = await bench.ask(Job({"s1": ["one"]}), OTHER)
        assert call.queued_seconds >= 5.0
        await busy

    async def test_what_a_model_takes_on_disk_is_known_before_it_is_loaded(self) -> None:
        bench = Bench(s1="")
        bench.limit(memory_bytes_per_server=800)
        bench.servers.sights = {"s1": port.Sight(100.0, {"a": port.Held("a", size=801)}, {})}
        bench.servers.seen()
        async with refused("model_too_large"):
            await bench.ask(Job({}))

    @pytest.mark.parametrize(("used", "looks"), [("a", 0), ("b", 1)])
    async def test_what_others_load_is_looked_at_when_it_is_news(self, used: str, looks: int) -> None:
        bench = Bench(s1="a")
        bench.dispatch.others(facts.Memory(used=frozenset({("s1", used)})))
        await asyncio.sleep(1)
        assert bench.servers.refreshed == looks

    async def test_what_is_asked_in_the_background_ends_with_it(self) -> None:
        bench = Bench(s1="a", s2="")
        bench.limit()
        bench.engine.seconds = 999
        asked = [asyncio.create_task(bench.ask(Job({"s1": [60.0]}))) for _ in range(2)]
        await asyncio.sleep(1)
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        await bench.dispatch.close()
        assert asyncio.get_running_loop().time() == 1.0
        assert asyncio.all_tasks() == {asyncio.current_task()}


class TestSilence:
    """Servers that hang, seen by the dispatcher."""

    @staticmethod
    async def _hang(bench: Bench, job: Job) -> asyncio.Task[tuple[list[str], port.Call]]:
        """Ask while the servers answer no touch, until the silence was noticed."""
        bench.engine.answers = False
        bench.engine.seconds = 999
        await bench.dispatch.start()
        asked = asyncio.create_task(bench.ask(job))
        await asyncio.sleep(9.5)
        return asked

    async def test_another_answers(self, caplog: pytest.LogCaptureFixture) -> None:
        bench = Bench(s1="a", s2="a")
        asked = await self._hang(bench, Job({"s1": [999.0], "s2": ["one"]}))
        items, call = await asked
        assert (items, call.server) == (["one"], "s2")
        assert bench.dispatch.feed().sick == {"s1": "first"}
        assert bench.dispatch.state() == {"servers": 2, "reachable": 2, "hanging": 1}
        assert bench.counted.seen[0] == ("failure", "first", "upstream_hung")
        assert [record.message for record in caplog.records] == [
            "model server hangs, and is left alone until it answers"
        ]
        await bench.dispatch.close()

    async def test_it_is_well_again_once_it_answers(self) -> None:
        bench = Bench(s1="a", s2="a")
        await (await self._hang(bench, Job({"s1": [999.0], "s2": ["one"]})))
        bench.engine.answers, bench.engine.seconds = True, 1.0
        await asyncio.sleep(400)
        assert bench.dispatch.feed().sick == {}
        assert {what for _, what, _, _ in bench.engine.asked} == {"load", "replies"}
        await bench.dispatch.close()

    async def test_it_stays_away_while_nothing_comes(self) -> None:
        bench = Bench(s1="a", s2="a")
        await (await self._hang(bench, Job({"s1": [999.0], "s2": ["one"]})))
        await asyncio.sleep(700)
        assert bench.dispatch.feed().sick == {"s1": "first"}
        await bench.dispatch.close()

    async def test_whoever_waits_for_it_goes_on_at_once(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("INFO")
        bench = Bench(s1="a")
        job = Job({"s1": [999.0]})
        bench.limit(queue_timeout_seconds=999)
        asked = await self._hang(bench, job)
        job.steps = {"s1": ["one"]}
        bench.engine.answers, bench.engine.seconds = True, 1.0
        assert (await asked)[0] == ["one"]
        again = [record for record in caplog.records if record.message == "model server answers again"]
        assert [vars(record)["facts"] for record in again] == [{"server": "s1"}]
        await bench.dispatch.close()

    async def test_one_that_answers_touches_is_given_time(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("INFO")
        bench = Bench(s1="a")
        await bench.dispatch.start()
        items, _ = await bench.ask(Job({"s1": [100.0, "one"]}))
        assert items == ["one"]
        assert {what for _, what, _, _ in bench.engine.asked} == {"load"}
        assert "model server answers again" not in [record.message for record in caplog.records]
        await bench.dispatch.close()

    async def test_whoever_is_heard_is_not_touched(self) -> None:
        bench = Bench(s1="a")
        await bench.dispatch.start()
        await bench.ask(Job({"s1": [step for _ in range(20) for step in (2.0, "x")]}))
        assert bench.engine.asked == []
        await bench.dispatch.close()


async def test_whoever_takes_nothing_is_dropped() -> None:
    bench = Bench(s1="a")
    await bench.dispatch.start()
    dropped: list[float] = []
    loop = asyncio.get_running_loop()
    call = port.Call("req_1", "first", drop=lambda: dropped.append(loop.time()))
    async with (
        bench.dispatch.open(Job({"s1": ["one", "two"]}), MODEL, call) as work,
        contextlib.aclosing(work.answer(0)) as answer,
    ):
        await anext(answer)
        await asyncio.sleep(60.5)
        assert dropped == []
        await asyncio.sleep(2)
        assert len(dropped) == 1
    await bench.dispatch.close()


async def test_whoever_waits_for_the_next_word_is_not_dropped() -> None:
    bench = Bench(s1="a")
    await bench.dispatch.start()
    dropped: list[bool] = []
    items, _ = await bench.ask(Job({"s1": ["one", 100.0, "two"]}), drop=lambda: dropped.append(True))
    assert (items, dropped) == (["one", "two"], [])
    await bench.dispatch.close()


async def test_whoever_waits_for_a_change_hears_of_it() -> None:
    bench = Bench(s1="a")
    loop = asyncio.get_running_loop()
    waiting = asyncio.create_task(bench.dispatch.change(60))
    await asyncio.sleep(1)
    asked = asyncio.create_task(bench.ask(Job({"s1": [60.0]})))
    await waiting
    assert loop.time() == pytest.approx(1.0)
    await bench.dispatch.change(5)
    assert loop.time() == pytest.approx(6.0)
    assert not bench.dispatch._changed
    asked.cancel()


async def test_a_feed_names_models_as_clients_do() -> None:
    bench = Bench(s1="ab")
    for model in (MODEL, OTHER):
        await bench.ask(Job({"s1": ["one"]}), model)
    assert bench.dispatch.feed().models.keys() == {"first", "other"}
    assert bench.dispatch.feed_of_all() == bench.dispatch.feed()
    bench.dispatch.serve(catalog.Catalog([MODEL]))
    assert bench.dispatch.feed().models.keys() == {"first"}


async def test_other_bounds_count_at_once() -> None:
    bench = Bench(s1="a")
    bench.limit()
    asked = [asyncio.create_task(bench.ask(Job({"s1": [5.0, "one"]}))) for _ in range(2)]
    await asyncio.sleep(1)
    bench.limit(max_in_flight_per_server=2)
    assert (bench.dispatch.slots, bench.dispatch.counts()["first"]) == (2, (2, 0))
    await asyncio.gather(*asked)


async def test_tokens_of_a_stream_count_before_its_end() -> None:
    bench = Bench(s1="a")
    asked = asyncio.create_task(bench.ask(Job({"s1": [*["x"] * 16, 5.0, "x"]}), client="me"))
    await asyncio.sleep(1)
    assert bench.dispatch.core._state.lane("a").line._counters["me"] == 32.0
    await asked


async def test_whoever_stops_taking_ends_the_answer_at_its_server() -> None:
    bench = Bench(s1="a")
    job = Job({"s1": ["one", 60.0, "two"]})
    async with (
        bench.dispatch.open(job, MODEL, port.Call("req_1", "first")) as work,
        contextlib.aclosing(work.answer(0)) as answer,
    ):
        assert await anext(answer) == "one"
        assert job.closed == 0
        await answer.aclose()
        assert job.closed == 1


async def test_one_waits_from_its_arrival_on() -> None:
    bench = Bench(s1="a")
    bench.limit(queue_timeout_seconds=5)
    busy = asyncio.create_task(bench.ask(Job({"s1": [60.0]})))
    await asyncio.sleep(1)
    async with bench.dispatch.open(Job({}), MODEL, port.Call("req_1", "first")) as work:
        await asyncio.sleep(3)
        async with refused("queue_timeout"):
            [_ async for _ in work.answer(0)]
    assert asyncio.get_running_loop().time() == pytest.approx(6.0)
    busy.cancel()


async def test_what_follows_a_unit_that_had_to_wait_is_waited_for() -> None:
    bench = Bench(s1="a")
    bench.limit(queue_timeout_seconds=5)
    first = asyncio.create_task(bench.ask(Job({"s1": [4.0]})))
    await asyncio.sleep(1)
    job = Job({"s1": [20.0, "x"]})
    async with bench.dispatch.open(job, MODEL, port.Call("req_1", "first"), units=2) as work:
        assert [item async for item in work.answer(0)] == ["x"]
        assert [item async for item in work.answer(1)] == ["x"]
    await first


async def test_what_waits_beside_a_unit_that_has_begun_is_waited_for() -> None:
    bench = Bench(s1="a")
    bench.limit(queue_timeout_seconds=5)
    first = asyncio.create_task(bench.ask(Job({"s1": [3.0]})))
    await asyncio.sleep(1)
    job = Job({"s1": [20.0, "x"]})
    async with bench.dispatch.open(job, MODEL, port.Call("req_1", "first"), units=2) as work:

        async def items(unit: int) -> list[str]:
            return [item async for item in work.answer(unit)]

        assert await asyncio.gather(items(0), items(1)) == [["x"], ["x"]]
    await first


async def test_a_failure_without_a_code_is_counted_without_one() -> None:
    bench = Bench(s1="a")
    with pytest.raises(errors.ApiError):
        await bench.ask(Job({"s1": [port.ServerFailure(errors.ApiError(500, "no"), "no")]}))
    assert bench.counted.seen == [("failure", "first", "")]


class TestSharing:
    """Proxies that share the slots of their servers."""

    async def test_slots_are_had_once_it_has_begun_and_free_once_it_has_ended(self) -> None:
        shared = board.Board(asyncio.get_running_loop().time)
        await asyncio.sleep(ledger.GRACE_SECONDS)
        bench = Bench(shared, s1="a")
        bench.limit()
        assert bench.dispatch._granted("s1", "a") == 0
        await bench.dispatch.start()
        assert len(shared._ledger.members) == 1
        assert (await bench.ask(Job({"s1": ["one"]})))[0] == ["one"]
        assert bench.dispatch._granted("s1", "a") == 1
        await bench.dispatch.close()
        assert shared._ledger.members == []
        assert asyncio.all_tasks() == {asyncio.current_task()}

    async def test_where_slots_are_not_counted_none_are_shared(self) -> None:
        bench = Bench(board.Board(asyncio.get_running_loop().time), s1="a")
        assert bench.dispatch._granted("s1", "a") is None

    async def test_what_one_loads_the_others_hear_at_once(self) -> None:
        shared = board.Board(asyncio.get_running_loop().time)
        await asyncio.sleep(ledger.GRACE_SECONDS)
        bench = Bench(shared, s1="a")
        bench.limit()
        await bench.dispatch.start()
        await bench.ask(Job({"s1": ["one"]}))
        await asyncio.sleep(4.5)
        bench.loaded["s1"] = ""
        bench.look()
        asked = asyncio.create_task(bench.ask(Job({"s1": [60.0]})))
        await asyncio.sleep(0.01)
        [told] = shared._told.values()
        assert told.memory.used == {("s1", "a")}
        asked.cancel()
        await bench.dispatch.close()

    async def test_what_needs_nothing_of_the_others_is_not_told_at_once(self) -> None:
        shared = board.Board(asyncio.get_running_loop().time)
        await asyncio.sleep(ledger.GRACE_SECONDS)
        bench = Bench(shared, s1="a")
        bench.limit(max_in_flight_per_server=2)
        await bench.dispatch.start()
        await bench.ask(Job({"s1": ["one"]}))
        await asyncio.sleep(4.5)
        [before] = shared._turns.values()
        asked = asyncio.create_task(bench.ask(Job({"s1": [60.0]})))
        await asyncio.sleep(0.01)
        assert list(shared._turns.values()) == [before]
        asked.cancel()
        await bench.dispatch.close()

    async def test_what_one_does_not_need_the_other_gets_at_once(self) -> None:
        shared = board.Board(asyncio.get_running_loop().time)
        benches = [Bench(shared, s1="a") for _ in range(2)]
        for bench in benches:
            bench.limit(max_in_flight_per_server=2)
            await bench.dispatch.start()
        await asyncio.sleep(5)
        asked = [asyncio.create_task(benches[0].ask(Job({"s1": [60.0]}))) for _ in range(2)]
        await asyncio.sleep(0.01)
        assert benches[0].dispatch.counts()["first"] == (2, 0)
        for task in asked:
            task.cancel()
        for bench in benches:
            await bench.dispatch.close()

    async def test_a_server_that_hangs_for_one_gets_nothing_from_the_others(self) -> None:
        shared = board.Board(asyncio.get_running_loop().time)
        benches = [Bench(shared, s1="a", s2="a") for _ in range(2)]
        for bench in benches:
            bench.limit(max_in_flight_per_server=4)
            await bench.dispatch.start()
        benches[0].engine.answers = False
        benches[0].dispatch.core._state.servers["s1"].sick = "a"
        await asyncio.sleep(3)
        assert benches[1].dispatch.feed_of_all().sick == {"s1": "first"}
        job = Job({"s1": [9.0, "one"], "s2": [9.0, "two"]})
        found = await asyncio.gather(*(benches[1].ask(job) for _ in range(2)))
        assert [items for items, _ in found] == [["two"]] * 2
        for bench in benches:
            await bench.dispatch.close()


async def test_nothing_is_decided_after_the_end() -> None:
    bench = Bench(s1="b")
    bench.limit(max_loaded_per_server=1)
    await bench.ask(Job({"s1": ["one"]}), OTHER)
    asked = asyncio.create_task(bench.ask(Job({"s1": ["one"]})))
    await asyncio.sleep(0)
    alarm = bench.dispatch._alarm
    assert alarm is not None
    await bench.dispatch.close()
    assert alarm.cancelled()
    asked.cancel()


async def test_a_slot_that_a_client_leaves_goes_to_the_next_at_once() -> None:
    bench = Bench(s1="a")
    bench.limit()
    leaver = asyncio.create_task(bench.ask(Job({"s1": [60.0]})))
    await asyncio.sleep(1)
    waiting = asyncio.create_task(bench.ask(Job({"s1": ["one"]})))
    await asyncio.sleep(1)
    leaver.cancel()
    assert (await waiting)[1].queued_seconds == 1.0


async def test_a_model_makes_room_when_its_time_has_come() -> None:
    bench = Bench(s1="b")
    bench.limit(max_loaded_per_server=1)
    await bench.ask(Job({"s1": ["one"]}), OTHER)
    _, call = await bench.ask(Job({"s1": ["one"]}))
    # Twice what the other is worth: five seconds of loading, should it be asked for again.
    assert call.queued_seconds == pytest.approx(3 * 5 * (1 - math.exp(-20 / 600)), abs=0.01)
