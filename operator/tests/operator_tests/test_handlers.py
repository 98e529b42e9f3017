"""kopf's part: it starts, stops and probes; what changes says what to look at."""

import asyncio
import functools

import kopf
import pytest

from modelset_operator import acting, handlers, workqueue
from modelset_operator.cluster import leading

from . import builders, fake_api

# Lets all other tasks go on.
a_turn = functools.partial(asyncio.sleep, 0)
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


def made(api: fake_api.FakeApi) -> tuple[acting.Acting, leading.Leading]:
    actor = acting.Acting(api, builders.IMAGES, (), OPTIONS.identity)
    return actor, leading.Leading(api, OPTIONS.namespace, OPTIONS.instance, "replica")


async def test_the_operator_stands_ready_acts_and_gives_its_lease_back() -> None:
    api = fake_api.FakeApi()
    operator = handlers.Operator(OPTIONS)
    with pytest.raises(kopf.PermanentError, match="does not run"):
        await operator.probe()
    actor, leads = made(api)
    operator._running = handlers._Running(
        actor, handlers.run(actor, leads), handlers.contextlib.AsyncExitStack()
    )
    api.put(builders.resource("a:1"))
    while "StatefulSet/assistants-ollama" not in " ".join(api.writes):
        await a_turn()
    assert (await operator.probe())["stuckSeconds"] < 1
    tasks = operator._running.tasks
    await operator.stop()
    assert all(task.cancelled() for task in tasks)
    assert api.find("Lease", OPTIONS.instance, OPTIONS.namespace)["spec"]["holderIdentity"] == ""


async def test_liveness_fails_when_reconciling_does_not_get_on(monkeypatch: pytest.MonkeyPatch) -> None:
    operator = handlers.Operator(OPTIONS)
    started = asyncio.Event()

    async def hang(owner: tuple[str, str]) -> None:
        started.set()
        await asyncio.Event().wait()

    actor, _ = made(fake_api.FakeApi())
    actor.queue = workqueue.WorkQueue(hang)
    task = asyncio.create_task(actor.queue.run())
    operator._running = handlers._Running(actor, (task,), handlers.contextlib.AsyncExitStack())
    monkeypatch.setattr(handlers, "STUCK_SECONDS", -1.0)
    actor.queue.add(("default", "one"))
    await started.wait()
    with pytest.raises(kopf.PermanentError, match="stuck"):
        await operator.probe()
    await operator.stop()
