"""Volumes that are smaller than their set says: it was raised, or they were there before it."""

import dataclasses
from typing import Any

import pytest

from modelset_operator import reconciler
from modelset_operator.api import quantities, spec
from modelset_operator.cluster import http, writes
from modelset_operator.plan import events, status, volumes
from modelset_operator.plan import observed as seen

from . import builders
from .worlds import MODELS, World

POOL = "assistants-ollama"
CLAIM = f"models-{POOL}-0"
# As kube-apiserver says it.
CANNOT = (
    f'persistentvolumeclaims "{CLAIM}" is forbidden: only dynamically provisioned pvc can be resized and the'
    " storageclass that provisions the pvc must support resize"
)


def observed(asked: str, *claims: tuple[str, str], refused: str = "") -> seen.Observed:
    """Return a look at claims: what each asks for and has; `refused` is the size that none may have."""
    found: list[dict[str, Any]] = [
        {
            "metadata": {"name": f"models-{POOL}-{ordinal}", "uid": f"claim-{ordinal}"},
            "spec": {"resources": {"requests": {"storage": requested}}},
            "status": {"phase": "Bound", "capacity": {"storage": capacity} if capacity else {}},
        }
        for ordinal, (requested, capacity) in enumerate(claims)
    ]
    resource = builders.resource("a:1", ollama={"storage": {"size": asked}})
    return builders.observed(
        resource,
        pools={POOL: seen.PoolObjects(claims=tuple(found))},
        ungrown={one["metadata"]["uid"]: seen.Ungrown(refused, CANNOT) for one in found},
    )


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("1", 1),
        ("2k", 2000),
        ("2Ki", 2048),
        ("1.5Gi", 1.5 * 2**30),
        ("1e3", 1000),
        ("5E", 5 * 10**18),
        ("100m", 0.1),
        ("1Ei", 2**60),
    ],
)
def test_amounts(text: str, amount: float) -> None:
    assert float(quantities.parse(text)) == amount


@pytest.mark.parametrize("text", ["Gi", "1 Gi", "1gi", "1.2.3"])
def test_what_is_no_amount(text: str) -> None:
    with pytest.raises(spec.SpecError, match=f"spec.ollama.storage.size: '{text}' is no amount"):
        builders.modelset("a:1", ollama={"storage": {"size": text}})


@pytest.mark.parametrize(
    ("asked", "claim", "small"),
    [
        pytest.param("20Gi", ("20Gi", "20Gi"), False, id="as asked for"),
        pytest.param("20G", ("20Gi", ""), False, id="more, in another unit"),
        pytest.param("20Gi", ("20G", ""), True, id="less, in another unit"),
        pytest.param("20Gi", ("9Gi", "9Gi"), True, id="less"),
        pytest.param("20Gi", ("9Gi", "30Gi"), False, id="a volume larger than its claim"),
        pytest.param("20Gi", ("20Gi", "9Gi"), False, id="being made larger"),
    ],
)
def test_a_claim_that_is_smaller_than_asked_for_grows_or_is_told(
    asked: str, claim: tuple[str, str], small: bool
) -> None:
    free, refused = observed(asked, claim), observed(asked, claim, refused=asked)
    growth = volumes.Growth(CLAIM, "claim-0", asked)
    assert volumes.growths(free) == ((growth,) if small else ())
    assert volumes.too_small(free) == ""
    assert volumes.growths(refused) == ()
    assert bool(volumes.too_small(refused)) == small


def test_what_was_refused_of_one_size_is_tried_of_another() -> None:
    found = observed("20Gi", ("9Gi", ""), refused="40Gi")
    assert [growth.size for growth in volumes.growths(found)] == ["20Gi"]
    assert volumes.too_small(found) == ""


@pytest.mark.parametrize(
    ("metadata", "phase"),
    [({}, "Pending"), ({"deletionTimestamp": builders.NOW}, "Bound")],
    ids=["no volume yet", "on its way out"],
)
def test_claims_that_cannot_change_are_let_alone(metadata: dict[str, Any], phase: str) -> None:
    found = observed("20Gi", ("9Gi", ""))
    (claim,) = found.of(*found.modelset.pools).claims
    pools = {
        POOL: seen.PoolObjects(
            claims=({**claim, "metadata": claim["metadata"] | metadata, "status": {"phase": phase}},)
        )
    }
    assert volumes.growths(dataclasses.replace(found, pools=pools)) == ()


async def test_an_ephemeral_set_leaves_claims_of_an_earlier_one_alone(
    world: World,
) -> None:
    world.edit(*MODELS, ollama={"storage": {"size": "20Gi", "ephemeral": True}})
    world.retain_claim("9Gi")
    await world.to_ready()
    (found,) = [one for one in world.status["conditions"] if one["type"] == status.OLLAMA_READY]
    assert (found["status"], found["reason"]) == ("True", "AllPodsReady")


def test_it_is_told_with_both_sizes_the_reason_and_what_to_do() -> None:
    told = volumes.too_small(observed("20Gi", ("20Gi", ""), ("9Gi", ""), ("8Gi", ""), refused="20Gi"))
    assert "smaller than spec.ollama.storage.size (20Gi)" in told
    assert told.count("must support resize") == 1
    assert f"models-{POOL}-1 (9Gi), models-{POOL}-2 (8Gi)" in told
    assert f"models-{POOL}-0 (" not in told
    assert "delete them and their pods" in told


async def test_a_claim_grows_with_its_set_and_its_pod_stays(world: World) -> None:
    world.edit(*MODELS, ollama={"storage": {"size": "9Gi"}})
    world.retain_claim("9Gi")
    await world.to_ready()
    assert "patch PersistentVolumeClaim/" + CLAIM not in world.api.writes
    world.edit(*MODELS, ollama={"storage": {"size": "12Gi"}})
    with pytest.raises(reconciler.ReconcileError, match="made anew around its pods"):
        await world.reconcile()
    assert world.api.find("PersistentVolumeClaim", CLAIM)["spec"]["resources"]["requests"] == {
        "storage": "12Gi"
    }
    world.api.collect()
    await world.reconcile(2)
    # The next pod gets a claim of that size.
    (template,) = world.api.find("StatefulSet", POOL)["spec"]["volumeClaimTemplates"]
    assert template["spec"]["resources"]["requests"] == {"storage": "12Gi"}
    assert world.api.find("Pod", f"{POOL}-0")["metadata"]["uid"] == "pod-0"
    assert world.api.writes.count("patch PersistentVolumeClaim/" + CLAIM) == 1


@pytest.mark.parametrize("status_code", [409, 500])
async def test_a_claim_that_could_not_grow_yet_is_no_failure_and_the_set_not_ready(
    world: World, status_code: int
) -> None:
    await world.to_ready()
    world.retain_claim("9Gi")
    world.api.refusals["PersistentVolumeClaim"] = http.RefusedError(status_code, "later")
    with pytest.raises(reconciler.ReconcileError, match="later"):
        await world.reconcile()
    (found,) = [one for one in world.status["conditions"] if one["type"] == status.READY]
    assert (found["status"], found["reason"]) == ("False", "Applying")
    world.api.refusals.clear()
    await world.reconcile()
    assert world.condition("Ready") == "True"


async def test_a_claim_that_is_gone_meanwhile_is_no_failure(world: World) -> None:
    await world.to_ready()
    world.retain_claim("9Gi")
    world.api.refusals["PersistentVolumeClaim"] = http.RefusedError(404, "not found")
    await world.reconcile()
    (found,) = [one for one in world.status["conditions"] if one["type"] == status.OLLAMA_READY]
    assert found["reason"] == "AllPodsReady"


async def test_another_claim_of_the_name_does_not_grow(world: World) -> None:
    world.retain_claim("9Gi")
    with pytest.raises(http.RefusedError) as refused:
        await writes.Writes(world.api, lambda _: None).grow("default", CLAIM, "of another", "20Gi")
    assert refused.value.passing


async def test_what_could_not_grow_is_tried_again_later(world: World) -> None:
    world.retain_claim("9Gi")
    world.api.refusals["PersistentVolumeClaim"] = http.RefusedError(403, CANNOT)
    await world.to_ready()
    attempt = f"patch PersistentVolumeClaim/{CLAIM}"
    assert world.api.writes.count(attempt) == 1
    world.now[0] += reconciler.UNGROWN_SECONDS
    await world.reconcile()
    assert world.api.writes.count(attempt) == 2
    world.now[0] += reconciler.UNGROWN_SECONDS
    # By now its StorageClass allows it.
    world.api.refusals.clear()
    await world.reconcile(2)
    assert world.api.writes.count(attempt) == 3
    (found,) = [one for one in world.status["conditions"] if one["type"] == status.OLLAMA_READY]
    assert (found["status"], found["reason"]) == ("True", "AllPodsReady")


async def test_a_set_made_again_with_more_storage_tells_once_that_its_volume_is_smaller(world: World) -> None:
    world.retain_claim("9Gi")
    world.api.refusals["PersistentVolumeClaim"] = http.RefusedError(403, CANNOT)
    await world.to_ready()

    def told() -> list[str]:
        return [one["type"] for one in world.api.events if one["reason"] == status.VOLUMES_TOO_SMALL]

    def ollama_ready() -> tuple[str, str]:
        (found,) = [one for one in world.status["conditions"] if one["type"] == status.OLLAMA_READY]
        return found["status"], found["reason"]

    assert world.condition("Ready") == "True"
    assert ollama_ready() == ("True", status.VOLUMES_TOO_SMALL)
    world.restart_operator()
    await world.reconcile(2)
    assert told() == [events.WARNING]
    world.retain_claim("20Gi")
    await world.reconcile()
    assert ollama_ready() == ("True", "AllPodsReady")
    assert told() == [events.WARNING]


def test_pods_that_are_not_ready_are_told_first() -> None:
    built = status.build(observed("20Gi", ("9Gi", ""), refused="20Gi"), (), ())
    (found,) = [one for one in built["conditions"] if one["type"] == status.OLLAMA_READY]
    assert (found["status"], found["reason"]) == ("False", "PodsNotReady")
    assert "(9Gi)" in found["message"]
