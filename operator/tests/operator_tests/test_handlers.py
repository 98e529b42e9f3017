"""kopf's part: it starts, stops and probes; what changes says what to look at."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
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


def test_what_kopf_would_keep_on_objects_has_names_of_ours() -> None:
    settings = kopf.OperatorSettings()
    handlers.configure(settings)
    kept = settings.persistence
    assert kept.finalizer == "operator.modelset.dev/finalizer"
    for storage, kind in (
        (kept.progress_storage, kopf.AnnotationsProgressStorage),
        (kept.diffbase_storage, kopf.AnnotationsDiffBaseStorage),
    ):
        assert isinstance(storage, kind)
        assert storage.prefix == "operator.modelset.dev"


def test_kopf_calls_what_starts_stops_and_probes() -> None:
    registry = kopf.OperatorRegistry()
    handlers.register(registry, OPTIONS)
    called = {one.activity.value: one for one in registry._activities.get_all_handlers()}
    assert {activity: one.fn.__name__ for activity, one in called.items()} == {
        "startup": "start",
        "authentication": "login",
        "cleanup": "stop",
        "probe": "probe",
    }
    # So it is called in what /healthz answers.
    assert called["probe"].id == "reconciling"


@pytest.mark.parametrize(("in_pod", "found"), [("account", "account"), (None, "kubeconfig")])
def test_a_pod_logs_in_by_its_service_account_and_all_else_by_a_kubeconfig(
    monkeypatch: pytest.MonkeyPatch, in_pod: str | None, found: str
) -> None:
    settings = kopf.OperatorSettings()
    given: list[dict[str, Any]] = []

    def logs_in(result: str | None, **kwargs: Any) -> str | None:
        given.append(kwargs)
        return result

    monkeypatch.setattr(kopf, "login_with_service_account", functools.partial(logs_in, in_pod))
    monkeypatch.setattr(kopf, "login_with_kubeconfig", functools.partial(logs_in, "kubeconfig"))
    asked: Any = {"settings": settings, "logger": "logger"}
    assert handlers.login(**asked) == found
    assert given == [asked] * (1 if in_pod else 2)


@pytest.mark.parametrize("in_pod", [True, False])
async def test_the_api_server_is_asked_with_the_credentials_that_kopf_takes(
    monkeypatch: pytest.MonkeyPatch, in_pod: bool
) -> None:
    def of_pod(client_configuration: Any) -> None:
        client_configuration.host = "https://of-a-pod"

    async def of_kubeconfig(client_configuration: Any) -> None:
        client_configuration.host = "https://of-a-kubeconfig"

    monkeypatch.setattr(handlers.config, "load_incluster_config", of_pod)
    monkeypatch.setattr(handlers.config, "load_kube_config", of_kubeconfig)
    if in_pod:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    else:
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    async with handlers.api_client() as api:
        assert api.configuration.host == ("https://of-a-pod" if in_pod else "https://of-a-kubeconfig")


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


async def test_from_start_to_stop_it_acts_as_its_options_say(
    monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int
) -> None:
    api = fake_api.FakeApi()
    closed = asyncio.Event()

    @contextlib.asynccontextmanager
    async def connected() -> AsyncIterator[fake_api.FakeApi]:
        yield api
        closed.set()

    monkeypatch.setattr(handlers, "api_client", connected)
    monkeypatch.setattr(handlers.http, "Http", lambda client: client)
    api.put(builders.resource("a:1"))
    options = handlers.Options(
        builders.IMAGES,
        namespaces=("default",),
        namespace="system",
        instance="mine",
        replica="pod-1",
        metrics_port=unused_tcp_port,
    )
    operator, settings = handlers.Operator(options), kopf.OperatorSettings()
    await operator.start(settings)
    assert settings.scanning.disabled is True
    while ("StatefulSet", "default", "assistants-ollama") not in api.objects:
        await a_turn()
    claimed = api.find("OllamaModelSet", "assistants")["metadata"]["annotations"]
    assert claimed["modelset.dev/operator"] == "system/mine"
    assert api.find("Lease", "mine", "system")["spec"]["holderIdentity"].startswith("pod-1_")
    async with aiohttp.ClientSession() as client:
        assert (await client.get(f"http://127.0.0.1:{unused_tcp_port}/readyz")).status == 200
    await operator.stop()
    assert closed.is_set()
    assert api.find("Lease", "mine", "system")["spec"]["holderIdentity"] == ""
    with pytest.raises(kopf.PermanentError, match="does not run"):
        await operator.probe()


def test_its_name_is_where_it_runs_and_what_it_is_called() -> None:
    assert handlers.Options(builders.IMAGES, adopts=("a/b",)).identity == handlers.claims.Identity(
        "default/modelset-operator", ("a/b",)
    )


@pytest.mark.parametrize(
    ("seconds", "told"), [(None, 0.0), (0.0, 0.0), (12.34, 12.3), (180.0, 180.0), (180.1, None)]
)
async def test_liveness_tells_for_how_long_reconciling_has_been_stuck_up_to_three_minutes(
    monkeypatch: pytest.MonkeyPatch, seconds: float | None, told: float | None
) -> None:
    operator = handlers.Operator(OPTIONS)
    actor, _ = made(fake_api.FakeApi())
    if seconds is not None:
        actor.queue = workqueue.WorkQueue(actor.look_at)
        monkeypatch.setattr(actor.queue, "stuck_seconds", lambda: seconds)
    running = asyncio.create_task(asyncio.Event().wait())
    operator._running = handlers._Running(actor, (running,), contextlib.AsyncExitStack())
    if told is None:
        with pytest.raises(kopf.PermanentError, match="stuck for 180 s"):
            await operator.probe()
    else:
        assert await operator.probe() == {"stuckSeconds": told}
    running.cancel()


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
