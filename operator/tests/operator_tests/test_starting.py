"""The whole operator as kopf starts it, against an API server in memory and Ollamas behind httpx."""

import asyncio
import contextlib
import functools
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import kopf
import pytest

from modelset_operator import acting, handlers
from modelset_operator.cluster import http

from . import builders, fake_api, fake_ollama
from .worlds import MODELS, REGISTRY

OPTIONS = handlers.Options(builders.IMAGES, metrics_port=0)


class Told(fake_api.FakeApi):
    """Tells when something was written."""

    def __init__(self) -> None:
        super().__init__()
        self.wrote = asyncio.Event()

    async def ask(self, method: str, path: str, **given: Any) -> dict[str, Any]:
        answer = await super().ask(method, path, **given)
        self.wrote.set()
        return answer

    async def until_written(self, what: str) -> None:
        while what not in self.writes:
            self.wrote.clear()
            await self.wrote.wait()


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Told:
    api = Told()

    @contextlib.asynccontextmanager
    async def connected() -> AsyncIterator[Told]:
        yield api

    monkeypatch.setattr(handlers, "api_client", connected)
    monkeypatch.setattr(handlers.http, "Http", lambda connection: connection)
    monkeypatch.setattr(acting, "GATHER_SECONDS", 0.0)
    return api


async def test_it_reconciles_from_its_start_to_its_stop(
    api: Told, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = httpx.AsyncClient(transport=fake_ollama.FakeOllamas())
    monkeypatch.setattr(acting, "Acting", functools.partial(acting.Acting, pods_client=lambda: client))
    operator, settings = handlers.Operator(OPTIONS), kopf.OperatorSettings()
    api.put(builders.resource(*MODELS, registry=REGISTRY))
    api.refusals["StatefulSet"] = http.RefusedError(403, "exceeded quota")
    await operator.start(settings)
    assert settings.posting.enabled is False
    await api.until_written("apply OllamaModelSet/assistants/status")
    assert await operator.probe()
    image = api.find("RayService", "assistants")["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]
    assert image["spec"]["containers"][0]["image"] == builders.IMAGES.proxy
    await operator.stop()
    assert client.is_closed
    assert all(record.exc_info is None for record in caplog.records)
    with pytest.raises(kopf.PermanentError):
        await operator.probe()


async def test_it_looks_at_the_namespaces_that_it_was_given(api: Told) -> None:
    operator = handlers.Operator(handlers.Options(builders.IMAGES, ("served",), metrics_port=0))
    elsewhere = builders.resource("a:1")
    served = builders.resource("a:1")
    served["metadata"] |= {"namespace": "served", "uid": "another"}
    api.put(elsewhere)
    api.put(served)
    await operator.start(kopf.OperatorSettings())
    await api.until_written("apply OllamaModelSet/assistants/status")
    await operator.stop()
    assert {namespace for kind, namespace, _ in api.objects if kind == "StatefulSet"} == {"served"}


def test_kopf_is_given_start_stop_credentials_and_a_probe() -> None:
    registry = kopf.OperatorRegistry()
    handlers.register(registry, OPTIONS)
    found = {(one.activity.value, str(one.id)) for one in registry._activities.get_all_handlers()}
    assert found == {
        ("startup", "Operator.start"),
        ("cleanup", "Operator.stop"),
        ("authentication", "login"),
        ("probe", "reconciling"),
    }


def test_what_kopf_might_write_carries_the_groups_name() -> None:
    settings = kopf.OperatorSettings()
    handlers.configure(settings)
    assert settings.persistence.finalizer == "operator.modelset.dev/finalizer"
    for storage in (settings.persistence.progress_storage, settings.persistence.diffbase_storage):
        assert storage.prefix == "operator.modelset.dev"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("account", "file", "taken"), [("account", "file", "account"), (None, "file", "file"), (None, None, None)]
)
def test_the_pods_service_account_goes_before_a_kubeconfig(
    monkeypatch: pytest.MonkeyPatch, account: str | None, file: str | None, taken: str | None
) -> None:
    settings = kopf.OperatorSettings()
    given: list[Any] = []

    def found(what: str | None) -> Any:
        def login(**kwargs: Any) -> str | None:
            given.append(kwargs["settings"])
            return what

        return login

    monkeypatch.setattr(kopf, "login_with_service_account", found(account))
    monkeypatch.setattr(kopf, "login_with_kubeconfig", found(file))
    assert handlers.login(settings=settings) == taken
    assert set(map(id, given)) == {id(settings)}


async def test_outside_a_cluster_the_kubeconfig_says_where_the_api_server_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = {"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}
    context = {"name": "x", "context": {"cluster": "c", "user": "u"}}
    user = {"name": "u", "user": {"token": "t"}}
    file = tmp_path / "config"
    file.write_text(
        json.dumps({"clusters": [cluster], "contexts": [context], "users": [user], "current-context": "x"})
    )
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    # The environment is read when the client is imported.
    monkeypatch.setattr(handlers.config.kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(file))
    async with handlers.api_client() as api:
        assert api.configuration.host == "https://127.0.0.1:1"


async def test_inside_a_cluster_the_pods_own_account_says_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(client_configuration: Any) -> None:
        client_configuration.host = "https://inside"

    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setattr(handlers.config, "load_incluster_config", load)
    async with handlers.api_client() as api:
        assert api.configuration.host == "https://inside"
