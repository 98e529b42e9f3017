"""Of two replicas of the operator one acts; when it dies, the other one does."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from stack import cluster
from tests.e2e.support import modelset as ms
from tests.e2e.support import writes
from tests.e2e.support.kube import Kube, Manifest
from tests.e2e.support.waiting import until

OPERATOR = Kube(cluster.OPERATOR_NAMESPACE)
DEPLOYMENT = "deployment/modelset-operator"
IDLE_RENEWALS = 15
FAILOVER_SECONDS = 20


@pytest.fixture
def two_operators() -> Iterator[None]:
    OPERATOR.run("scale", DEPLOYMENT, "--replicas=2")
    OPERATOR.run("rollout", "status", DEPLOYMENT, "--timeout=120s")
    yield
    OPERATOR.run("scale", DEPLOYMENT, "--replicas=1")
    OPERATOR.run("rollout", "status", DEPLOYMENT, "--timeout=120s")


def _lease() -> Manifest:
    return dict(OPERATOR.get("lease", "modelset-operator")["spec"])


def _holder() -> str:
    """The pod that leads, as the Lease tells, which names each start of it."""
    pod, _, _ = str(_lease().get("holderIdentity", "")).partition("_")
    return pod


def _pods() -> set[str]:
    found = OPERATOR.find("pods", "app.kubernetes.io/name=modelset-operator")
    return {pod["metadata"]["name"] for pod in found}


@pytest.mark.long
def test_one_acts_and_the_other_follows_when_it_dies(
    kube: Kube, two_operators: None, record_testsuite_property: Any
) -> None:
    manifest = ms.manifest("led", [ms.EMBEDDING])
    kube.apply(manifest)
    led = ms.ModelSet(kube, "led")
    led.await_ready()
    until(
        lambda: led.condition("Progressing"),
        lambda condition: condition.get("status") == "False",
        seconds=60,
        what="nothing is under way",
    )
    leader = _holder()
    assert leader in _pods()

    before = writes.of_operator(kube)
    renewals: set[str] = set()
    until(
        lambda: renewals.add(_lease()["renewTime"]) or len(renewals),  # type: ignore[func-returns-value]
        lambda count: count > IDLE_RENEWALS,
        seconds=120,
        what="the Lease is renewed again and again",
    )
    assert writes.of_operator(kube) == before, "two that run write to a set that rests"
    assert _holder() == leader

    OPERATOR.run("delete", "pod", leader, "--grace-period=0", "--force", "--wait=false")
    killed = time.monotonic()
    manifest["spec"]["models"] = [ms.EMBEDDING | {"servedNames": ["renamed"]}]
    kube.apply(manifest)
    until(
        lambda: led.status()["observedGeneration"],
        lambda generation: generation == led.get()["metadata"]["generation"],
        seconds=FAILOVER_SECONDS,
        what="the other one has seen the edit",
    )
    record_testsuite_property("seconds until another operator acts", f"{time.monotonic() - killed:.1f}")
    assert _holder() in _pods() - {leader}
    led.await_ready()
