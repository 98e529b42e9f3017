"""Reconciles of a set that is scaled by demand: to zero, awake, through a restart, and by hand again."""

import dataclasses
import json
from typing import Any

import pytest

from modelset_operator import reconciler
from modelset_operator.cluster import http, keys
from modelset_operator.demand import feed, readers
from modelset_operator.plan import autoscaling

from . import builders
from .worlds import MODELS, OWNER, World

IDLE_SECONDS = 60
BY_DEMAND = {"autoscaling": {"minReplicas": 0, "maxReplicas": 3, "targetInFlight": 2, "idleSeconds": 60}}


@pytest.fixture
async def scaled(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A set whose models are there, that nobody has asked anything for a minute."""
    monkeypatch.setattr(readers, "_AGAIN_SECONDS", 0.001)
    world.edit(*MODELS, ollama=BY_DEMAND)
    await world.to_ready()
    return world


def pods(world: World) -> int:
    return int(world.api.find("StatefulSet", "assistants-ollama")["spec"]["replicas"])


async def hear(world: World, **asked: Any) -> None:
    """Have the proxy be asked, and the operator look when it has heard of it."""
    world.proxies.tell(**asked)
    answer = world.proxies.answer
    assert answer is not None
    while (known := world.reading.asked(("default", "assistants"))) is None or (
        known.in_flight,
        known.queued,
    ) != (answer.in_flight, answer.queued):
        await world.pokes.get()
    await world.reconcile()


async def to_sleep(world: World) -> None:
    await hear(world, idle_seconds=0.0)
    world.now[0] += IDLE_SECONDS
    await world.reconcile()
    assert pods(world) == 0
    world.api.remove("Pod", "default", "assistants-ollama-0")
    await world.reconcile()


async def test_a_new_set_has_a_pod_until_its_models_are_there(scaled: World) -> None:
    assert pods(scaled) == 1
    await to_sleep(scaled)
    assert scaled.phases() == {"smollm2:135m": "Ready", "all-minilm": "Ready"}
    assert {scaled.condition(kind) for kind in ("ModelsReady", "OllamaReady")} == {"True"}
    assert scaled.status["modelNames"] == "all-minilm;smollm2"
    assert len(scaled.listed()) == 2
    assert [event["reason"] for event in scaled.api.events].count("ScaledDown") == 1


async def test_the_next_look_is_when_the_idle_time_ends(scaled: World) -> None:
    await hear(scaled, idle_seconds=0.0)
    assert await scaled.reconcile() == pytest.approx(IDLE_SECONDS)


async def test_the_first_request_wakes_the_set_at_once(scaled: World) -> None:
    await to_sleep(scaled)
    await hear(scaled, queued=1)
    assert pods(scaled) == 1
    assert [event["reason"] for event in scaled.api.events].count("ScaledUp") == 1


async def test_a_thousand_requests_wake_the_set_once(scaled: World) -> None:
    await to_sleep(scaled)
    before = len(scaled.api.writes)
    await hear(scaled, queued=1000)
    await scaled.reconcile(5)
    assert pods(scaled) == 3
    assert scaled.api.writes[before:].count("apply StatefulSet/assistants-ollama") == 1


async def test_a_restart_of_the_operator_scales_nothing_down(scaled: World) -> None:
    await hear(scaled, in_flight=6)
    assert pods(scaled) == 3
    scaled.proxies.fall_silent()
    scaled.restart_operator()
    for _ in range(5):
        scaled.now[0] += 1000
        await scaled.reconcile()
    assert pods(scaled) == 3
    await hear(scaled, in_flight=1)
    assert pods(scaled) == 3
    scaled.now[0] += IDLE_SECONDS
    await scaled.reconcile()
    assert pods(scaled) == 1


async def test_a_set_that_sleeps_goes_on_sleeping_through_a_restart_and_writes_nothing(scaled: World) -> None:
    await to_sleep(scaled)
    scaled.run_kuberay()
    await scaled.reconcile(2)
    scaled.api.writes.clear()
    scaled.restart_operator()
    await scaled.reconcile(3)
    assert scaled.api.writes == []
    assert pods(scaled) == 0


async def test_a_new_model_wakes_a_set_that_sleeps(scaled: World) -> None:
    await to_sleep(scaled)
    scaled.edit(*MODELS, {"name": "extra:1"}, ollama=BY_DEMAND)
    await scaled.reconcile()
    assert pods(scaled) == 1


async def test_the_feed_is_opened_by_the_token_whose_hash_the_proxy_has(scaled: World) -> None:
    await hear(scaled, in_flight=1)
    (config,) = json.loads(scaled.api.find("RayService", "assistants")["spec"]["serveConfigV2"])[
        "applications"
    ][0]["deployments"]
    source = scaled.proxies.sources[-1]
    assert config["user_config"]["demand"] == {"tokenSha256": keys.token_hash(source.token)}
    assert source.url == "http://assistants-serve-svc.default.svc:8000/demand"


async def test_scaled_by_hand_again_the_feed_is_read_no_more(scaled: World) -> None:
    await hear(scaled, in_flight=6)
    scaled.edit(*MODELS, ollama={"replicas": 2})
    await scaled.reconcile()
    assert pods(scaled) == 2
    assert scaled.reading.asked(("default", "assistants")) is None


async def test_a_set_that_is_removed_is_not_asked_any_more(scaled: World) -> None:
    await hear(scaled, in_flight=1)
    scaled.reconciler.forget(("default", "assistants"))
    assert scaled.reading.asked(("default", "assistants")) is None


async def test_without_the_right_to_its_key_the_set_serves_and_says_what_is_missing(world: World) -> None:
    world.edit(*MODELS, ollama=BY_DEMAND)
    world.api.refusals["Secret"] = http.RefusedError(403, "secrets is forbidden")
    with pytest.raises(reconciler.ReconcileError, match="secrets is forbidden"):
        await world.reconcile()
    assert pods(world) == 1
    ready = next(one for one in world.status["conditions"] if one["type"] == "Ready")
    assert ready["reason"] == "ApplyFailed"
    assert "Secret modelset-operator-demand: secrets is forbidden" in ready["message"]


async def test_a_key_that_cannot_be_read_for_a_moment_does_not_close_the_feed(
    scaled: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(_: keys.Keys) -> bytes:
        raise http.RefusedError(429, "too many requests")

    await hear(scaled, in_flight=1)
    # As after a restart, when pods have been looked at again.
    scaled.reconciler._forget_demand(("default", "assistants"))
    scaled.api.writes.clear()
    with monkeypatch.context() as away:
        away.setattr(keys.Keys, "key", refuse)
        with pytest.raises(reconciler.ReconcileError, match="too many requests"):
            await scaled.reconcile()
    assert scaled.api.writes == []


async def test_a_set_that_serves_stays_ready_while_its_number_of_pods_changes(scaled: World) -> None:
    await hear(scaled, in_flight=1)
    assert scaled.condition("Ready") == "True"
    await hear(scaled, in_flight=6)
    stateful_set = scaled.api.find("StatefulSet", "assistants-ollama")
    assert stateful_set["status"]["observedGeneration"] < stateful_set["metadata"]["generation"]
    assert scaled.condition("Ready") == "True"
    scaled.edit(*MODELS, ollama={**BY_DEMAND, "parallel": 2})
    await scaled.reconcile()
    ready = next(one for one in scaled.status["conditions"] if one["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "RollingOut")


ASKS = feed.Asked(in_flight=6, queued=0, idle_seconds=0.0)


@pytest.mark.parametrize(
    ("asked", "looked_at", "before", "decided", "again"),
    [
        pytest.param(ASKS, True, None, 3, None, id="by what is asked"),
        pytest.param(None, True, autoscaling.State(2, 2), 2, None, id="what is not known changes nothing"),
        pytest.param(
            feed.Asked(0, 0, 1e6),
            True,
            autoscaling.State(2, 0, ((990.0, 2),)),
            2,
            50.0,
            id="for how long more are kept",
        ),
        pytest.param(ASKS, False, None, None, None, id="not before all pods were looked at"),
    ],
)
async def test_demand_decides_once_it_is_known_what_pods_hold(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    asked: feed.Asked | None,
    looked_at: bool,
    before: autoscaling.State | None,
    decided: int | None,
    again: float | None,
) -> None:
    found = world.reconciler
    monkeypatch.setattr(world.reading, "asked", lambda _: asked)
    if before is not None:
        found._scaling[OWNER] = before
    pod = dataclasses.replace(builders.pod(), runs=True, looked_at=looked_at)
    observed = builders.observed(builders.resource("a:1", ollama=BY_DEMAND), pods=(pod,))
    attempts = reconciler._Attempts()
    assert await found._scale(OWNER, observed, attempts) == again
    told = found._with_demand(OWNER, observed)
    assert (told.demanded, attempts.failures) == (decided, [])
    token = keys.token(await keys.Keys(world.api, "system", "modelset-operator").key(), "set-uid")
    assert told.demand_token_hash == keys.token_hash(token)


async def test_a_set_that_demand_does_not_scale_is_not_asked_for_it(world: World) -> None:
    found = world.reconciler
    found._scaling[OWNER], found._tokens[OWNER] = autoscaling.State.begin(2), "token"
    observed = builders.observed(builders.resource("a:1"))
    assert await found._scale(OWNER, observed, reconciler._Attempts()) is None
    told = found._with_demand(OWNER, observed)
    assert (told.demanded, told.demand_token_hash) == (None, "")
    assert not [read for read in world.api.reads if "Secret" in read]
