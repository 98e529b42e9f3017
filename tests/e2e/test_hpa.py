"""Others say through the scale subresource how many Ollama pods there are to be; the operator follows."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import openai
import pytest
import yaml

from stack import cache, cluster, step
from tests.e2e.support import modelset as ms
from tests.e2e.support import namespaces, writes
from tests.e2e.support.kube import Kube, Manifest
from tests.e2e.support.waiting import until

pytestmark = pytest.mark.long

EXAMPLE = cache.REPOSITORY / "examples" / "horizontalpodautoscaler.yaml"
NAME = "scaled"
CLIENTS = 4
# One short answer takes up to half a second of CPU on a busy machine: far less than a pod may use on average.
PAUSE_SECONDS = 10
# It looks every 15 s at what metrics-server found in the last 15, and a pod that it adds pulls its model.
SCALED_SECONDS = 180
AUTOSCALER = "kube-controller-manager"


@dataclass
class Load:
    """Clients that ask again and again until told to end; one of them, now and then, when `light`."""

    client: openai.OpenAI
    light: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)

    def ask(self, number: int) -> int:
        """Return how many answers came; raises what the first request that failed was told."""
        answers = 0
        while not (self.ended.is_set() or (self.light.is_set() and number > 0)):
            answer = self.client.chat.completions.create(
                model="smollm2",
                messages=[{"role": "user", "content": f"Tell me a story about {number + 2} friends."}],
                max_completion_tokens=2 if self.light.is_set() else 48,
            )
            assert answer.choices[0].finish_reason in {"stop", "length"}
            answers += 1
            if self.light.is_set():
                self.ended.wait(PAUSE_SECONDS)
        return answers


@contextlib.contextmanager
def _asking(modelset: ms.ModelSet) -> Iterator[tuple[Load, list[Future[int]]]]:
    with modelset.client() as client, ThreadPoolExecutor(CLIENTS) as threads:
        load = Load(client)
        try:
            yield load, [threads.submit(load.ask, number) for number in range(CLIENTS)]
        finally:
            load.ended.set()


@pytest.fixture(scope="module")
def scaled_kube(own_cluster: None, pytestconfig: pytest.Config) -> Iterator[Kube]:
    yield from namespaces.fresh("e2e-scaled", pytestconfig)


@pytest.fixture(scope="module")
def scaled(scaled_kube: Kube) -> ms.ModelSet:
    """A Ready set that says nothing of how many Ollama pods there are to be."""
    manifest = ms.manifest(NAME, [ms.CHAT])
    assert "replicas" not in manifest["spec"]["ollama"]
    scaled_kube.apply(manifest)
    result = ms.ModelSet(scaled_kube, NAME)
    result.await_ready()
    return result


@pytest.fixture
def pod_metrics(scaled: ms.ModelSet) -> Iterator[None]:
    """The API that tells what pods use, from metrics-server, once it tells it of the set's Ollama."""
    cluster.install_metrics_server()
    try:
        until(lambda: _used(scaled.kube), bool, seconds=SCALED_SECONDS, what="metrics of the Ollama pod")
        yield
    finally:
        cluster.remove_metrics_server()


def _autoscaler() -> Manifest:
    """The example, for this set, with less CPU a pod than a busy machine leaves it, and quick to go down."""
    result: Manifest = yaml.safe_load(EXAMPLE.read_text())
    result["metadata"]["name"] = result["spec"]["scaleTargetRef"]["name"] = NAME
    result["spec"]["metrics"][0]["resource"]["target"]["averageValue"] = "200m"
    result["spec"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"] = 0
    return result


def _used(kube: Kube) -> list[Manifest]:
    path = f"/apis/metrics.k8s.io/v1beta1/namespaces/{kube.namespace}/pods"
    try:
        items = json.loads(cluster.kubectl("get", "--raw", path))["items"]
    except step.StepFailed:  # it is only now getting to know the pods
        return []
    return [item for item in items if item["metadata"]["name"] == f"{NAME}-ollama-0"]


def _scale(modelset: ms.ModelSet) -> Manifest:
    """The scale subresource."""
    read = modelset.kube.run(
        "get", "ollamamodelset", modelset.name, "--subresource=scale", "--output", "json"
    )
    return dict(json.loads(read))


def _await_pods(modelset: ms.ModelSet, count: int) -> None:
    """Wait until `count` pods are asked for, are there, and are what the selector finds."""
    found = until(
        lambda: _scale(modelset),
        lambda scale: scale["spec"].get("replicas", 0) == scale["status"]["replicas"] == count,
        seconds=SCALED_SECONDS,
        what=f"{count} Ollama pods",
    )
    modelset.await_ready()
    until(
        lambda: {pod["metadata"]["name"] for pod in modelset.kube.find("pods", found["status"]["selector"])},
        lambda pods: pods == {f"{NAME}-ollama-{number}" for number in range(count)},
        seconds=SCALED_SECONDS,
        what=f"the selector finds {count} pods",
    )


def _await_asked_for(modelset: ms.ModelSet, count: int) -> None:
    """Wait until the autoscaler wants `count` pods; what it has to say is told when it does not."""
    until(
        lambda: (_scale(modelset)["spec"].get("replicas"), modelset.kube.get("hpa", NAME).get("status")),
        lambda seen: seen[0] == count,
        seconds=SCALED_SECONDS,
        what=f"the autoscaler asks for {count}",
    )


def _owners(modelset: ms.ModelSet, *path: str) -> set[str]:
    """Who has written a field last, as managedFields tell."""

    *above, last = (f"f:{name}" for name in path)

    def holds(fields: Manifest) -> bool:
        for name in above:
            fields = fields.get(name, {})
        return last in fields

    [found] = modelset.kube.find("ollamamodelsets")
    return {entry["manager"] for entry in found["metadata"]["managedFields"] if holds(entry["fieldsV1"])}


def test_kubectl_scales_a_set(scaled: ms.ModelSet) -> None:
    before = scaled.get()["metadata"]["generation"]

    for count in (2, 1):
        scaled.kube.run("scale", f"oms/{NAME}", f"--replicas={count}")
        _await_pods(scaled, count)

    assert scaled.get()["metadata"]["generation"] == before + 2


def test_an_autoscaler_scales_a_set_under_load_and_no_request_fails(
    scaled: ms.ModelSet, pod_metrics: None
) -> None:
    before = scaled.get()["metadata"]["generation"]
    with _asking(scaled) as (load, asking):
        scaled.kube.apply(_autoscaler())
        _await_asked_for(scaled, 2)
        _await_pods(scaled, 2)
        load.light.set()
        _await_asked_for(scaled, 1)
        _await_pods(scaled, 1)
        load.ended.set()
        answers = [client.result() for client in asking]

    assert min(answers) > 0
    # Up and down: nobody else has written anything.
    assert scaled.get()["metadata"]["generation"] == before + 2
    assert _owners(scaled, "spec", "ollama", "replicas") == {AUTOSCALER}
    assert writes.OPERATOR not in _owners(scaled, "spec")
