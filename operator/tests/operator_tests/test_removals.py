"""Models that are taken off pods: one after the other on each, and again later where that failed."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator

import httpx
import pytest

from modelset_operator.engines import ollama, removals, state

from . import fake_ollama

OWNER, OTHER = ("default", "one"), ("default", "two")
IP, IP_2 = "10.0.0.1", "10.0.0.2"
MODELS = ("a:1", "b:1")


def unwanted(reference: str, ip: str = IP, *, loaded: bool = False) -> state.Removal:
    return state.Removal(f"pod-at-{ip}", f"uid-of-{ip}", ip, reference, loaded)


@dataclasses.dataclass
class Bench:
    """Removals with two pods, a clock that tests turn, and what was told."""

    fleet: fake_ollama.FakeOllamas
    removals: removals.Removals
    told: asyncio.Queue[removals.Set]
    now: list[float]

    def asked(self, ip: str = IP) -> list[str]:
        return self.fleet.servers[ip].requests

    def sync(self, *models: str) -> None:
        self.removals.sync(OWNER, [unwanted(model) for model in models])

    async def ended(self) -> None:
        """Wait until a pod has been asked for all that was to go."""
        assert await self.told.get() == OWNER
        await asyncio.sleep(0)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    fleet = fake_ollama.FakeOllamas()
    for ip in (IP, IP_2):
        fleet.servers[ip] = fake_ollama.Server(held=dict.fromkeys(MODELS, fake_ollama.Published()))
    told: asyncio.Queue[removals.Set] = asyncio.Queue()
    now = [1000.0]
    client = ollama.Ollama(httpx.AsyncClient(transport=fleet))
    found = removals.Removals(client, told.put_nowait, lambda: now[0])
    yield Bench(fleet, found, told, now)
    await found.close()


async def test_a_pod_loses_one_model_after_the_other_and_tells_once(bench: Bench) -> None:
    going = [unwanted("a:1", loaded=True), unwanted("b:1")]
    bench.removals.sync(OWNER, going)
    await bench.ended()
    assert bench.asked() == ["/api/generate a:1", "/api/delete a:1", "/api/delete b:1"]
    assert bench.told.empty()
    assert bench.removals.take_removed(OTHER) == ()
    assert list(bench.removals.take_removed(OWNER)) == going
    assert list(bench.removals.take_removed(OWNER)) == []


async def test_pods_do_not_wait_for_each_other(bench: Bench) -> None:
    bench.fleet.hanging.add(IP)
    bench.removals.sync(OWNER, [unwanted("a:1"), unwanted("a:1", IP_2)])
    await bench.ended()
    assert list(bench.removals.take_removed(OWNER)) == [unwanted("a:1", IP_2)]


async def test_what_was_begun_on_a_pod_goes_on_before_anything_else_is(bench: Bench) -> None:
    bench.sync("a:1")
    bench.sync("b:1")
    await bench.ended()
    assert bench.asked() == ["/api/delete a:1"]
    bench.sync("b:1")
    await bench.ended()
    assert bench.asked() == ["/api/delete a:1", "/api/delete b:1"]


async def test_what_could_not_go_keeps_nothing_else_and_is_tried_again_after_a_look(bench: Bench) -> None:
    bench.sync("none:1", "a:1")
    await bench.ended()
    assert list(bench.removals.take_removed(OWNER)) == [unwanted("a:1")]
    # Nobody has looked since.
    bench.now[0] += removals.AGAIN_SECONDS - 1
    bench.sync("none:1", "a:1", "b:1")
    await bench.ended()
    bench.now[0] += 1
    bench.sync("none:1")
    await bench.ended()
    assert bench.asked() == [f"/api/delete {name}" for name in ("none:1", "a:1", "b:1", "none:1")]


async def test_a_pod_that_hangs_is_left_in_time(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removals, "REMOVE_SECONDS", 0.0)
    bench.fleet.hanging.add(IP)
    bench.sync("a:1")
    await bench.ended()
    assert list(bench.removals.take_removed(OWNER)) == []


async def test_of_a_set_that_is_gone_nothing_goes_on_and_nothing_is_left(bench: Bench) -> None:
    bench.sync("none:1", "a:1")
    await bench.ended()
    bench.fleet.hanging.add(IP)
    bench.sync("b:1")
    [under_way] = [task for task in asyncio.all_tasks() if task.get_name().startswith("remove from")]
    bench.removals.forget(OWNER)
    await asyncio.wait([under_way], timeout=5)
    assert under_way.cancelled()
    assert list(bench.removals.take_removed(OWNER)) == []
    # Another set of the name begins anew.
    bench.fleet.hanging.clear()
    bench.sync("none:1")
    await bench.ended()
    assert bench.asked().count("/api/delete none:1") == 2


async def test_what_was_ended_goes_on_when_it_is_asked_for_again(bench: Bench) -> None:
    bench.fleet.hanging.add(IP)
    bench.sync("a:1")
    await bench.removals.close()
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("remove from")]
    bench.fleet.hanging.clear()
    bench.sync("a:1")
    await bench.ended()
    assert list(bench.removals.take_removed(OWNER)) == [unwanted("a:1")]
