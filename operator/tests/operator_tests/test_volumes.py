"""Volumes that were there before their set, and are smaller than it says."""

from typing import Any

import pytest

from modelset_operator.api import quantities, spec
from modelset_operator.plan import events, status, volumes
from modelset_operator.plan import observed as seen

from . import builders
from .worlds import World

POOL = "assistants-ollama"


def observed(asked: str, *claims: tuple[str, str]) -> seen.Observed:
    found: list[dict[str, Any]] = [
        {
            "metadata": {"name": f"models-{POOL}-{ordinal}"},
            "spec": {"resources": {"requests": {"storage": requested}}},
            "status": {"capacity": {"storage": capacity}} if capacity else {},
        }
        for ordinal, (requested, capacity) in enumerate(claims)
    ]
    resource = builders.resource("a:1", ollama={"storage": {"size": asked}})
    return builders.observed(resource, pools={POOL: seen.PoolObjects(claims=tuple(found))})


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
def test_a_claim_that_is_smaller_than_asked_for(asked: str, claim: tuple[str, str], small: bool) -> None:
    assert bool(volumes.too_small(observed(asked, claim))) == small


def test_it_is_told_with_both_sizes_and_what_to_do() -> None:
    told = volumes.too_small(observed("20Gi", ("20Gi", ""), ("9Gi", ""), ("8Gi", "")))
    assert "storage.size (20Gi)" in told
    assert f"models-{POOL}-1 (9Gi), models-{POOL}-2 (8Gi)" in told
    assert f"models-{POOL}-0" not in told
    assert "delete them and their pods" in told


async def test_a_set_made_again_with_more_storage_tells_once_that_its_volume_is_smaller(world: World) -> None:
    world.retain_claim("9Gi")
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
    pools = observed("20Gi", ("9Gi", "")).pools
    resource = builders.resource("a:1", ollama={"storage": {"size": "20Gi"}})
    built = status.build(builders.observed(resource, pools=pools), (), ())
    (found,) = [one for one in built["conditions"] if one["type"] == status.OLLAMA_READY]
    assert (found["status"], found["reason"]) == ("False", "PodsNotReady")
    assert "(9Gi)" in found["message"]
