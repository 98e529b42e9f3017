"""Which servers there are: names, looks at them, and looks that fail or do not end."""

import asyncio
import socket
from collections.abc import Callable, Mapping
from typing import Any
from unittest.mock import ANY

import pytest

from modelset_proxy.dispatch import addresses, fleet
from modelset_proxy.engines import port

_V4, _V6 = ("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")


class Engine:
    """Looks at servers as a test says: ``None`` does not answer, an event does not until it is set."""

    def __init__(self) -> None:
        self.servers: dict[str, asyncio.Event | Exception | None] = {}
        self.looks: list[str] = []

    async def look(self, url: str) -> port.Sight:
        self.looks.append(url)
        found = self.servers.get(url, port.UnreachableError("refused"))
        if isinstance(found, Exception):
            raise found
        if found is not None:
            await found.wait()
        return port.Sight(0.0, {"m": port.Held("m")}, {})


def _resolving(monkeypatch: pytest.MonkeyPatch, found: Callable[[], list[str]]) -> None:
    async def lookup(host: str, number: int, **_: Any) -> list[Any]:
        return [
            (
                socket.AF_INET6 if ":" in address else socket.AF_INET,
                socket.SOCK_STREAM,
                6,
                "",
                (address, number),
            )
            for address in found()
        ]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", lookup)


async def test_a_pod_with_two_addresses_is_one_server(monkeypatch: pytest.MonkeyPatch) -> None:
    _resolving(monkeypatch, lambda: [*_V6, *_V4])
    name = addresses.Name("http://pods:11434")
    await name.resolve()
    assert name.servers == ("http://[fd00::1]:11434", "http://[fd00::2]:11434")
    assert name.try_other_family()
    assert name.servers == ("http://10.0.0.1:11434", "http://10.0.0.2:11434")
    await name.resolve()
    assert name.servers[0] == "http://10.0.0.1:11434"


async def test_with_one_family_there_is_no_other_to_try(monkeypatch: pytest.MonkeyPatch) -> None:
    _resolving(monkeypatch, lambda: list(_V4))
    name = addresses.Name("http://pods:11434")
    await name.resolve()
    assert not name.try_other_family()


async def test_https_keeps_its_name() -> None:
    name = addresses.Name("https://ollama.example:443")
    await name.resolve()
    assert name.servers == ("https://ollama.example:443",)


async def test_the_family_that_answers_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    _resolving(monkeypatch, lambda: [*_V6, *_V4])
    engine = Engine()
    engine.servers["http://10.0.0.2:11434"] = None
    looked = fleet.Fleet(["http://pods:11434"], engine)
    await looked.refresh()
    assert {url for url, sight in looked.sights.items() if sight} == {"http://10.0.0.2:11434"}
    assert len(looked.sights) == 2
    await looked.stop()


async def test_a_server_that_hangs_holds_up_no_look_at_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "_ROUND_SECONDS", 0.01)
    monkeypatch.setattr(fleet, "_MIN_SPACING_SECONDS", 0.0)
    _resolving(monkeypatch, lambda: list(_V4))
    engine = Engine()
    hung = asyncio.Event()
    engine.servers = {"http://10.0.0.1:11434": hung, "http://10.0.0.2:11434": None}
    looked = fleet.Fleet(["http://pods:11434"], engine)
    reports: list[Mapping[str, port.Sight | None]] = []
    looked.seen = lambda: reports.append(dict(looked.sights))
    for _ in range(3):
        await asyncio.wait_for(looked.refresh(), 5)
    assert [sorted(url for url, report in one.items() if report) for one in reports] == [
        ["http://10.0.0.2:11434"]
    ] * 3
    assert engine.looks.count("http://10.0.0.1:11434") == 1
    hung.set()
    await looked.refresh()
    assert all(reports[-1].values())
    await looked.stop()


async def test_a_defect_in_a_look_does_not_end_looking(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fleet, "_MIN_SPACING_SECONDS", 0.0)
    _resolving(monkeypatch, lambda: list(_V4[:1]))
    engine = Engine()
    looked = fleet.Fleet(["http://pods:11434"], engine, interval=0.001)
    await looked.start()
    looked._background._again_seconds = 0
    engine.servers["http://10.0.0.1:11434"] = KeyError("a defect")
    await asyncio.wait_for(looked.next_round(), 5)
    await asyncio.sleep(0)
    assert "background work failed and begins again" in [record.message for record in caplog.records]
    engine.servers["http://10.0.0.1:11434"] = None
    async with asyncio.timeout(5):
        while not looked.sights["http://10.0.0.1:11434"]:
            await looked.next_round()
    await looked.stop()


class TestNamesThatCannotBeLookedUp:
    """What is known stays, unless there is no such name."""

    @staticmethod
    async def _known(monkeypatch: pytest.MonkeyPatch) -> addresses.Name:
        _resolving(monkeypatch, lambda: list(_V4))
        name = addresses.Name("http://pods:11434")
        await name.resolve()
        return name

    @staticmethod
    def _failing(monkeypatch: pytest.MonkeyPatch, problem: Exception | None) -> None:
        async def lookup(*_: Any, **__: Any) -> list[Any]:
            if problem is not None:
                raise problem
            await asyncio.Event().wait()
            return []

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", lookup)

    @pytest.mark.parametrize(
        ("problem", "left"),
        [
            (socket.gaierror(socket.EAI_AGAIN, "again"), 2),
            (socket.gaierror(socket.EAI_NONAME, "no such name"), 0),
            (socket.gaierror(socket.EAI_NODATA, "no address"), 0),
            (None, 2),
        ],
        ids=["the server is away", "no such name", "no address", "no answer"],
    )
    @pytest.mark.simulated
    async def test_it_is_said_once(
        self,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        problem: OSError | None,
        left: int,
    ) -> None:
        name = await self._known(monkeypatch)
        self._failing(monkeypatch, problem)
        for _ in range(3):
            await name.resolve()
        assert len(name.servers) == left
        [record] = caplog.records
        reason = "timed out" if problem is None else problem.strerror
        assert (record.message, vars(record)["facts"]) == (
            "cannot resolve",
            {"host": "pods", "reason": reason},
        )
        _resolving(monkeypatch, lambda: list(_V4))
        await name.resolve()
        assert len(name.servers) == 2
        self._failing(monkeypatch, problem)
        await name.resolve()
        assert len(caplog.records) == 2

    async def test_names_that_begin_without_addresses_have_no_servers(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        self._failing(monkeypatch, socket.gaierror(socket.EAI_NONAME, "no such name"))
        name = addresses.Name("http://pods:11434")
        await name.resolve()
        assert name.servers == ()
        assert not name.try_other_family()
        assert len(caplog.records) == 1

    async def test_paths_are_kept(self, monkeypatch: pytest.MonkeyPatch) -> None:
        _resolving(monkeypatch, lambda: [*_V6, *_V4])
        name = addresses.Name("http://pods:80/base")
        await name.resolve()
        assert name.servers[0] == "http://[fd00::1]:80/base"


@pytest.mark.parametrize("text", ["ftp://x", "http://", "://x", "http://:80"])
def test_what_is_no_url_of_a_server_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an http"):
        addresses.base_url(text, 1)


class TestRounds:
    """Looks at all servers."""

    @staticmethod
    def _fleet(monkeypatch: pytest.MonkeyPatch, spacing: float) -> tuple[fleet.Fleet, Engine]:
        monkeypatch.setattr(fleet, "_MIN_SPACING_SECONDS", spacing)
        _resolving(monkeypatch, lambda: list(_V4[:1]))
        engine = Engine()
        engine.servers["http://10.0.0.1:11434"] = None
        return fleet.Fleet(["http://pods:11434"], engine), engine

    @pytest.mark.simulated
    async def test_from_one_to_the_next_a_moment_passes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        looked, engine = self._fleet(monkeypatch, 60.0)
        loop = asyncio.get_running_loop()
        await looked.refresh()
        assert loop.time() == 0.0
        await asyncio.sleep(20)
        await asyncio.gather(*(looked.refresh() for _ in range(3)))
        assert (len(engine.looks), loop.time()) == (2, 60.0)

    @pytest.mark.simulated
    async def test_other_names_are_looked_up_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        looked, engine = self._fleet(monkeypatch, 60.0)
        await looked.refresh()
        await looked.serve(["http://pods:11435"])
        assert (engine.looks[1:], asyncio.get_running_loop().time()) == (["http://10.0.0.1:11435"], 0.0)

    @pytest.mark.simulated
    async def test_while_somebody_waits_for_a_server_there_are_rounds_all_the_time(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        looked, engine = self._fleet(monkeypatch, 0.25)
        await looked.start()
        await asyncio.sleep(1)
        assert len(engine.looks) == 1
        looked.hurry(wanted=True)
        await asyncio.sleep(1.1)
        assert len(engine.looks) == 6
        looked.hurry(wanted=False)
        await asyncio.sleep(2.9)
        assert len(engine.looks) == 7
        await looked.stop()

    async def test_who_asks_during_one_joins_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        looked, engine = self._fleet(monkeypatch, 0.0)
        gate = engine.servers["http://10.0.0.1:11434"] = asyncio.Event()
        asked = [asyncio.create_task(looked.refresh()) for _ in range(3)]
        for _ in range(9):
            await asyncio.sleep(0)
        asked[0].cancel()
        gate.set()
        await asyncio.gather(*asked[1:])
        assert len(engine.looks) == 1
        assert all(looked.sights.values())

    async def test_it_tells_what_was_seen(self, monkeypatch: pytest.MonkeyPatch) -> None:
        looked, engine = self._fleet(monkeypatch, 0.0)
        seen: list[Mapping[str, port.Sight | None]] = []
        looked.seen = lambda: seen.append(dict(looked.sights))
        await looked.refresh()
        engine.servers.clear()
        await looked.refresh()
        sight = port.Sight(0.0, {"m": port.Held("m")}, {})
        assert seen == [{"http://10.0.0.1:11434": sight}, {"http://10.0.0.1:11434": None}]

    async def test_comings_and_goings_are_logged_once(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO")
        looked, engine = self._fleet(monkeypatch, 0.0)
        for answers in (True, True, False, False, False, True):
            engine.servers = {"http://10.0.0.1:11434": None} if answers else {}
            await looked.refresh()
        _resolving(monkeypatch, list)
        await looked.refresh()
        assert looked.sights == {}
        assert [record.message for record in caplog.records] == [
            "model server answers",
            "model server does not answer",
            "model server answers",
            "model server left",
        ]

    async def test_the_end_ends_looks_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(fleet, "_ROUND_SECONDS", 0.001)
        looked, engine = self._fleet(monkeypatch, 0.0)
        engine.servers["http://10.0.0.1:11434"] = asyncio.Event()
        await looked.refresh()
        [look] = looked._looks.values()
        await looked.stop()
        assert look.cancelled()

    async def test_they_go_on_from_the_first_one_to_the_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        looked, engine = self._fleet(monkeypatch, 0.0)
        looked._interval = 0.001
        await looked.start()
        assert all(looked.sights.values())
        await asyncio.wait_for(looked.next_round(), 5)
        await looked.stop()
        before = len(engine.looks)
        assert before > 1
        await asyncio.sleep(0.02)
        assert len(engine.looks) == before

    async def test_the_end_ends_a_round_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        looked, engine = self._fleet(monkeypatch, 0.0)
        engine.servers["http://10.0.0.1:11434"] = asyncio.Event()
        asked = asyncio.create_task(looked.refresh())
        for _ in range(9):
            await asyncio.sleep(0)
        await looked.stop()
        with pytest.raises(asyncio.CancelledError):
            await asked

    async def test_what_never_began_may_be_ended(self, monkeypatch: pytest.MonkeyPatch) -> None:
        looked, _ = self._fleet(monkeypatch, 0.0)
        await looked.stop()


async def test_between_two_rounds_there_is_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "_MIN_SPACING_SECONDS", 0.0)
    _resolving(monkeypatch, lambda: list(_V4[:1]))
    engine = Engine()
    looked = fleet.Fleet(["http://pods:11434"], engine, interval=999.0)
    await looked.start()
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(engine.looks) == 1
    await looked.stop()


async def test_names_that_stay_are_known_all_the_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "_ROUND_SECONDS", 0.01)
    _resolving(monkeypatch, lambda: list(_V4[:1]))
    engine = Engine()
    engine.servers = dict.fromkeys(("http://10.0.0.1:1", "http://10.0.0.1:2", "http://10.0.0.1:3"))
    looked = fleet.Fleet(["http://pods:1", "http://pods:2"], engine, interval=999.0)
    await looked.start()
    before = looked.sights["http://10.0.0.1:1"]
    engine.servers["http://10.0.0.1:1"] = asyncio.Event()
    await looked.serve(["http://pods:1", "http://pods:3"])
    assert looked.sights == {"http://10.0.0.1:1": before, "http://10.0.0.1:3": port.Sight(0.0, ANY, {})}
    await looked.stop()


async def test_other_names_are_looked_up_though_a_round_by_the_former_ones_is_under_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _resolving(monkeypatch, lambda: list(_V4[:1]))
    engine = Engine()
    hung = asyncio.Event()
    engine.servers = {"http://10.0.0.1:1": hung, "http://10.0.0.1:2": None}
    looked = fleet.Fleet(["http://pods:1"], engine, interval=999.0)
    asked = asyncio.create_task(looked.refresh())
    for _ in range(9):
        await asyncio.sleep(0)
    assert engine.looks == ["http://10.0.0.1:1"]
    serving = asyncio.create_task(looked.serve(["http://pods:2"]))
    await asyncio.sleep(0)
    hung.set()
    await asyncio.gather(asked, serving)
    assert list(looked.sights) == ["http://10.0.0.1:2"]
    await looked.stop()


async def test_the_same_names_again_are_no_reason_to_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "_MIN_SPACING_SECONDS", 0.0)
    _resolving(monkeypatch, lambda: list(_V4[:1]))
    engine = Engine()
    looked = fleet.Fleet(["http://pods:11434"], engine, interval=999.0)
    await looked.start()
    await looked.serve(["http://pods:11434"])
    assert len(engine.looks) == 1
    await looked.stop()
