"""What is the set's and what is not, what is refused, and what the status says meanwhile."""

import json
from typing import Any

import pytest

from modelset_operator import reconciler
from modelset_operator.cluster import http

from .worlds import MODELS, World

RAY_SERVICE = {
    "apiVersion": "ray.io/v1",
    "kind": "RayService",
    "metadata": {"name": "assistants", "namespace": "default"},
    "spec": {"serveConfigV2": "applications: []"},
}
SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "assistants-ollama", "namespace": "default"},
    "spec": {"selector": {"app": "mine"}},
}
POLICY = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "assistants-ollama", "namespace": "default"},
    "spec": {"podSelector": {}},
}
ANOTHER = {"kind": "Deployment", "name": "mine", "uid": "another", "controller": True}


@pytest.mark.parametrize("foreign", [RAY_SERVICE, SERVICE, POLICY], ids=lambda one: one["kind"])
@pytest.mark.parametrize("owners", [[], [ANOTHER]], ids=["nobody's", "another's"])
@pytest.mark.parametrize("labelled", [False, True])
async def test_what_somebody_else_made_stays_as_it_is_and_the_set_says_so(
    world: World, foreign: dict[str, Any], owners: list[dict[str, Any]], labelled: bool
) -> None:
    labels = {"modelset.dev/set": "assistants", "app.kubernetes.io/component": "ollama"} if labelled else {}
    metadata = {**foreign["metadata"], "ownerReferences": owners, "labels": labels}
    before = json.dumps(world.api.put({**foreign, "metadata": metadata}))
    for _ in range(2):
        with pytest.raises(reconciler.ReconcileError, match="give the set another name"):
            await world.reconcile()
    assert json.dumps(world.api.find(foreign["kind"], foreign["metadata"]["name"])) == before
    ready = next(entry for entry in world.status["conditions"] if entry["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "ApplyFailed")
    assert foreign["metadata"]["name"] in ready["message"]
    assert ("StatefulSet", "default", "assistants-ollama") in world.api.objects
    world.api.remove(foreign["kind"], "default", foreign["metadata"]["name"])
    await world.reconcile()
    assert world.api.find(foreign["kind"], foreign["metadata"]["name"])["metadata"]["ownerReferences"]


async def test_what_the_set_left_behind_is_taken_back(world: World) -> None:
    await world.to_ready()
    with world.api.edited("StatefulSet", "assistants-ollama") as stateful_set:
        stateful_set["metadata"]["ownerReferences"] = []
    await world.reconcile()
    owners = world.api.find("StatefulSet", "assistants-ollama")["metadata"]["ownerReferences"]
    assert [owner["kind"] for owner in owners] == ["OllamaModelSet"]


async def test_a_stateful_set_whose_fixed_fields_are_to_change_is_made_anew_around_its_pods(
    world: World,
) -> None:
    await world.to_ready()
    with world.api.edited("StatefulSet", "assistants-ollama") as stateful_set:
        stateful_set["spec"]["serviceName"] = "as 0.0.9 had it"
    for _ in range(2):
        with pytest.raises(reconciler.ReconcileError, match="made anew around its pods"):
            await world.reconcile()
    assert "delete StatefulSet/assistants-ollama" in world.api.writes
    assert "ApplyFailed" not in json.dumps(world.status)
    world.api.collect()
    await world.reconcile()
    assert world.api.find("StatefulSet", "assistants-ollama")["spec"]["serviceName"] == "assistants-ollama"
    assert world.api.find("Pod", "assistants-ollama-0")["metadata"]["uid"] == "pod-0"


@pytest.mark.parametrize("status", [429, 503, 409])
async def test_what_may_pass_is_tried_again_and_not_told_as_a_failure(world: World, status: int) -> None:
    await world.to_ready()
    world.edit(*MODELS, proxy={"replicas": 2})
    world.api.refusals["RayService"] = http.RefusedError(status, "later", retry_after=7.0)
    with pytest.raises(reconciler.ReconcileError) as failed:
        await world.reconcile()
    assert failed.value.retry_after == 7.0
    ready = next(entry for entry in world.status["conditions"] if entry["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "Applying")
    assert "ApplyFailed" not in json.dumps(world.status)
    world.api.refusals.clear()
    await world.reconcile()


async def test_a_service_that_is_another_one_by_now_is_no_failure(world: World) -> None:
    await world.to_ready()
    service = world.api.find("Service", "assistants-serve-svc")
    world.edit(*MODELS[:1])
    world.api.refusals["Service"] = http.RefusedError(
        422, f'metadata.uid: Invalid value: "{service["metadata"]["uid"]}": field is immutable'
    )
    with pytest.raises(reconciler.ReconcileError):
        await world.reconcile()
    assert "ApplyFailed" not in json.dumps(world.status)


async def test_a_refused_change_makes_a_set_that_serves_not_ready(world: World) -> None:
    await world.to_ready()
    assert world.condition("Ready") == "True"
    world.edit(*MODELS, ollama={"parallel": 2})
    world.api.refusals["StatefulSet"] = http.RefusedError(403, "exceeded quota")
    with pytest.raises(reconciler.ReconcileError):
        await world.reconcile()
    assert world.condition("Ready") == "False"
    assert world.condition("OllamaReady") == "True"


async def test_a_set_is_ready_again_only_when_what_was_changed_serves(world: World) -> None:
    await world.to_ready()
    world.edit(*MODELS, ollama={"parallel": 2})
    await world.reconcile()
    ready = next(entry for entry in world.status["conditions"] if entry["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "RollingOut")
    generation = world.api.find("OllamaModelSet", "assistants")["metadata"]["generation"]
    assert ready["observedGeneration"] == generation
    with world.api.edited("StatefulSet", "assistants-ollama") as stateful_set:
        observed = stateful_set["metadata"]["generation"]
        stateful_set["status"] = {"observedGeneration": observed, "replicas": 1, "updatedReplicas": 1}
    await world.reconcile()
    world.run_kuberay()
    await world.reconcile()
    assert world.condition("Ready") == "True"
