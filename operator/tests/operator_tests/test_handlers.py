"""kopf's part: it watches and nothing else."""

import asyncio

import kopf
import pytest

from modelset_operator import handlers, workqueue

from . import builders

OPTIONS = handlers.Options(builders.IMAGES)


def test_no_handler_makes_kopf_write_a_finalizer_or_an_annotation() -> None:
    registry = kopf.OperatorRegistry()
    handlers.register(registry, OPTIONS)
    assert not list(registry._changing.get_all_handlers())
    assert not list(registry._spawning.get_all_handlers())
    watched = {str(handler.selector.any_name) for handler in registry._watching.get_all_handlers()}
    assert watched == {"ollamamodelsets", "statefulsets", "services", "pods", "rayservices"}


def test_kopf_is_told_to_post_nothing_and_to_renew_its_watches() -> None:
    settings = kopf.OperatorSettings()
    handlers.configure(settings, OPTIONS)
    assert settings.posting.enabled is False
    assert settings.persistence.finalizer.startswith("operator.modelset.dev/")
    assert settings.watching.server_timeout
    assert settings.watching.client_timeout
    assert settings.scanning.disabled is False


def test_with_namespaces_nothing_outside_of_them_is_watched() -> None:
    settings = kopf.OperatorSettings()
    handlers.configure(settings, handlers.Options(builders.IMAGES, ("team-a",)))
    assert settings.scanning.disabled is True


async def test_events_of_a_set_and_of_what_it_owns_only_say_which_set_to_look_at() -> None:
    looks: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

    async def look(owner: tuple[str, str]) -> None:
        looks.put_nowait(owner)

    operator, queue = handlers.Operator(OPTIONS), workqueue.WorkQueue(look)
    task = asyncio.create_task(queue.run())
    operator._running = handlers._Running(queue, task, handlers.contextlib.AsyncExitStack())
    await operator.set_event(namespace="default", name="one")
    assert await looks.get() == ("default", "one")
    await operator.child_event(namespace="default", labels={"modelset.dev/set": "two"})
    assert await looks.get() == ("default", "two")
    assert (await operator.probe())["stuckSeconds"] < 1
    await operator.stop()
    assert task.cancelled()


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
    operator._running = handlers._Running(queue, task, handlers.contextlib.AsyncExitStack())
    monkeypatch.setattr(handlers, "STUCK_SECONDS", -1.0)
    queue.add(("default", "one"))
    await started.wait()
    with pytest.raises(kopf.PermanentError, match="stuck"):
        await operator.probe()
    await operator.stop()
