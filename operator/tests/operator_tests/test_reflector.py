"""A store that is kept in step: whatever ends a watch is survived, and told."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from modelset_operator.cluster import http, kinds, reflector, store

from . import builders, fake_api

UNREACHABLE = http.UnreachableError("the API server does not answer")
FORBIDDEN = http.RefusedError(403, "pods is forbidden")
BUSY = http.RefusedError(429, "too many requests", retry_after=9.0)


class Flaky(fake_api.FakeApi):
    """Fails as told: ``lists`` are errors of the next lists, ``watches`` of watches after an event."""

    def __init__(self) -> None:
        super().__init__()
        self.lists: list[Exception] = []
        self.watches: list[Exception] = []

    async def list(
        self, kind: kinds.Kind, namespace: str, labels: str
    ) -> AsyncIterator[tuple[list[dict[str, Any]], str]]:
        if self.lists:
            raise self.lists.pop(0)
        async for objects, version in super().list(kind, namespace, labels):
            # One at a time; none is a page as well.
            for page in [[one] for one in objects] or [[]]:
                yield page, version

    async def watch(
        self, kind: kinds.Kind, namespace: str, labels: str, since: str, seconds: int
    ) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        async for event in super().watch(kind, namespace, labels, since, seconds):
            yield event
            if self.watches and event[0] != http.BEGUN:
                raise self.watches.pop(0)


class Bench:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.api = Flaky()
        self.now = 0.0
        self.slept: list[float] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.told: list[store.Key] = []
        self.store = store.Store(kinds.MODEL_SET, lambda obj: obj["metadata"]["name"], self.told.append)
        self.reflector = reflector.Reflector(
            self.api, reflector.Selection(kinds.MODEL_SET), self.store, lambda: self.now
        )
        monkeypatch.setattr(reflector.random, "uniform", lambda _low, _high: 1.0)
        real_sleep = asyncio.sleep

        async def sleep(seconds: float) -> None:
            self.slept.append(seconds)
            self.now += seconds
            await real_sleep(0)

        monkeypatch.setattr(reflector.asyncio, "sleep", sleep)
        self.sleep = real_sleep

    def start(self) -> None:
        self.tasks.append(asyncio.create_task(self.reflector.run()))

    async def started(self) -> None:
        self.start()
        await self.reflector.synced.wait()

    async def until(self, *names: str) -> None:
        while {name for _, name in self.store._objects} != set(names):
            await self.sleep(0)


@pytest.fixture
async def bench(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    bench = Bench(monkeypatch)
    bench.api.put(builders.resource("a:1"))
    yield bench
    for task in bench.tasks:
        task.cancel()
    await asyncio.gather(*bench.tasks, return_exceptions=True)


def other(name: str) -> dict[str, Any]:
    found = builders.resource("a:1")
    found["metadata"] = {**found["metadata"], "name": name, "uid": name}
    return found


async def test_what_is_there_is_listed_and_what_happens_is_watched(bench: Bench) -> None:
    await bench.started()
    assert bench.told == [("default", "assistants")]
    bench.api.put(other("second"))
    await bench.until("assistants", "second")
    bench.api.remove("OllamaModelSet", "default", "assistants")
    await bench.until("second")
    assert bench.api.reads == ["list ollamamodelsets", "watch ollamamodelsets"]


async def test_all_pages_of_a_list_count(bench: Bench) -> None:
    bench.api.put(other("second"))
    bench.api.put(other("third"))
    await bench.started()
    assert {name for _, name in bench.store} == {"assistants", "second", "third"}


@pytest.mark.parametrize("error", [UNREACHABLE, BUSY])
async def test_a_watch_that_breaks_goes_on_where_it_was(bench: Bench, error: Exception) -> None:
    await bench.started()
    bench.api.watches.append(error)
    bench.api.put(other("second"))
    await bench.until("assistants", "second")
    while bench.reflector.problem or not bench.slept:
        # It works again when it has begun, with nothing to tell.
        await bench.sleep(0)
    bench.api.put(other("third"))
    await bench.until("assistants", "second", "third")
    assert bench.api.reads == ["list ollamamodelsets", *["watch ollamamodelsets"] * 2]
    assert bench.slept == [9.0 if error is BUSY else 1.0]
    assert bench.reflector.problem == ""


async def test_a_watch_that_expires_begins_with_a_new_list(bench: Bench) -> None:
    await bench.started()
    bench.api.watches.append(http.ExpiredError())
    bench.api.put(other("second"))
    bench.api.remove("OllamaModelSet", "default", "assistants")
    await bench.until("second")
    assert bench.api.reads.count("list ollamamodelsets") == 2


@pytest.mark.parametrize("error", [UNREACHABLE, FORBIDDEN])
async def test_a_list_that_fails_for_minutes_is_tried_on_and_told(bench: Bench, error: Exception) -> None:
    bench.api.lists += [error] * 8
    bench.start()
    while bench.api.lists:
        assert not bench.reflector.synced.is_set()
        await bench.sleep(0)
    assert bench.reflector.problem == str(error)
    assert bench.now - bench.reflector.problem_since > 100
    await bench.until("assistants")
    assert bench.slept == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    assert bench.reflector.problem == ""


async def test_a_watch_that_is_forbidden_begins_with_a_new_list(bench: Bench) -> None:
    await bench.started()
    bench.api.watches.append(FORBIDDEN)
    bench.api.put(other("second"))
    while bench.api.reads.count("list ollamamodelsets") < 2:
        await bench.sleep(0)
    assert bench.slept == [1.0]


async def test_a_kind_that_comes_late_is_found(bench: Bench) -> None:
    bench.api.missing_kinds.add("OllamaModelSet")
    await bench.started()
    assert bench.reflector.missing
    assert len(bench.store) == 0
    bench.api.missing_kinds.clear()
    await bench.until("assistants")
    assert not bench.reflector.missing


async def test_all_is_listed_anew_now_and_then(bench: Bench) -> None:
    await bench.started()
    bench.now = reflector.RESYNC_SECONDS + 1
    bench.api.watches.append(UNREACHABLE)
    bench.api.put(other("second"))
    while bench.api.reads.count("list ollamamodelsets") < 2:
        await bench.sleep(0)


async def test_a_watch_that_breaks_begins_behind_the_last_event_or_bookmark(bench: Bench) -> None:
    begun: list[str] = []
    bookmark = {"metadata": {"resourceVersion": "70"}}

    async def watch(*selection: Any) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        begun.append(selection[3])
        match len(begun):
            case 1:
                added = other("second")
                added["metadata"]["resourceVersion"] = "50"
                yield "ADDED", added
                raise UNREACHABLE
            case 2:
                yield "BOOKMARK", bookmark
                raise UNREACHABLE
            case _:
                await asyncio.Event().wait()

    bench.api.watch = watch  # type: ignore[method-assign, assignment]
    await bench.started()
    while len(begun) < 3:
        await bench.sleep(0)
    assert begun == ["1", "50", "70"]
    assert set(bench.store) == {("default", "assistants"), ("default", "second")}
    # Each of them was in step in between.
    assert bench.slept == [1.0, 1.0]


async def test_what_is_known_goes_with_its_kind(bench: Bench) -> None:
    await bench.started()
    bench.told.clear()
    bench.api.missing_kinds.add("OllamaModelSet")
    bench.api.watches.append(http.ExpiredError())
    bench.api.put(other("second"))
    while not bench.reflector.missing:
        await bench.sleep(0)
    assert len(bench.store) == 0
    assert ("default", "assistants") in bench.told


async def test_a_problem_is_logged_once_and_so_is_its_end(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.api.lists += [UNREACHABLE, UNREACHABLE, FORBIDDEN]
    with caplog.at_level("INFO"):
        assert (bench.reflector.problem, bench.reflector.missing) == ("", False)
        await bench.started()
        await bench.until("assistants")
    told = [record.getMessage() for record in caplog.records if record.name.endswith("reflector")]
    name = "ollamamodelsets in all namespaces"
    assert told == [
        f"{name} cannot be watched, trying on: {UNREACHABLE}",
        f"{name} cannot be watched, trying on: {FORBIDDEN}",
        f"{name}: watching again",
    ]


async def test_a_kind_that_is_missing_is_logged_once_and_so_is_that_it_comes(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.api.missing_kinds.add("OllamaModelSet")
    with caplog.at_level("INFO"):
        bench.start()
        while bench.now < 30:
            await bench.sleep(0)
        bench.api.missing_kinds.clear()
        await bench.until("assistants")
    told = [record.getMessage().partition(": ")[2] for record in caplog.records]
    assert told == ["the API server does not know the kind", "the API server knows the kind now"]


async def test_a_watch_that_is_behind_is_overtaken_by_a_list_and_undoes_nothing_of_it(bench: Bench) -> None:
    bench.api.put(other("second"))
    await bench.started()
    await bench.api.told()
    with bench.api.edited("OllamaModelSet", "assistants") as found:
        found["spec"] = {"models": [{"name": "a:2"}]}
    bench.api.remove("OllamaModelSet", "default", "second")

    def known() -> list[str]:
        return [one["spec"]["models"][0]["name"] for one in bench.store.values()]

    await bench.reflector.renew()
    assert known() == ["a:2"]
    await bench.api.told()
    assert known() == ["a:2"]


@pytest.mark.parametrize(
    "error", [UNREACHABLE, FORBIDDEN, http.ExpiredError("7"), http.KindMissingError("x")]
)
async def test_what_cannot_be_listed_anew_stays_as_it_is(bench: Bench, error: Exception) -> None:
    await bench.started()
    bench.api.lists.append(error)
    await bench.reflector.renew()
    assert {name for _, name in bench.store} == {"assistants"}
