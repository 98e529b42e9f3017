"""Downloads in the background, against Ollamas that behave as real ones."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from modelset_operator import metrics
from modelset_operator.api import sources
from modelset_operator.engines import ollama, port, pulls, state

from . import fake_ollama

OWNER = ("default", "assistants")
RUNNING = state.PullPhase.RUNNING
MODELS = ("a:1", "b:1", "c:1")


@dataclasses.dataclass
class Bench:
    """Pulls with one pod, a clock that tests turn, the pokes that arrived, and the pods that got a model."""

    fleet: fake_ollama.FakeOllamas
    pulls: pulls.Pulls
    pokes: asyncio.Queue[pulls.Set]
    changed: list[tuple[pulls.Set, str]]
    now: list[float]

    def sync(self, *models: str, unseen: tuple[str, ...] = ()) -> float | None:
        return self.pulls.sync(OWNER, [wanted(model) for model in models], unseen)

    def view(self, model: str) -> state.Pull:
        return self.pulls.view(OWNER)[("pod-0", model)]

    async def until(self, *phases: tuple[str, state.PullPhase]) -> None:
        """Wait, poke by poke, until downloads are in these phases and no task of theirs runs."""
        while any(self.view(model).phase is not phase for model, phase in phases):
            await self.pokes.get()

    async def done(self, model: str) -> None:
        while self.view(model).fraction < 1 or model not in self.fleet.servers["10.0.0.1"].held:
            await self.pokes.get()


def unheard(_owner: pulls.Set, _uid: str) -> None:
    """Nobody is to be told of pods that have got a model."""


def wanted(model: str, insecure: bool = False) -> state.WantedPull:
    source = sources.Source("registry.ollama.ai", insecure)
    return state.WantedPull("assistants-ollama-0", "pod-0", "10.0.0.1", model, model, source)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    fleet = fake_ollama.FakeOllamas()
    fleet.servers["10.0.0.1"] = fake_ollama.Server()
    fleet.registry.update({model: fake_ollama.Published() for model in MODELS})
    pokes: asyncio.Queue[pulls.Set] = asyncio.Queue()
    now = [1000.0]
    client = ollama.Ollama(httpx.AsyncClient(transport=fleet))
    changed: list[tuple[pulls.Set, str]] = []
    downloads = pulls.Pulls(
        client, pokes.put_nowait, lambda owner, uid: changed.append((owner, uid)), lambda: now[0]
    )
    yield Bench(fleet, downloads, pokes, changed, now)
    await downloads.close()


async def test_a_download_runs_by_itself_and_tells_when_it_is_done(bench: Bench) -> None:
    bench.sync("a:1")
    await bench.done("a:1")
    assert bench.fleet.servers["10.0.0.1"].requests == ["/api/pull a:1"]
    assert bench.changed == [(OWNER, "pod-0")]
    assert bench.sync() is None
    assert bench.pulls.view(OWNER) == {}


async def test_progress_is_over_all_layers_and_never_falls(bench: Bench) -> None:
    bench.fleet.proceed.clear()
    bench.sync("a:1")
    await bench.pokes.get()
    first = bench.view("a:1").fraction
    bench.fleet.proceed.set()
    await bench.done("a:1")
    assert 0 < first <= 0.5
    # The second layer, when it becomes known, lowers the share to 1.0/1.5; what is told does not fall.
    assert bench.view("a:1").fraction == 1.0


async def test_only_so_many_at_once_on_a_pod(bench: Bench) -> None:
    bench.fleet.proceed.clear()
    bench.sync(*MODELS)
    await bench.until(("a:1", state.PullPhase.RUNNING), ("b:1", state.PullPhase.RUNNING))
    assert bench.view("c:1").phase is state.PullPhase.WAITING
    bench.fleet.proceed.set()
    await bench.done("a:1")
    bench.sync("b:1", "c:1")
    await bench.done("c:1")


def variant(name: str, **words: Any) -> state.WantedPull:
    recipe = state.Recipe(
        "base:1", **{"system": "", "template": "", "parameters": {}, **words}, mark="a b c d"
    )
    return dataclasses.replace(wanted(name), recipe=recipe)


async def test_variants_do_not_wait_for_downloads_and_are_made_a_few_at_a_time(bench: Bench) -> None:
    bench.fleet.servers["10.0.0.1"].held["base:1"] = fake_ollama.Published()
    bench.fleet.proceed.clear()
    bench.pulls.sync(OWNER, [*map(wanted, MODELS), *map(variant, ("x:1", "y:1", "z:1"))])
    running = {model for (_, model), pull in bench.pulls.view(OWNER).items() if pull.phase is RUNNING}
    assert running == {"a:1", "b:1", "x:1", "y:1"}
    await bench.done("x:1")
    await bench.done("y:1")
    assert not bench.fleet.servers["10.0.0.1"].held.keys() & set(MODELS)


async def test_making_a_variant_counts_as_no_download(bench: Bench) -> None:
    bench.fleet.servers["10.0.0.1"].held["base:1"] = fake_ollama.Published()
    before = metrics.REGISTRY.get_sample_value("modelset_operator_pulls_started_total")
    bench.pulls.sync(OWNER, [variant("x:1")])
    await bench.done("x:1")
    assert metrics.REGISTRY.get_sample_value("modelset_operator_pulls_started_total") == before


async def test_another_recipe_is_made_at_once(bench: Bench) -> None:
    bench.fleet.servers["10.0.0.1"].held["base:1"] = fake_ollama.Published()
    bench.pulls.sync(OWNER, [variant("x:1", template="{{")])
    await bench.until(("x:1", state.PullPhase.FAILED))
    assert bench.pulls.sync(OWNER, [variant("x:1", template="{{")]) == pulls.FIRST_RETRY_SECONDS
    bench.pulls.sync(OWNER, [variant("x:1", system="Be polite.")])
    await bench.done("x:1")


async def test_a_base_that_is_gone_by_then_is_not_told_as_an_unknown_variant() -> None:
    line = b'{"error": "pull model manifest: file does not exist"}'
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=line))
    told: asyncio.Queue[pulls.Set] = asyncio.Queue()
    making = pulls.Pulls(ollama.Ollama(httpx.AsyncClient(transport=transport)), told.put_nowait, unheard)
    making.sync(OWNER, [variant("x:1")])
    await told.get()
    pull = making.view(OWNER)["pod-0", "x:1"]
    assert (pull.message, pull.unknown_model) == ("pull model manifest: file does not exist", False)


async def test_a_refusal_is_kept_and_tried_again_later_and_later(bench: Bench) -> None:
    bench.fleet.broken["a:1"] = "no such host"
    delays = []
    for attempt in range(1, 9):
        bench.sync("a:1")
        await bench.pokes.get()
        pull = bench.view("a:1")
        assert (pull.phase, pull.failures, pull.message) == (state.PullPhase.FAILED, attempt, "no such host")
        retry = bench.sync("a:1")
        assert retry is not None
        delays.append(retry)
        bench.now[0] += retry
    assert delays == [5, 10, 20, 40, 80, 160, 300, 300]
    assert bench.changed == []
    bench.fleet.broken.clear()
    bench.sync("a:1")
    await bench.done("a:1")
    assert bench.view("a:1").failures == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        pytest.param(
            "digest mismatch, file must be downloaded again: want sha256:aa, got sha256:bb", "", id="lies"
        ),
        pytest.param("max retries exceeded: unexpected EOF", "", id="cuts"),
        pytest.param("pull model manifest: 503: ", "", id="fails"),
        pytest.param(
            "max retries exceeded: read tcp 10.0.0.1:51234->192.0.2.1:443: read: connection reset by peer",
            "max retries exceeded: read tcp 192.0.2.1:443: read: connection reset by peer",
            id="hangs-up",
        ),
    ],
)
async def test_what_a_bad_registry_does_is_told_not_held_and_made_good(
    bench: Bench, words: str, told: str
) -> None:
    """The words are Ollama's (server/images.go, download.go)."""
    bench.fleet.broken["a:1"] = words
    bench.sync("a:1")
    await bench.until(("a:1", state.PullPhase.FAILED))
    pull = bench.view("a:1")
    assert (pull.message, pull.unknown_model) == (told or words, False)
    assert bench.fleet.servers["10.0.0.1"].held == {}
    bench.fleet.broken.clear()
    bench.now[0] += 5
    bench.sync("a:1")
    await bench.done("a:1")


async def test_a_model_that_the_registry_does_not_have(bench: Bench) -> None:
    bench.sync("nope:1")
    await bench.until(("nope:1", state.PullPhase.FAILED))
    pull = bench.view("nope:1")
    assert pull.unknown_model
    assert pull.message == "pull model manifest: file does not exist (the registry has no nope:1)"


async def test_a_pod_that_goes_away_has_not_failed(bench: Bench) -> None:
    bench.fleet.unreachable.add("10.0.0.1")
    bench.sync("a:1")
    await bench.until(("a:1", state.PullPhase.INTERRUPTED))
    assert bench.view("a:1").failures == 0
    assert bench.sync("a:1") == 5


async def test_a_pod_that_stays_away_is_asked_later_and_later_and_as_before_once_it_was_there(
    bench: Bench,
) -> None:
    delays = []
    for away in (True, True, True, False, True):
        bench.fleet.unreachable = {"10.0.0.1"} if away else set()
        bench.sync("a:1")
        await bench.until(("a:1", state.PullPhase.INTERRUPTED if away else RUNNING))
        while (retry := bench.sync("a:1")) is None:
            await bench.pokes.get()
        delays.append(retry)
        bench.now[0] += retry
    assert delays == [5, 10, 20, 5, 5]


async def test_why_a_download_failed_stays_told_while_its_pod_is_away(bench: Bench) -> None:
    bench.fleet.broken["a:1"] = "no such host"
    bench.sync("a:1")
    await bench.until(("a:1", state.PullPhase.FAILED))
    bench.fleet.unreachable.add("10.0.0.1")
    bench.now[0] += 5
    bench.sync("a:1")
    await bench.until(("a:1", state.PullPhase.INTERRUPTED))
    assert (bench.view("a:1").message, bench.view("a:1").failures) == ("no such host", 1)
    bench.fleet.broken.clear()
    bench.fleet.unreachable.clear()
    bench.now[0] += 5
    bench.sync("a:1")
    await bench.done("a:1")
    assert (bench.view("a:1").message, bench.view("a:1").failures) == ("", 0)


async def test_what_is_missing_again_after_a_download_is_not_fetched_in_a_busy_loop(bench: Bench) -> None:
    bench.sync("a:1")
    await bench.done("a:1")
    while bench.sync("a:1") is None:
        await bench.pokes.get()
    server = bench.fleet.servers["10.0.0.1"]
    server.held.clear()
    assert bench.sync("a:1") == 5
    bench.now[0] += 4
    assert bench.sync("a:1") == 1
    bench.now[0] += 1
    bench.sync("a:1")
    assert (bench.view("a:1").phase, bench.view("a:1").moving) == (RUNNING, False)
    while not server.held:
        await bench.pokes.get()
    assert server.requests == ["/api/pull a:1"] * 2


async def test_a_download_that_is_overdue_is_due_now(bench: Bench) -> None:
    bench.fleet.broken |= dict.fromkeys(MODELS, "no such host")
    for model in MODELS[1:]:
        # The third one is begun by whoever looks next.
        bench.sync(*MODELS)
        await bench.until((model, state.PullPhase.FAILED))
    bench.fleet.proceed.clear()
    bench.fleet.broken.clear()
    bench.now[0] += 60
    assert bench.sync(*MODELS) == 0


async def test_where_a_pod_is_now_is_where_a_download_goes(bench: Bench) -> None:
    bench.fleet.unreachable.add("10.0.0.1")
    bench.sync("a:1")
    await bench.until(("a:1", state.PullPhase.INTERRUPTED))
    bench.fleet.servers["10.0.0.2"] = fake_ollama.Server()
    moved = dataclasses.replace(wanted("a:1"), ip="10.0.0.2")
    bench.now[0] += 5
    bench.pulls.sync(OWNER, [moved])
    while "a:1" not in bench.fleet.servers["10.0.0.2"].held:
        await bench.pokes.get()


async def test_what_was_stopped_altogether_can_be_begun_again(bench: Bench) -> None:
    bench.fleet.proceed.clear()
    bench.sync("a:1")
    await bench.pokes.get()
    await bench.pulls.close()
    assert bench.pulls.view(OWNER) == {}
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "a:1"]
    bench.fleet.proceed.set()
    bench.sync("a:1")
    await bench.done("a:1")


async def test_what_is_not_wanted_any_more_is_stopped(bench: Bench) -> None:
    bench.fleet.proceed.clear()
    bench.sync("a:1")
    await bench.pokes.get()
    [pull] = [task for task in asyncio.all_tasks() if task.get_name() == "a:1"]
    bench.sync()
    await asyncio.wait([pull], timeout=5)
    assert pull.cancelled()
    assert bench.fleet.servers["10.0.0.1"].held == {}


async def test_what_a_set_downloads_that_is_gone_is_stopped_and_another_one_of_the_name_begins_anew(
    bench: Bench,
) -> None:
    bench.fleet.proceed.clear()
    bench.sync("a:1")
    await bench.pokes.get()
    [pull] = [task for task in asyncio.all_tasks() if task.get_name() == "a:1"]
    bench.pulls.forget(OWNER)
    await asyncio.wait([pull], timeout=5)
    assert pull.cancelled()
    assert bench.pulls.view(OWNER) == {}
    assert bench.pokes.empty()
    bench.sync("a:1")
    # It tells at once how far it is.
    await bench.pokes.get()
    assert 0 < bench.view("a:1").fraction < 1


async def test_a_look_that_failed_stops_no_download(bench: Bench) -> None:
    bench.fleet.proceed.clear()
    bench.sync("a:1")
    await bench.pokes.get()
    bench.sync(unseen=("pod-0",))
    bench.fleet.proceed.set()
    await bench.done("a:1")
    assert bench.fleet.servers["10.0.0.1"].requests == ["/api/pull a:1"]


async def test_a_look_that_failed_forgets_no_failure(bench: Bench) -> None:
    bench.fleet.broken["a:1"] = "no space left on device"
    bench.sync("a:1")
    await bench.until(("a:1", state.PullPhase.FAILED))
    bench.sync(unseen=("pod-0",))
    assert bench.view("a:1").failures == 1
    bench.sync(unseen=("another",))
    assert bench.pulls.view(OWNER) == {}


async def test_another_way_to_the_registry_starts_afresh(bench: Bench) -> None:
    bench.fleet.broken["a:1"] = "server gave HTTP response to HTTPS client"
    bench.sync("a:1")
    await bench.until(("a:1", state.PullPhase.FAILED))
    bench.fleet.broken.clear()
    bench.fleet.proceed.clear()
    bench.pulls.sync(OWNER, [wanted("a:1", insecure=True)])
    [pull] = [task for task in asyncio.all_tasks() if task.get_name() == "a:1"]
    # Back again, before that has come to an end.
    bench.sync("a:1")
    await asyncio.wait([pull], timeout=5)
    assert pull.cancelled()
    bench.fleet.proceed.set()
    await bench.done("a:1")


async def test_pokes_about_progress_are_rare(bench: Bench) -> None:
    bench.fleet.registry["a:1"] = fake_ollama.Published(layers=(1000,) * 50)
    bench.sync("a:1")
    await bench.done("a:1")
    # The clock stands still: one poke for the first progress, one for the end.
    assert bench.pokes.qsize() <= 1


@pytest.mark.parametrize(("seconds", "told"), [(2.9, 2), (3.0, 5)])
async def test_progress_is_told_every_three_seconds(seconds: float, told: int) -> None:
    now, pokes = [1000.0], asyncio.Queue[pulls.Set]()

    class Timed(Reporting):
        async def ensure(self, *_: object, again: bool = False) -> AsyncIterator[port.Progress]:
            async for report in super().ensure():
                yield report
                now[0] += seconds

    reports = [port.Progress("pulling", "layer", 100, completed) for completed in (10, 20, 30, 40)]
    downloads = pulls.Pulls(Timed(*reports), pokes.put_nowait, unheard, lambda: now[0])
    downloads.sync(OWNER, [wanted("a:1")])
    await asyncio.gather(*(task for task in asyncio.all_tasks() if task.get_name() == "a:1"))
    # The end is told whenever it comes.
    assert pokes.qsize() == told + (seconds < 3)


async def test_a_download_gets_on_with_all_layers_that_are_known_and_tells_how_large_they_are() -> None:
    views: list[state.Pull] = []
    steps = [("a", 100, 50), ("b", 300, 0), ("", 7, 7), ("c", 0, 0), ("a", 100, 100), ("b", 300, 300)]
    reports = [port.Progress("pulling", digest, total, completed) for digest, total, completed in steps]

    class Watched(Reporting):
        async def ensure(self, *_: object, again: bool = False) -> AsyncIterator[port.Progress]:
            async for report in super().ensure():
                yield report
                views.append(downloads.view(OWNER)["pod-0", "a:1"])

    downloads = pulls.Pulls(Watched(*reports), lambda _: None, unheard)
    downloads.sync(OWNER, [wanted("a:1")])
    await asyncio.gather(*(task for task in asyncio.all_tasks() if task.get_name() == "a:1"))
    shares = [0.5, 0.5, 0.5, 0.5, 0.5, 1.0]
    assert [(view.fraction, view.total) for view in views] == list(
        zip(shares, [100, *[400] * 5], strict=True)
    )
    assert all(view.moving for view in views)


async def test_a_download_that_a_defect_has_ended_failed_and_is_tried_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def defect(*_: object) -> None:
        raise RuntimeError("a defect")

    with monkeypatch.context() as broken:
        broken.setattr(bench.pulls, "_stream", defect)
        bench.sync("a:1")
        await bench.until(("a:1", state.PullPhase.FAILED))
    assert "a defect" in bench.view("a:1").message
    bench.now[0] += 10
    bench.sync("a:1")
    await bench.done("a:1")


class Reporting(ollama.Ollama):
    """Reports what a test says."""

    def __init__(self, *reports: port.Progress) -> None:
        self.reports = reports

    async def ensure(self, *_: object, again: bool = False) -> AsyncIterator[port.Progress]:
        for report in self.reports:
            yield report


async def test_bytes_are_counted_that_have_come_and_not_those_that_were_there() -> None:
    def count() -> float:
        return metrics.REGISTRY.get_sample_value("modelset_operator_pulled_bytes_total") or 0.0

    before, done = count(), asyncio.Event()
    reports = [port.Progress("pulling", "layer", 100, completed) for completed in (40, 60, 100)]
    downloads = pulls.Pulls(Reporting(*reports), lambda _: done.set(), unheard)
    downloads.sync(OWNER, [wanted("a:1")])
    while downloads.view(OWNER)[("pod-0", "a:1")].fraction < 1:
        done.clear()
        await done.wait()
    assert count() - before == 60
    await downloads.close()
