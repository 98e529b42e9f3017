"""Looks at pods: each by itself, within its time, and believed for that pod alone."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from modelset_operator.engines import looks, ollama, port, state
from serve_app.tests import simulated

from . import fake_ollama

OWNER, OTHER = ("default", "one"), ("default", "two")
MODEL = "a:1"


class Bench:
    def __init__(self) -> None:
        self.fleet = fake_ollama.FakeOllamas()
        self.told: asyncio.Queue[looks.Set] = asyncio.Queue()
        client = ollama.Ollama(httpx.AsyncClient(transport=self.fleet))
        self.looks = looks.Looks(client, self.told.put_nowait)

    def pod(self, number: int, *capabilities: str) -> state.Place:
        ip = f"10.0.0.{number}"
        published = fake_ollama.Published(capabilities=capabilities or ("completion",))
        self.fleet.servers[ip] = fake_ollama.Server(held={MODEL: published})
        return state.Place(f"pod-{number}", ip, busy=True, described=frozenset({MODEL}))


@pytest.fixture
async def bench(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr(looks, "BUSY_SECONDS", 0.001)
    monkeypatch.setattr(looks, "LOOKS_A_SECOND", 10_000)
    bench = Bench()
    yield bench
    await bench.looks.close()


async def test_what_a_pod_holds_is_told_once_and_again_when_it_changes(bench: Bench) -> None:
    bench.looks.sync(OWNER, [bench.pod(1)])
    assert bench.looks.view(OWNER) == {}
    assert await bench.told.get() == OWNER
    sight = bench.looks.view(OWNER)["pod-1"]
    assert sight.now is not None
    assert sight.now.held[MODEL].capabilities == ("completion",)
    await bench.fleet.looked_at("10.0.0.1")
    assert bench.told.empty()
    bench.fleet.servers["10.0.0.1"].loaded.add(MODEL)
    assert await bench.told.get() == OWNER


async def test_a_pod_that_does_not_answer_is_told_and_what_it_held_last_is_kept(bench: Bench) -> None:
    bench.looks.sync(OWNER, [bench.pod(1)])
    await bench.told.get()
    held = bench.looks.view(OWNER)["pod-1"].now
    bench.fleet.unreachable.add("10.0.0.1")
    await bench.told.get()
    assert bench.looks.view(OWNER)["pod-1"] == looks.Sight(now=None, last=held)


async def test_what_one_pod_says_of_a_digest_is_not_believed_of_another(bench: Bench) -> None:
    bench.looks.sync(OWNER, [bench.pod(1, "completion")])
    bench.looks.sync(OTHER, [bench.pod(2, "embedding")])
    assert {await bench.told.get(), await bench.told.get()} == {OWNER, OTHER}
    stores = [bench.looks.view(OWNER)["pod-1"].now, bench.looks.view(OTHER)["pod-2"].now]
    assert [store and store.held[MODEL].digest for store in stores] == [f"digest-of-{MODEL}"] * 2
    assert [store and store.held[MODEL].capabilities for store in stores] == [
        ("completion",),
        ("embedding",),
    ]


async def test_pods_that_hang_hold_up_no_other_set_and_end_with_their_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looks, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(looks, "AT_ONCE_A_SET", 2)
    hanging = [bench.pod(number) for number in range(1, 9)]
    bench.fleet.hanging |= {place.ip for place in hanging}
    bench.looks.sync(OTHER, hanging)
    bench.looks.sync(OWNER, [bench.pod(9)])
    assert await bench.told.get() == OWNER
    for _ in hanging:
        assert await bench.told.get() == OTHER
    assert {sight.now for sight in bench.looks.view(OTHER).values()} == {None}
    assert bench.fleet.most_at_once["tags"] == 2


@pytest.mark.parametrize(("raised", "broken"), [(port.RefusedError, True), (port.UnreachableError, False)])
async def test_a_model_is_broken_that_the_server_itself_cannot_describe(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, raised: type[Exception], broken: bool
) -> None:
    async def describe(*_: object) -> state.Facts:
        raise raised("no such file")

    monkeypatch.setattr(ollama.Ollama, "describe", describe)
    bench.looks.sync(OWNER, [bench.pod(1)])
    await bench.told.get()
    now = bench.looks.view(OWNER)["pod-1"].now
    assert now is not None
    assert (now.held[MODEL].problem, now.held[MODEL].broken) == ("no such file", broken)


class Slow(ollama.Ollama):
    """An Ollama that holds many models, and takes its time to describe each."""

    def __init__(self, seconds: float) -> None:
        super().__init__(httpx.AsyncClient(transport=fake_ollama.FakeOllamas()))
        self._seconds = seconds

    async def inspect(self, address: str) -> state.Store:
        held = {f"m{number}:1": state.Held(f"d{number}", 1) for number in range(50)}
        return state.Store(held, {key: key for key in held})

    async def describe(self, address: str, reference: str) -> state.Facts:
        await asyncio.sleep(self._seconds)
        return state.Facts(("completion",))


@pytest.mark.parametrize(("seconds", "seen"), [(4.0, True), (16.0, False)])
def test_a_look_goes_on_while_it_hears_of_one_model_after_the_other(seconds: float, seen: bool) -> None:
    async def look() -> looks.Sight:
        told: asyncio.Queue[looks.Set] = asyncio.Queue()
        found = looks.Looks(Slow(seconds), told.put_nowait)
        described = frozenset(f"m{number}:1" for number in range(50))
        found.sync(OWNER, [state.Place("pod-1", "10.0.0.1", busy=True, described=described)])
        await told.get()
        sight = found.view(OWNER)["pod-1"]
        await found.close()
        return sight

    assert (simulated.run(look()).now is not None) is seen


class Noting(ollama.Ollama):
    """An Ollama that answers at once, and notes when it was looked at."""

    def __init__(self) -> None:
        super().__init__(httpx.AsyncClient(transport=fake_ollama.FakeOllamas()))
        self.times: list[float] = []

    async def inspect(self, address: str) -> state.Store:
        self.times.append(asyncio.get_running_loop().time())
        return state.Store({}, {})


@pytest.mark.parametrize(
    ("pods", "busy", "seconds"),
    [(10, True, 2), (10, False, 20), (200, True, 4), (200, False, 20), (2000, False, 40)],
)
def test_the_more_pods_there_are_the_longer_each_waits_for_its_turn(
    pods: int, busy: bool, seconds: int
) -> None:
    async def look() -> int:
        engine = Noting()
        found = looks.Looks(engine, lambda _: None)
        for number in range(pods):
            place = state.Place(f"pod-{number}", "10.0.0.1", busy=busy, described=frozenset())
            found.sync(("default", f"set-{number}"), [place])
        await asyncio.sleep(3.5 * seconds)
        await found.close()
        return len(engine.times)

    assert simulated.run(look()) == 4 * pods


@pytest.mark.parametrize("closed", [False, True])
def test_pods_that_are_gone_take_no_turns(closed: bool) -> None:
    async def look() -> int:
        engine = Noting()
        found = looks.Looks(engine, lambda _: None)
        place = state.Place("pod-1", "10.0.0.1", busy=False, described=frozenset())
        owners = [("default", f"set-{number}") for number in range(2000)]
        for owner in owners:
            found.sync(owner, [place])
        if closed:
            await found.close()
        for owner in owners[10:]:
            found.forget(owner)
        for owner in owners[:10]:
            found.sync(owner, [place])
        await asyncio.sleep(70)
        await found.close()
        return len(engine.times)

    assert simulated.run(look()) == 4 * 10


def test_a_pod_that_has_just_changed_is_looked_at_at_once() -> None:
    async def look() -> tuple[int, int]:
        engine = Noting()
        found = looks.Looks(engine, lambda _: None)
        found.sync(OWNER, [state.Place("pod-1", "10.0.0.1", busy=False, described=frozenset())])
        await asyncio.sleep(1)
        before = len(engine.times)
        found.hurry(OWNER, "pod-1")
        found.hurry(OWNER, "gone")
        found.hurry(OTHER, "pod-1")
        await asyncio.sleep(1)
        await found.close()
        return before, len(engine.times)

    assert simulated.run(look()) == (1, 2)


async def test_pods_that_are_gone_are_not_looked_at_any_more(bench: Bench) -> None:
    bench.looks.sync(OWNER, [bench.pod(1)])
    await bench.told.get()
    bench.looks.forget(OWNER)
    assert bench.looks.view(OWNER) == {}
    asked = bench.fleet.asked("10.0.0.1")
    bench.looks.sync(OTHER, [bench.pod(2)])
    await bench.fleet.looked_at("10.0.0.2")
    assert bench.fleet.asked("10.0.0.1") <= asked + 1


async def test_a_model_is_described_once_for_each_digest_that_it_has(bench: Bench) -> None:
    place = bench.pod(1)
    server = bench.fleet.servers[place.ip]
    bench.looks.sync(OWNER, [place])
    await bench.fleet.looked_at(place.ip)
    assert server.requests == [f"/api/show {MODEL}"]
    server.held[MODEL] = fake_ollama.Published(pushed=1)
    await bench.fleet.looked_at(place.ip)
    assert server.requests == [f"/api/show {MODEL}"] * 2


def test_a_pod_is_asked_often_while_it_changes_and_at_once_when_it_is_wanted_otherwise() -> None:
    engine = Noting()

    async def look() -> None:
        found = looks.Looks(engine, lambda _: None)
        busy, settled = (state.Place("pod-1", "10.0.0.1", each, frozenset()) for each in (True, False))
        found.sync(OWNER, [busy])
        await asyncio.sleep(5)
        found.sync(OWNER, [settled])
        # What is wanted as it was brings no look.
        found.sync(OWNER, [settled])
        await asyncio.sleep(30)
        found.sync(OWNER, [busy])
        await asyncio.sleep(1)
        await found.close()
        # After the operator has led once, it may lead again.
        found.sync(OWNER, [busy])
        await asyncio.sleep(1)
        await found.close()

    simulated.run(look())
    assert engine.times == [0, 2, 4, 5, 25, 35, 36]
