"""From what is asked of a set to how many Ollama pods it has, what its status says, and what is applied."""

import json
from typing import Any

import pytest

from modelset_operator.demand import feed
from modelset_operator.manifests import ollama as manifests
from modelset_operator.plan import decide, demand, models, replicas, status
from modelset_operator.plan import observed as seen

from . import builders

AUTOSCALED = {"autoscaling": {"minReplicas": 0, "maxReplicas": 4, "targetInFlight": 2, "idleSeconds": 60}}
READY_ENTRY = {
    "name": "a:1",
    "servedNames": ["a:1"],
    "phase": "Ready",
    "type": "Chat",
    "digest": "d",
    "size": 5,
    "capabilities": ["completion"],
}
SERVED = {"observedGeneration": 1, "modelNames": "a:1", "models": [READY_ENTRY], "desiredReplicas": 1}
IDLE = feed.Asked(0, 0, 1e6)


def look(
    *,
    ollama: dict[str, Any] = AUTOSCALED,
    stateful_set: int | None = None,
    told: dict[str, Any] | None = None,
    **fields: Any,
) -> seen.Observed:
    resource = builders.resource("a:1", ollama=ollama)
    resource["status"] = told or {}
    if stateful_set is not None:
        modelset = builders.modelset("a:1", ollama=ollama)
        made = manifests.stateful_set(modelset, *modelset.pools, stateful_set)
        made["metadata"]["generation"] = 1
        fields["pools"] = {"assistants-ollama": seen.PoolObjects(stateful_set=made)}
    return builders.observed(resource, **fields)


def entry(observed: seen.Observed) -> dict[str, Any]:
    (found,) = decide.told(observed).status["models"]
    return dict(found)


def condition(observed: seen.Observed, kind: str) -> tuple[str, str, str]:
    conditions = decide.told(observed).status["conditions"]
    found = next(one for one in conditions if one["type"] == kind)
    return found["status"], found["reason"], found["message"]


@pytest.mark.parametrize(
    ("ollama", "stateful_set", "demanded", "pods"),
    [
        pytest.param({"replicas": 3}, 1, 2, 3, id="by the spec"),
        pytest.param(AUTOSCALED, 1, 2, 2, id="by demand"),
        pytest.param(AUTOSCALED, 1, 0, 0, id="none"),
        pytest.param(AUTOSCALED, 3, None, 3, id="not decided, as many as there are"),
        pytest.param(AUTOSCALED, 0, None, 0, id="not decided, none"),
        pytest.param(AUTOSCALED, None, None, 1, id="new, one to fetch models"),
        pytest.param(
            {"autoscaling": {"minReplicas": 2, "maxReplicas": 4}}, None, None, 2, id="new, the least"
        ),
    ],
)
def test_how_many_pods_there_are_to_be(
    ollama: dict[str, Any], stateful_set: int | None, demanded: int | None, pods: int
) -> None:
    observed = look(ollama=ollama, stateful_set=stateful_set, demanded=demanded)
    assert replicas.of_all(observed) == pods
    applied = [one.manifest for one in decide.plan(observed).applies if one.manifest["kind"] == "StatefulSet"]
    assert [one["spec"]["replicas"] for one in applied] == [pods]
    assert decide.told(observed).status["desiredReplicas"] == pods


def test_models_that_were_ready_stay_so_and_listed_while_the_set_sleeps() -> None:
    observed = look(stateful_set=0, told=SERVED, demanded=0)
    assert entry(observed)["phase"] == "Ready"
    assert entry(observed)["message"] == models.ASLEEP
    assert {key: entry(observed)[key] for key in ("type", "digest", "size", "capabilities")} == {
        key: READY_ENTRY[key] for key in ("type", "digest", "size", "capabilities")
    }
    assert decide.told(observed).status["modelNames"] == "a:1"
    listed = models.listed_entries(models.judge_all(observed), observed)
    assert [(one["model"], one["type"], one["capabilities"]) for one in listed] == [
        ("a:1", "Chat", ["completion"])
    ]


def test_a_set_that_sleeps_is_well() -> None:
    observed = look(stateful_set=0, told=SERVED, demanded=0)
    told = condition(observed, status.OLLAMA_READY)
    assert told == ("True", "ScaledToZero", "nobody asks for a model: the next request starts a pod")
    assert condition(observed, status.MODELS_READY)[0] == "True"


def test_a_set_that_was_scaled_to_zero_by_hand_says_so() -> None:
    observed = look(ollama={"replicas": 0}, stateful_set=0, told=SERVED)
    assert condition(observed, status.OLLAMA_READY) == ("False", "ScaledToZero", "spec.ollama.replicas is 0")
    assert entry(observed)["phase"] == "Pending"
    assert decide.told(observed).status["modelNames"] == "a:1"


@pytest.mark.parametrize(
    ("least", "demanded", "ready", "told"),
    [
        (0, 3, 1, ("True", "ScalingUp")),
        (0, 3, 3, ("True", "AllPodsReady")),
        (0, 1, 0, ("False", "PodsNotReady")),
        (2, 3, 1, ("False", "PodsNotReady")),
        (2, 3, 2, ("True", "ScalingUp")),
    ],
)
def test_pods_that_demand_adds_do_not_make_a_set_unready(
    least: int, demanded: int, ready: int, told: tuple[str, str]
) -> None:
    ollama = {"autoscaling": {"minReplicas": least, "maxReplicas": 4}}
    pods = tuple(builders.pod(ordinal, ready=ordinal < ready) for ordinal in range(demanded))
    observed = look(ollama=ollama, stateful_set=demanded, demanded=demanded, pods=pods)
    assert condition(observed, status.OLLAMA_READY)[:2] == told


@pytest.mark.parametrize(
    ("before", "after", "events"),
    [
        (0, 2, [("ScaledUp", "from 0 to 2 Ollama pods")]),
        (2, 0, [("ScaledDown", "from 2 to 0 Ollama pods")]),
        (2, 2, []),
        (None, 2, []),
    ],
)
def test_scaling_is_told_once(before: int | None, after: int, events: list[tuple[str, str]]) -> None:
    told = dict(SERVED) if before is None else {**SERVED, "desiredReplicas": before}
    if before is None:
        del told["desiredReplicas"]
    observed = look(stateful_set=after, told=told, demanded=after)
    found = [event for event in decide.told(observed).events if event.reason.startswith("Scaled")]
    assert [(event.reason, event.message) for event in found] == events
    assert all(event.type == "Normal" for event in found)


def decided(observed: seen.Observed, asked: feed.Asked | None, seconds: float = 120.0) -> int:
    state = demand.begin(observed)
    for now in (0.0, seconds):
        state = demand.decide(observed, state, asked, now)
    return state.replicas


HOLDS = builders.pod(0, store=builders.store(a__1=builders.CHAT), ready=True)
LACKS = builders.pod(0, store=builders.store(), ready=True)


@pytest.mark.parametrize(
    ("fields", "asked", "pods"),
    [
        pytest.param({"pods": (HOLDS,), "stateful_set": 1}, IDLE, 0, id="nobody asks"),
        pytest.param({"pods": (HOLDS,), "stateful_set": 1}, None, 1, id="nobody knows"),
        pytest.param({"pods": (HOLDS,), "stateful_set": 1}, feed.Asked(3, 0, 0.0), 2, id="asked"),
        pytest.param({"pods": (LACKS,), "stateful_set": 1}, IDLE, 1, id="a model is to be fetched"),
        pytest.param({"stateful_set": 0, "told": SERVED}, IDLE, 0, id="asleep"),
        pytest.param({"stateful_set": 0}, IDLE, 1, id="asleep, and a model is new"),
        pytest.param({"stateful_set": 3, "pods": (HOLDS,)}, feed.Asked(1, 0, 0.0), 1, id="more than needed"),
    ],
)
def test_pods_follow_what_is_asked_and_what_is_to_be_fetched(
    fields: dict[str, Any], asked: feed.Asked | None, pods: int
) -> None:
    assert decided(look(**fields), asked) == pods


def test_a_model_that_cannot_be_had_keeps_no_pod() -> None:
    told = {**SERVED, "models": [{**READY_ENTRY, "phase": "Failed", "message": "no such model"}]}
    assert decided(look(stateful_set=1, told=told), IDLE) == 0


def test_a_set_by_the_spec_is_not_scaled_by_demand() -> None:
    observed = look(ollama={"replicas": 1})
    with pytest.raises(ValueError, match="not scaled by demand"):
        demand.decide(observed, demand.begin(observed), IDLE, 0.0)


def test_the_feed_is_read_once_the_proxy_serves() -> None:
    waiting = look()
    assert demand.source(waiting, "token") is None
    serving = look(ray_service=builders.ray_service(waiting.modelset))
    assert demand.source(serving, "token") == feed.Source(
        "http://assistants-serve-svc.default.svc:8000/demand", "token", "assistants-abc"
    )
    by_the_spec = look(ollama={"replicas": 1}, ray_service=builders.ray_service(waiting.modelset))
    assert demand.source(by_the_spec, "token") is None


@pytest.mark.parametrize(("hashed", "told"), [("ab" * 32, {"tokenSha256": "ab" * 32}), ("", None)])
def test_the_proxy_is_told_what_opens_its_feed(hashed: str, told: dict[str, str] | None) -> None:
    observed = look(demand_token_hash=hashed)
    (service,) = [
        one.manifest for one in decide.plan(observed).applies if one.manifest["kind"] == "RayService"
    ]
    (deployment,) = json.loads(service["spec"]["serveConfigV2"])["applications"][0]["deployments"]
    assert deployment["user_config"].get("demand") == told
