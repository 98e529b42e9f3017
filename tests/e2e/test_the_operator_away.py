"""The operator dies or is away: work goes on where it stood, and deletion does not wait for it."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest

from stack import cluster
from tests.e2e.support import modelset as ms
from tests.e2e.support.kube import Kube
from tests.e2e.support.waiting import until

OPERATOR = Kube(cluster.OPERATOR_NAMESPACE)
DEPLOYMENT = "deployment/modelset-operator"
OPERATOR_LABEL = "app.kubernetes.io/name=modelset-operator"
OPERATOR_PODS = f"--selector={OPERATOR_LABEL}"
# The proxy asks DNS for Ollama pods every few seconds, and names live for up to 30 s in CoreDNS's cache.
SERVED_SECONDS = 60
OWNED = ("statefulsets", "services", "rayservices", "rayclusters", "pods", "persistentvolumeclaims")


def test_a_pull_survives_the_operator_being_killed(kube: Kube) -> None:
    kube.apply(ms.manifest("surviving", [ms.CHAT], ms.SLOW_REGISTRY))
    surviving = ms.ModelSet(kube, "surviving")
    until(
        lambda: surviving.model("smollm2:135m"),
        lambda m: m.get("phase") == "Pulling" and m.get("progress", "0%") != "0%",
        seconds=ms.READY_SECONDS,
        what="a pull under way",
    )

    OPERATOR.run("delete", "pods", OPERATOR_PODS, "--grace-period=0", "--force")

    surviving.await_ready()
    assert surviving.model("smollm2:135m")["phase"] == "Ready"


@pytest.fixture
def operator_scaled_to_zero() -> Iterator[None]:
    OPERATOR.run("scale", DEPLOYMENT, "--replicas=0")
    OPERATOR.run("wait", "pods", OPERATOR_PODS, "--for=delete", "--timeout=60s")
    yield
    OPERATOR.run("scale", DEPLOYMENT, "--replicas=1")
    OPERATOR.run("rollout", "status", DEPLOYMENT, "--timeout=120s")


def test_an_ollama_pod_that_is_lost_comes_back_and_serves_without_the_operator(
    kube: Kube, request: pytest.FixtureRequest
) -> None:
    kube.apply(ms.manifest("alone", [ms.CHAT]))
    alone = ms.ModelSet(kube, "alone")
    alone.await_ready()
    before = alone.pod_identities()
    request.getfixturevalue("operator_scaled_to_zero")

    kube.run("delete", "pod", "alone-ollama-0", "--wait", "--timeout=120s")

    kube.run("wait", "--for=create", "pod/alone-ollama-0", "--timeout=60s")
    kube.run("wait", "--for=condition=Ready", "pod/alone-ollama-0", "--timeout=180s")
    assert alone.pod_identities()["alone-ollama-0"] != before["alone-ollama-0"]
    with alone.client() as client:
        answer = until(
            lambda: _answer(client),
            bool,
            seconds=SERVED_SECONDS,
            what="the new pod's answer",
        )
    assert answer
    assert not OPERATOR.find("pods", OPERATOR_LABEL), "the operator came back meanwhile"


def _answer(client: openai.OpenAI) -> str:
    """A short answer; none as long as the proxy has not found the new pod."""
    try:
        said = client.chat.completions.create(
            model="smollm2", messages=[{"role": "user", "content": "hi"}], max_completion_tokens=4
        )
    except openai.APIStatusError:
        return ""
    return said.choices[0].message.content or ""


def _left(kube: Kube) -> list[str]:
    return [f"{kind}/{item['metadata']['name']}" for kind in OWNED for item in kube.find(kind)]


@pytest.mark.compat
def test_deleting_a_set_leaves_nothing_behind_without_the_operator(
    kube: Kube, request: pytest.FixtureRequest
) -> None:
    kube.apply(ms.manifest("doomed", [ms.EMBEDDING]))
    ms.ModelSet(kube, "doomed").await_ready()
    assert len(kube.find("persistentvolumeclaims")) == 1
    request.getfixturevalue("operator_scaled_to_zero")

    kube.run("delete", "ollamamodelset", "doomed", "--wait", "--timeout=60s")

    until(
        lambda: _left(kube), lambda left: not left, seconds=180, what="all that belonged to the set is gone"
    )


def test_what_the_operator_keeps_for_itself_is_made_anew(kube: Kube, operator_scaled_to_zero: None) -> None:
    """The Lease by which it acts, and the key to what proxies are asked, as where it was just installed."""
    OPERATOR.run("delete", "lease/modelset-operator", "secret/modelset-operator-demand", "--ignore-not-found")
    manifest = ms.manifest("kept", [ms.EMBEDDING])
    manifest["spec"]["ollama"]["autoscaling"] = {"minReplicas": 1, "maxReplicas": 1}
    kube.apply(manifest)

    OPERATOR.run("scale", DEPLOYMENT, "--replicas=1")

    OPERATOR.run("wait", "--for=create", "lease/modelset-operator", "--timeout=60s")
    OPERATOR.run("wait", "--for=create", "secret/modelset-operator-demand", "--timeout=60s")
    kube.run("wait", "--for=create", "rayservice/kept", "--timeout=60s")
