"""Models that are loaded before anybody asks: once a start of their server, and again where that failed."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator

import httpx
import pytest

from modelset_operator.engines import loads, ollama, state

from . import fake_ollama

OWNER = ("default", "assistants")
IP = "10.0.0.1"


@dataclasses.dataclass
class Bench:
    """Loads with one pod, a clock that tests turn, and what was told."""

    fleet: fake_ollama.FakeOllamas
    loads: loads.Loads
    told: asyncio.Queue[loads.Set]
    now: list[float]

    def asked(self) -> list[str]:
        return self.fleet.servers[IP].requests

    async def until(self, key: str, load: state.Load) -> None:
        while self.loads.view(OWNER)["pod-0", key] != load:
            await self.told.get()
        # The task has ended when all that it had to do is told.
        await asyncio.gather(*self.loads._tasks.get(OWNER, {}).values())


def wanted(key: str, started: str = "first", context: int | None = 512) -> state.WantedLoad:
    return state.WantedLoad("assistants-ollama-0", "pod-0", started, IP, key, key, "-1", context)


DONE = state.Load(done=True)
REFUSED = state.Load(message="model requires more system memory (5.1 GiB) than is available (4.0 GiB)")


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    fleet = fake_ollama.FakeOllamas()
    fleet.servers[IP] = fake_ollama.Server(held=dict.fromkeys(("a:1", "b:1"), fake_ollama.Published()))
    told: asyncio.Queue[loads.Set] = asyncio.Queue()
    now = [1000.0]
    client = ollama.Ollama(httpx.AsyncClient(transport=fleet))
    found = loads.Loads(client, told.put_nowait, lambda: now[0])
    yield Bench(fleet, found, told, now)
    await found.close()


async def test_models_are_loaded_one_after_the_other_in_the_length_that_is_pinned(bench: Bench) -> None:
    assert bench.loads.sync(OWNER, [wanted("a:1"), wanted("b:1", context=None)]) is None
    assert bench.loads.view(OWNER) == dict.fromkeys([("pod-0", "a:1"), ("pod-0", "b:1")], state.Load())
    await bench.until("b:1", DONE)
    assert bench.asked() == ["/api/embed a:1", "/api/embed b:1"]
    assert bench.fleet.servers[IP].contexts == {"a:1": 512, "b:1": None}


@pytest.mark.parametrize(
    ("after", "times"),
    [
        pytest.param(wanted("a:1"), 1, id="evicted: that is the proxy's business"),
        pytest.param(wanted("a:1", started="again"), 2, id="its server was restarted"),
        pytest.param(wanted("a:1", context=1024), 2, id="another length"),
    ],
)
async def test_a_model_is_loaded_again_only_where_its_server_is_another(
    bench: Bench, after: state.WantedLoad, times: int
) -> None:
    bench.loads.sync(OWNER, [wanted("a:1")])
    await bench.until("a:1", DONE)
    bench.fleet.servers[IP].loaded.clear()
    bench.loads.sync(OWNER, [after])
    await bench.until("a:1", DONE)
    assert bench.asked() == ["/api/embed a:1"] * times


async def test_a_load_that_is_refused_tells_why_and_is_tried_again_later_and_later(bench: Bench) -> None:
    bench.fleet.too_large.add("a:1")
    delays = []
    for _ in range(8):
        bench.loads.sync(OWNER, [wanted("a:1"), wanted("b:1")])
        await bench.until("a:1", REFUSED)
        retry = bench.loads.sync(OWNER, [wanted("a:1"), wanted("b:1")])
        assert retry is not None
        delays.append(retry)
        bench.now[0] += retry
    assert delays == [5, 10, 20, 40, 80, 160, 300, 300]
    bench.fleet.too_large.clear()
    bench.loads.sync(OWNER, [wanted("a:1"), wanted("b:1")])
    await bench.until("a:1", DONE)
    assert bench.loads.sync(OWNER, [wanted("a:1"), wanted("b:1")]) is None


async def test_a_load_that_hangs_ends_with_its_time(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loads, "LOAD_SECONDS", 0.01)
    bench.fleet.hanging.add(IP)
    bench.loads.sync(OWNER, [wanted("a:1")])
    await bench.told.get()
    assert bench.loads.view(OWNER)["pod-0", "a:1"].message.startswith("it took more than")


async def test_what_is_not_wanted_any_more_is_forgotten(bench: Bench) -> None:
    bench.fleet.hanging.add(IP)
    bench.loads.sync(OWNER, [wanted("a:1")])
    (task,) = bench.loads._tasks[OWNER].values()
    bench.loads.forget(OWNER)
    await asyncio.wait([task], timeout=5)
    assert task.cancelled()
    assert bench.loads.view(OWNER) == {}


async def test_a_load_that_is_overdue_is_due_now(bench: Bench) -> None:
    bench.fleet.too_large.add("a:1")
    bench.loads.sync(OWNER, [wanted("a:1")])
    await bench.until("a:1", REFUSED)
    bench.now[0] += 60
    assert bench.loads.sync(OWNER, [wanted("a:1")]) == 0


async def test_what_was_ended_is_loaded_when_it_is_asked_for_again(bench: Bench) -> None:
    bench.fleet.hanging.add(IP)
    bench.loads.sync(OWNER, [wanted("a:1")])
    await bench.loads.close()
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("load on")]
    bench.fleet.hanging.clear()
    bench.loads.sync(OWNER, [wanted("a:1")])
    await bench.until("a:1", DONE)
