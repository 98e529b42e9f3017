"""What an operator does and does not do: by the Lease, by namespace, and by whose a set is; what it tells."""

import asyncio
import functools
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import httpx
import pytest

from modelset_operator import acting, metrics, monitor
from modelset_operator.api import names
from modelset_operator.cluster import http, kinds, leading
from modelset_operator.plan import claims

from . import builders, fake_api

# Lets all other tasks go on.
a_turn = functools.partial(asyncio.sleep, 0)
ME = claims.Identity("system/me", adopts=("system/gone",))


class Api(fake_api.FakeApi):
    """Does not let a namespace's RayServices be listed, or has all watches hang, when told so."""

    closed = ""
    deaf = False

    async def list(
        self, kind: kinds.Kind, namespace: str, labels: str
    ) -> AsyncIterator[tuple[list[dict[str, Any]], str]]:
        if kind == kinds.RAY_SERVICE and namespace == self.closed != "":
            raise http.RefusedError(403, "rayservices is forbidden")
        async for page in super().list(kind, namespace, labels):
            yield page

    async def watch(
        self, kind: kinds.Kind, namespace: str, labels: str, since: str, seconds: int
    ) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        async for event in super().watch(kind, namespace, labels, since, seconds):
            if self.deaf:
                await asyncio.Event().wait()
            yield event


class Bench:
    def __init__(self, *namespaces: str) -> None:
        self.api = Api()
        self.actor = acting.Acting(self.api, builders.IMAGES, namespaces, ME)
        self.leads = leading.Leading(self.api, "system", "me", "replica")
        self.tasks: list[asyncio.Task[None]] = []

    def watch(self) -> None:
        self.tasks.append(asyncio.create_task(self.actor.cached.run()))

    def start(self) -> None:
        self.watch()
        self.tasks.append(asyncio.create_task(self.leads.run(lambda: self.actor.run(self.leads))))

    def put(self, owner: str = "", namespace: str = "default", name: str = "assistants") -> None:
        found = builders.resource("a:1", name=name)
        annotations = {names.OPERATOR_ANNOTATION: owner} if owner else {}
        found["metadata"] |= {
            "annotations": annotations,
            "namespace": namespace,
            "uid": f"{namespace}-{name}",
        }
        self.api.put(found)

    def owner(self) -> str:
        return claims.owner(self.api.find("OllamaModelSet", "assistants"))

    def applied(self, namespace: str = "default") -> bool:
        return ("StatefulSet", namespace, "assistants-ollama") in self.api.objects

    async def until_applied(self) -> None:
        while not self.applied():
            await a_turn()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acting, "GATHER_SECONDS", 0.0)


async def ended(bench: Bench) -> None:
    for task in bench.tasks:
        task.cancel()
    await asyncio.gather(*bench.tasks, return_exceptions=True)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    yield bench
    await ended(bench)


def test_an_operators_name_says_where_it_runs() -> None:
    assert ME.home == ("system", "me")


@pytest.mark.parametrize("owner", ["", "system/me", "system/gone"])
async def test_a_set_that_is_nobody_elses_is_claimed_and_served(bench: Bench, owner: str) -> None:
    bench.put(owner)
    bench.start()
    await bench.until_applied()
    assert bench.owner() == "system/me"
    claimed = [write for write in bench.api.writes if write == "patch OllamaModelSet/assistants"]
    assert len(claimed) == (owner != "system/me")


async def test_a_new_leader_acts_on_no_set_as_it_was_before_it_led(bench: Bench) -> None:
    bench.put("system/me")
    bench.watch()
    while monitor.unready(bench.actor):
        await a_turn()
    bench.api.deaf = True
    with bench.api.edited("OllamaModelSet", "assistants") as found:
        found["spec"]["ollama"] = {"replicas": 3}
    bench.tasks.append(asyncio.create_task(bench.leads.run(lambda: bench.actor.run(bench.leads))))
    await bench.until_applied()
    assert bench.api.find("StatefulSet", "assistants-ollama")["spec"]["replicas"] == 3


async def test_a_set_of_another_operator_is_left_alone_until_it_is_handed_over(bench: Bench) -> None:
    bench.put("elsewhere/other")
    bench.start()
    while not bench.actor._others:
        await a_turn()
    assert [write for write in bench.api.writes if "Lease" not in write] == []
    with bench.api.edited("OllamaModelSet", "assistants") as found:
        found["metadata"]["annotations"][names.OPERATOR_ANNOTATION] = "system/me"
    await bench.until_applied()


class Pods(httpx.AsyncBaseTransport):
    """Pods and proxies that never answer; which paths are being asked for, and whether all is over."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.path)
        try:
            await asyncio.Event().wait()
        finally:
            self.asked.remove(request.url.path)
        raise AssertionError

    async def aclose(self) -> None:
        self.closed = True


async def busy_on_pods(bench: Bench) -> Pods:
    """Have it look at a pod, and listen to a proxy, that never answer."""
    pods = Pods()
    bench.actor = acting.Acting(
        bench.api, builders.IMAGES, (), ME, pods_client=lambda: httpx.AsyncClient(transport=pods)
    )
    bench.api.put(builders.resource("a:1", ollama={"autoscaling": {"minReplicas": 1, "maxReplicas": 2}}))
    bench.start()
    await bench.until_applied()
    template = bench.api.find("StatefulSet", "assistants-ollama")["spec"]["template"]
    labels = template["metadata"]["labels"]
    bench.api.put(
        {
            "kind": "Pod",
            "metadata": {"name": "assistants-ollama-0", "namespace": "default", "labels": labels},
            "status": {"podIP": "10.0.0.1", "containerStatuses": [{"state": {"running": {}}}]},
        }
    )
    while ("RayService", "default", "assistants") not in bench.api.objects:
        await a_turn()
    with bench.api.edited("RayService", "assistants") as service:
        service["status"] = builders.ray_service(builders.modelset("a:1"))["status"]
    while not {"/demand", "/api/tags"} <= set(pods.asked):
        await a_turn()
    return pods


async def test_all_that_it_does_on_pods_ends_before_another_may_lead(bench: Bench) -> None:
    pods = await busy_on_pods(bench)
    _, acts = bench.tasks
    acts.cancel()
    await asyncio.gather(acts, return_exceptions=True)
    assert (pods.asked, pods.closed, bench.actor.queue) == ([], True, None)


async def test_all_that_it_does_for_a_set_ends_when_that_is_handed_over(bench: Bench) -> None:
    pods = await busy_on_pods(bench)
    with bench.api.edited("OllamaModelSet", "assistants") as found:
        found["metadata"]["annotations"][names.OPERATOR_ANNOTATION] = "elsewhere/other"
    while pods.asked:
        await a_turn()
    assert not pods.closed


async def test_a_set_on_its_way_out_is_not_claimed(bench: Bench) -> None:
    bench.put()
    with bench.api.edited("OllamaModelSet", "assistants") as found:
        found["metadata"]["deletionTimestamp"] = builders.NOW
    bench.put(name="another")
    bench.start()
    while ("StatefulSet", "default", "another-ollama") not in bench.api.objects:
        await a_turn()
    assert bench.owner() == ""


async def test_whose_a_set_is_is_told_once_and_again_when_it_has_come_back(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    def belongs(owner: str) -> None:
        with bench.api.edited("OllamaModelSet", "assistants") as found:
            found["metadata"]["annotations"][names.OPERATOR_ANNOTATION] = owner
            found["spec"]["models"].append({"name": f"m:{len(found['spec']['models'])}"})

    def told() -> list[str]:
        return [record.getMessage() for record in caplog.records if "left alone" in record.getMessage()]

    bench.put("elsewhere/other")
    bench.start()
    while not told():
        await a_turn()
    owner = ("default", "assistants")
    for _ in range(2):
        belongs("elsewhere/other")
        await bench.api.told()
        assert bench.actor.queue is not None
        while bench.actor.queue.waiting() != (0, 0.0):
            await a_turn()
    assert len(told()) == 1
    belongs("system/me")
    await bench.until_applied()
    assert owner not in bench.actor._others
    belongs("elsewhere/other")
    while len(told()) < 2:
        await a_turn()


async def test_what_is_refused_is_one_line_and_the_queue_goes_by_the_clock_that_was_given(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    now = [1000.0]
    bench.actor = acting.Acting(bench.api, builders.IMAGES, (), ME, clock=lambda: now[0])
    bench.api.refusals["StatefulSet"] = http.RefusedError(403, "exceeded quota")
    bench.put()
    bench.start()
    while not (failed := [record for record in caplog.records if "failed, trying again" in record.msg]):
        await a_turn()
    assert [record.exc_info for record in failed] == [None]
    assert bench.actor.queue is not None
    bench.actor.queue.add(("default", "later"), 100.0)
    now[0] += 105.0
    assert bench.actor.queue.waiting()[1] >= 5.0


async def test_one_that_stands_by_is_ready_and_writes_nothing(bench: Bench) -> None:
    bench.put()
    assert "not listed yet" in monitor.unready(bench.actor)
    bench.watch()
    while monitor.unready(bench.actor):
        await a_turn()
    assert bench.api.writes == []


async def test_a_namespace_that_may_not_be_read_keeps_no_other_one_waiting() -> None:
    bench = Bench("closed", "default")
    bench.api.closed = "closed"
    bench.put()
    bench.put(namespace="closed")
    bench.start()
    await bench.until_applied()
    assert not bench.applied("closed")
    assert monitor.unready(bench.actor) == "rayservices in closed are not listed yet"
    await ended(bench)


async def test_a_watch_that_fails_for_a_minute_makes_the_operator_unready(bench: Bench) -> None:
    bench.watch()
    while monitor.unready(bench.actor):
        await a_turn()
    failing = bench.actor.cached._reflectors[0]
    failing.problem, failing.problem_since = "forbidden", failing._clock() - 59.0
    assert monitor.unready(bench.actor) == ""
    failing.problem_since -= 2.0
    assert "ollamamodelsets in all namespaces cannot be watched" in monitor.unready(bench.actor)
    failing.problem = ""


async def test_its_own_status_brings_no_look_and_an_edit_does(bench: Bench) -> None:
    bench.put()
    bench.watch()
    while monitor.unready(bench.actor):
        await a_turn()
    looked: list[tuple[str, str]] = []
    bench.actor.cached.model_sets._tell = looked.append
    written = bench.api.put({**bench.api.find("OllamaModelSet", "assistants"), "status": {"endpoint": "x"}})
    bench.actor.cached.wrote(written)
    await bench.api.told()
    assert looked == []
    edited = bench.api.put({**written, "spec": {"models": []}})
    bench.actor.cached.wrote(edited)
    assert looked == [("default", "assistants")]


async def test_metrics_and_readiness_are_told_over_http(bench: Bench, unused_tcp_port: int) -> None:
    bench.put()
    bench.start()
    await bench.until_applied()
    url = f"http://127.0.0.1:{unused_tcp_port}"
    async with monitor.serving(unused_tcp_port, bench.actor, bench.leads), aiohttp.ClientSession() as client:
        assert (await client.get(f"{url}/readyz")).status == 200
        text = await (await client.get(f"{url}/metrics")).text()
        bench.actor.cached._reflectors[0].synced.clear()
        assert (await client.get(f"{url}/readyz")).status == 503
    assert "modelset_operator_leading 1.0" in text
    assert 'modelset_operator_watch_failing_seconds{namespace="",resource="pods"} 0.0' in text
    assert "modelset_operator_queue_depth 0.0" in text
    assert "modelset_operator_sets{ready=" in text


def test_looks_and_downloads_are_counted_by_what_came_of_them() -> None:
    def value(name: str, **labels: str) -> float:
        return metrics.REGISTRY.get_sample_value(f"modelset_operator_{name}", labels) or 0.0

    before = value("reconciles_total", result="Refused"), value("pulls_total", result="Done")
    with pytest.raises(KeyError), metrics.reconcile({KeyError: "Refused"}):
        raise KeyError
    with metrics.pull({}):
        assert value("pulls_running") == 1
    after = value("reconciles_total", result="Refused"), value("pulls_total", result="Done")
    assert (after[0] - before[0], after[1] - before[1]) == (1, 1)
    assert value("pulls_running") == 0


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        (("GET", "/apis/apps/v1/namespaces/a/statefulsets/b", {}, ""), ("get", "statefulsets")),
        (("GET", "/api/v1/pods", {}, ""), ("list", "pods")),
        (("GET", "/api/v1/namespaces/a", {}, ""), ("get", "namespaces")),
        (("GET", "/api/v1/nodes/a/status", {}, ""), ("get", "nodes/status")),
        (("GET", "/api/v1/pods", {"watch": "1"}, ""), ("watch", "pods")),
        (("POST", "/api/v1/namespaces/a/events", {}, ""), ("create", "events")),
        (("PUT", "/apis/c/v1/namespaces/a/leases/b", {}, ""), ("update", "leases")),
        (
            ("PATCH", "/apis/m/v1/namespaces/a/ollamamodelsets/b/status", {}, "application/apply-patch+yaml"),
            ("apply", "ollamamodelsets/status"),
        ),
        (("PATCH", "/apis/r/v1/namespaces/a/rayclusters/b", {}, "json-patch"), ("patch", "rayclusters")),
    ],
)
def test_requests_are_counted_by_verb_and_resource(request_: Any, told: tuple[str, str]) -> None:
    assert http._described(*request_) == told
