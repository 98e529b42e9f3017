"""What a reconcile leaves behind for people and for the next one: Events, the status, what it remembers."""

import json
from typing import Any

import pytest

from modelset_operator import reconciler
from modelset_operator.cluster import http, kinds
from modelset_operator.plan import autoscaling, events
from modelset_operator.plan import observed as seen

from . import builders
from .worlds import MODELS, OWNER, World


def test_an_event_is_about_its_set() -> None:
    resource = builders.resource("a:1")
    resource["metadata"]["resourceVersion"] = "7"
    observed = builders.observed(resource)
    manifest = reconciler.event_manifest(observed, events.Event("Normal", "Ready", "x" * 2000))
    prefix, _, digest = manifest["metadata"].pop("name").rpartition(".")
    assert prefix == "assistants"
    assert len(digest) == 16
    assert manifest == {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"namespace": "default"},
        "involvedObject": {
            "apiVersion": "modelset.dev/v1alpha1",
            "kind": "OllamaModelSet",
            "name": "assistants",
            "namespace": "default",
            "uid": "set-uid",
            "resourceVersion": "7",
        },
        "type": "Normal",
        "reason": "Ready",
        "message": "x" * 1000,
        "source": {"component": "modelset-operator"},
        "reportingComponent": "modelset-operator",
        "firstTimestamp": builders.NOW,
        "lastTimestamp": builders.NOW,
        "count": 1,
    }


@pytest.mark.parametrize("other", [{"type": "Warning"}, {"reason": "NotReady"}, {"message": "more"}])
def test_other_events_at_the_same_second_have_other_names(other: dict[str, str]) -> None:
    observed = builders.observed(builders.resource("a:1"))
    fields = {"type": "Normal", "reason": "Ready", "message": "one"}
    names = {
        reconciler.event_manifest(observed, events.Event(**given))["metadata"]["name"]
        for given in (fields, fields, fields | other)
    }
    assert len(names) == 2


async def test_what_the_api_server_does_not_keep_is_not_applied_over_and_over(world: World) -> None:
    world.api.dropped_fields.add("data")
    await world.reconcile()
    before = world.api.writes.count("apply ConfigMap/assistants-ollama")
    await world.reconcile(3)
    assert world.api.writes.count("apply ConfigMap/assistants-ollama") == before
    # Another manifest is tried again, and kept in mind no longer once it sticks.
    world.edit(MODELS[0])
    world.api.dropped_fields.clear()
    await world.reconcile()
    assert world.api.writes.count("apply ConfigMap/assistants-ollama") == before + 1
    with world.api.edited("ConfigMap", "assistants-ollama") as found:
        del found["data"]
    await world.reconcile()
    assert world.api.find("ConfigMap", "assistants-ollama")["data"]


async def test_nothing_is_remembered_of_a_set_that_is_gone(world: World) -> None:
    await world.to_ready()
    assert world.work.sights(OWNER)
    found = world.reconciler
    found._ungrown[OWNER] = {"claim-0": (seen.Ungrown("9Gi", "no"), world.now[0])}
    found._scaling[OWNER] = autoscaling.State.begin(1)
    found._tokens[OWNER] = "token"
    world.api.remove("OllamaModelSet", "default", "assistants")
    await world.reconcile()
    assert not world.work.sights(OWNER)
    assert not world.work.downloads(OWNER)
    kept = (found._settled, found._tolerated, found._ungrown, found._scaling, found._tokens)
    assert kept == ({}, {}, {}, {}, {})


def test_it_is_known_since_when_the_proxy_has_run_as_it_should(world: World) -> None:
    def settled(generation: int, running: bool = True, later: float = 0.0) -> float:
        world.now[0] += later
        service = builders.ray_service(builders.modelset("a:1"), ready="True" if running else "False")
        service["metadata"]["generation"] = service["status"]["observedGeneration"] = generation
        observed = builders.observed(builders.resource("a:1"), ray_service=service)
        return world.reconciler._with_settled(OWNER, observed).settled_seconds

    assert [
        settled(3),
        settled(3, later=10.0),
        # All of a change was done between two looks.
        settled(4, later=10.0),
        settled(4, later=7.0),
        settled(4, running=False),
        settled(4, later=10.0),
        settled(4, later=2.0),
    ] == [0.0, 10.0, 0.0, 7.0, 0.0, 0.0, 2.0]
    gone = builders.observed(builders.resource("a:1"))
    assert world.reconciler._with_settled(OWNER, gone).settled_seconds == 0.0
    assert settled(4, later=1.0) == 0.0


@pytest.mark.parametrize(
    ("status", "failures"), [(404, []), (409, []), (403, ["StatefulSet assistants-cache: no"])]
)
async def test_what_is_gone_or_another_one_by_now_need_not_be_deleted(
    world: World, monkeypatch: pytest.MonkeyPatch, status: int, failures: list[str]
) -> None:
    asked: list[Any] = []

    async def refuse(*given: Any) -> None:
        asked.append(given)
        raise http.RefusedError(status, "no")

    monkeypatch.setattr(world.reconciler._api, "delete", refuse)
    attempts = reconciler._Attempts()
    found = {"kind": "StatefulSet", "metadata": {"name": "assistants-cache", "uid": "u"}}
    await world.reconciler._delete(builders.observed(builders.resource("a:1")), (found,), attempts)
    assert asked == [(kinds.STATEFUL_SET, "default", "assistants-cache", "u")]
    assert attempts.failures == failures


async def test_nothing_is_told_before_all_pods_that_run_were_looked_at(world: World) -> None:
    await world.reconcile()
    world.start_pod()
    world.fleet.proceed.clear()
    world.api.writes.clear()
    await world.cached.synced()
    await world.api.told()
    await world.reconciler.reconcile(OWNER)
    assert world.api.writes == []
    world.fleet.proceed.set()


async def test_a_set_that_no_rule_allows_any_more_is_looked_at_later(world: World) -> None:
    world.edit({"name": ":no-name"})
    assert await world.reconcile() == reconciler.RESYNC_SECONDS
    assert world.api.writes == ["apply OllamaModelSet/assistants/status"]


@pytest.mark.parametrize(("status", "kept"), [(404, True), (409, True), (422, False), (500, False)])
async def test_a_status_that_is_not_taken_fails_the_reconcile_unless_the_set_has_changed(
    world: World, status: int, kept: bool
) -> None:
    await world.to_ready()
    world.edit(*MODELS, proxy={"replicas": 2})
    world.api.refusals["OllamaModelSet"] = http.RefusedError(status, "no status")
    told = len(world.api.events)
    if kept:
        await world.reconcile()
    else:
        with pytest.raises(http.RefusedError, match="no status"):
            await world.reconcile()
    assert len(world.api.events) == told


@pytest.mark.parametrize("status", [404, 409, 422, 403])
async def test_a_ray_cluster_that_went_away_is_nothing_to_tell(world: World, status: int) -> None:
    await world.to_ready()
    with world.api.edited("RayService", "assistants") as service:
        service["status"]["activeServiceStatus"]["rayClusterName"] = "assistants-abc"
    groups = service["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    metadata = {"name": "assistants-abc", "namespace": "default", "labels": service["metadata"]["labels"]}
    world.api.put({"kind": "RayCluster", "metadata": metadata, "spec": {"workerGroupSpecs": groups}})
    world.edit(*MODELS, proxy={"replicas": 2})
    world.api.refusals["RayCluster"] = http.RefusedError(status, "no such cluster")
    if status == 403:
        with pytest.raises(reconciler.ReconcileError, match="RayCluster assistants-abc: no such cluster"):
            await world.reconcile()
    else:
        assert await world.reconcile() == reconciler.SOON_SECONDS
        assert "ApplyFailed" not in json.dumps(world.status)


@pytest.mark.parametrize(
    ("error", "told", "after"),
    [
        (http.RefusedError(403, "forbidden"), True, None),
        (http.KindMissingError("no such kind"), True, None),
        (http.UnreachableError("the API server is away"), False, None),
        (http.RefusedError(503, "try again", retry_after=3.0), False, 3.0),
        (http.RefusedError(503, "try again"), False, None),
    ],
)
async def test_only_what_will_not_pass_is_told_and_all_is_tried_again(
    world: World, error: Exception, told: bool, after: float | None
) -> None:
    world.api.refusals["StatefulSet"] = error
    with pytest.raises(reconciler.ReconcileError, match=f"StatefulSet assistants-ollama: {error}") as failed:
        await world.reconcile()
    assert failed.value.retry_after == after
    assert (str(error) in json.dumps(world.status)) == told


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("StatefulSet", http.RefusedError(422, "spec.replicas: Invalid value: -1")),
        ("StatefulSet", http.RefusedError(403, "Forbidden")),
        ("ConfigMap", http.RefusedError(422, "spec: Forbidden: immutable")),
    ],
)
async def test_nothing_is_deleted_that_need_not_be_made_anew(
    world: World, kind: str, error: Exception
) -> None:
    await world.to_ready()
    with world.api.edited(kind, "assistants-ollama") as found:
        found["metadata"]["labels"]["modelset.dev/set"] = "assistants"
        found["metadata"]["annotations"] = {}
    world.api.refusals[kind] = error
    with pytest.raises(reconciler.ReconcileError):
        await world.reconcile()
    assert not any(write.startswith("delete") for write in world.api.writes)


async def test_what_somebody_made_since_it_was_looked_for_is_a_conflict(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "assistants-ollama", "namespace": "default"},
        "data": {"required": "theirs"},
    }

    async def made_meanwhile(manifest: Any) -> None:
        if manifest["kind"] == "ConfigMap":
            world.api.put(theirs)

    monkeypatch.setattr(world.reconciler._api, "find", made_meanwhile)
    with pytest.raises(reconciler.ReconcileError, match="conflict"):
        await world.reconcile()
    assert world.api.find("ConfigMap", "assistants-ollama")["data"] == {"required": "theirs"}
