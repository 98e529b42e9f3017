"""On a network that enforces policies, nobody reaches more of a set than its endpoint."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from stack import cluster
from tests.e2e.support import modelset as ms
from tests.e2e.support import namespaces, ports
from tests.e2e.support.kube import Kube, Manifest, Refused

ENDPOINT, OLLAMA, DASHBOARD, HEALTH = 8000, 11434, 8265, 8080
# KubeRay's, the operator's, and those of the shared set: from another namespace they count for nothing.
BORROWED = {
    "app.kubernetes.io/name": "modelset-operator",
    "app.kubernetes.io/instance": "modelset-operator",
    "app.kubernetes.io/component": "kuberay-operator",
    "modelset.dev/set": "assistants",
}
_SUBMIT = """
import json, sys, urllib.request
asked = urllib.request.Request(sys.argv[1], json.dumps({"entrypoint": "id"}).encode())
print(urllib.request.urlopen(asked, timeout=5).status)
"""


@dataclass(frozen=True)
class Insides:
    """Pods of the shared set, and the operator's."""

    head: ports.Pod
    ollama: ports.Pod
    operator: ports.Pod


def _only(kube: Kube, selector: str) -> ports.Pod:
    (pod,) = kube.find("pods", selector)
    return ports.Pod(kube, pod["metadata"]["name"])


@pytest.fixture(scope="module")
def insides(assistants: ms.ModelSet) -> Insides:
    return Insides(
        head=_only(assistants.kube, "modelset.dev/set=assistants,ray.io/node-type=head"),
        ollama=ports.Pod(assistants.kube, "assistants-ollama-0"),
        operator=_only(Kube(cluster.OPERATOR_NAMESPACE), "app.kubernetes.io/name=modelset-operator"),
    )


@pytest.fixture(scope="module")
def image(insides: Insides) -> str:
    found = insides.head.kube.get("pod", insides.head.name)
    return str(found["spec"]["containers"][0]["image"])


@pytest.fixture(scope="module")
def stranger(assistants: ms.ModelSet, image: str, pytestconfig: pytest.Config) -> Iterator[ports.Pod]:
    """A pod of another namespace."""
    for kube in namespaces.fresh("e2e-strangers", pytestconfig):
        yield ports.bystander(kube, image, BORROWED)


@pytest.fixture(scope="module")
def neighbour(assistants: ms.ModelSet, image: str) -> Iterator[ports.Pod]:
    """A pod of the set's own namespace."""
    yield ports.bystander(assistants.kube, image, {"app": "neighbour"})
    assistants.kube.run("delete", "pod", "bystander")


@pytest.fixture(params=["stranger", "neighbour"])
def bystander(request: pytest.FixtureRequest) -> ports.Pod:
    found: ports.Pod = request.getfixturevalue(request.param)
    return found


def test_of_ray_only_the_endpoint_answers(bystander: ports.Pod, insides: Insides) -> None:
    listening = insides.head.listening()
    assert listening >= {6379, DASHBOARD, 10001, ENDPOINT}
    assert insides.head.reached(insides.head.ip, listening) == listening, "they do answer the pod itself"
    assert bystander.reached(insides.head.ip, listening) == {ENDPOINT}


def test_ollama_answers_its_proxy_alone(bystander: ports.Pod, insides: Insides) -> None:
    listening = insides.ollama.listening()
    assert OLLAMA in listening
    assert insides.head.reached(insides.ollama.ip, listening) == {OLLAMA}
    assert bystander.reached(insides.ollama.ip, listening) == set()


def test_the_operator_answers_nobody(bystander: ports.Pod, insides: Insides) -> None:
    listening = insides.operator.listening()
    assert HEALTH in listening
    assert bystander.reached(insides.operator.ip, listening) == set()


def test_a_job_cannot_be_submitted(bystander: ports.Pod, insides: Insides) -> None:
    def ask(service: str) -> str:
        url = f"http://assistants-{service}/api/jobs/".replace(
            "svc:", f"svc.{insides.head.kube.namespace}.svc:"
        )
        return bystander.kube.run("exec", bystander.name, "--", "python3", "-c", _SUBMIT, url)

    with pytest.raises(Refused, match="HTTP Error 40"):
        ask(f"serve-svc:{ENDPOINT}")
    with pytest.raises(Refused, match=r"refused|timed out"):
        ask(f"head-svc:{DASHBOARD}")


def test_pods_of_a_set_reach_no_more_than_they_need(neighbour: ports.Pod, insides: Insides) -> None:
    registry = _only(Kube("model-registry"), "app=model-registry")
    assert neighbour.reached(registry.ip, {5000}) == {5000}
    assert insides.ollama.reached(registry.ip, {5000}) == {5000}
    assert insides.head.reached(registry.ip, {5000}) == set()
    assert neighbour.reached(insides.head.ip, {ENDPOINT}) == {ENDPOINT}
    assert insides.ollama.reached(insides.head.ip, {ENDPOINT}) == set()
    api_server = Kube("default").get("endpoints", "kubernetes")["subsets"][0]
    address, port = api_server["addresses"][0]["ip"], int(api_server["ports"][0]["port"])
    assert neighbour.reached(address, {port}) == {port}
    assert insides.head.reached(address, {port}) == insides.ollama.reached(address, {port}) == set()


def _clusters(kube: Kube) -> set[str]:
    return {one["metadata"]["name"] for one in kube.find("rayclusters")}


def test_a_new_ray_cluster_takes_over_behind_the_same_policies(kube: Kube) -> None:
    manifest = ms.manifest("moving", [ms.EMBEDDING])
    kube.apply(manifest)
    moving = ms.ModelSet(kube, "moving")
    moving.await_ready()
    before, policies = _clusters(kube), _versions(kube.find("networkpolicies"))

    manifest["spec"]["proxy"]["resources"] = {"requests": {"cpu": "101m", "memory": "1Gi"}}
    kube.apply(manifest)
    moving.await_ready()

    assert _clusters(kube) - before, "no other Ray cluster took over"
    assert _versions(kube.find("networkpolicies")) == policies
    with moving.client() as client:
        assert client.embeddings.create(model="all-minilm", input="hello").data[0].embedding


def _versions(found: list[Manifest]) -> dict[str, str]:
    return {one["metadata"]["name"]: one["metadata"]["resourceVersion"] for one in found}
