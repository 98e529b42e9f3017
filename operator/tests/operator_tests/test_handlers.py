"""kopf's part: it starts, stops and probes; what changes says what to look at."""

import asyncio

import kopf
import pytest

from modelset_operator import handlers, workqueue
from modelset_operator.cluster import caches

from . import builders, fake_api

OPTIONS = handlers.Options(builders.IMAGES)


def test_kopf_watches_nothing_and_writes_nothing() -> None:
    registry = kopf.OperatorRegistry()
    handlers.register(registry, OPTIONS)
    for handlers_of_a_kind in (
        registry._changing,
        registry._spawning,
        registry._watching,
        registry._indexing,
    ):
        assert not list(handlers_of_a_kind.get_all_handlers())
    settings = kopf.OperatorSettings()
    handlers.configure(settings)
    assert settings.posting.enabled is False
    assert settings.scanning.disabled is True


async def test_what_changes_says_which_set_to_look_at_and_nothing_is_looked_at_before_all_is_listed() -> None:
    looks: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

    async def look(owner: tuple[str, str]) -> None:
        looks.put_nowait(owner)

    api = fake_api.FakeApi()
    operator, queue = handlers.Operator(OPTIONS), workqueue.WorkQueue(look)
    cached = caches.Caches(api, (), operator._look_at)
    operator._running = handlers._Running(
        queue, handlers._start(cached, queue), handlers.contextlib.AsyncExitStack()
    )
    api.put(builders.resource("a:1"))
    assert await looks.get() == ("default", "assistants")
    assert {read.split()[0] for read in api.reads} == {"list", "watch"}
    assert (await operator.probe())["stuckSeconds"] < 1
    tasks = operator._running.tasks
    await operator.stop()
    assert all(task.cancelled() for task in tasks)


async def test_liveness_fails_when_reconciling_does_not_run_or_does_not_get_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    operator = handlers.Operator(OPTIONS)
    with pytest.raises(kopf.PermanentError, match="does not run"):
        await operator.probe()
    started = asyncio.Event()

    async def hang(owner: tuple[str, str]) -> None:
        started.set()
        await asyncio.Event().wait()

    queue = workqueue.WorkQueue(hang)
    task = asyncio.create_task(queue.run())
    operator._running = handlers._Running(queue, (task,), handlers.contextlib.AsyncExitStack())
    monkeypatch.setattr(handlers, "STUCK_SECONDS", -1.0)
    queue.add(("default", "one"))
    await started.wait()
    with pytest.raises(kopf.PermanentError, match="stuck"):
        await operator.probe()
    await operator.stop()


async def test_connections_to_pods_that_were_looked_at_do_not_pile_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended: list[asyncio.Event] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ended.append(over := asyncio.Event())
        while await reader.readline() > b"\r\n":
            pass
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        await reader.read()
        over.set()
        writer.close()

    monkeypatch.setattr(handlers, "IDLE_CONNECTION_SECONDS", 0.0)
    async with handlers._pods_client() as client:
        for address in ("127.0.0.2", "127.0.0.3"):
            server = await asyncio.start_server(answer, address, 0)
            await client.get(f"http://{address}:{server.sockets[0].getsockname()[1]}")
            server.close()
        await ended[0].wait()
        assert not ended[1].is_set()
