"""The status of a set as a whole, and which of its parts says why it is not Ready and what goes on."""

import dataclasses
from typing import Any

import pytest

from modelset_operator.engines import state
from modelset_operator.plan import decide, models, status
from modelset_operator.plan import observed as seen

from . import builders

POOL = "assistants-ollama"
CHAT = builders.CHAT
RUNNING = state.Pull(state.PullPhase.RUNNING, fraction=0.5, moving=True)
UNSCHEDULABLE = {
    "conditions": [
        {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": "no cpu",
            "lastTransitionTime": builders.CREATED,
        }
    ]
}


def rolled(replicas: int = 1, updated: int = 1, seen_generation: int = 1, generation: int = 1) -> seen.Object:
    """Return a StatefulSet with so many pods, of which some are as it says now."""
    return {
        "metadata": {"name": POOL, "generation": generation},
        "spec": {"replicas": replicas},
        "status": {
            "replicas": replicas,
            "updatedReplicas": updated,
            "observedGeneration": seen_generation,
        },
    }


def condition(kind: str, true: bool, reason: str, message: str, since: str = builders.NOW) -> dict[str, Any]:
    return {
        "type": kind,
        "status": str(true),
        "reason": reason,
        "message": message,
        "observedGeneration": 7,
        "lastTransitionTime": since,
    }


def test_all_that_is_told_of_a_set() -> None:
    resource = builders.resource(
        "a:1",
        {"name": "b:1", "servedNames": ["bee"]},
        {"name": "polite", "from": "a:1", "system": "Be polite."},
        registry={"cache": {}},
        ollama={"replicas": 2},
    )
    resource["metadata"]["generation"] = 7
    resource["status"] = {
        "conditions": [
            {"type": "ProxyReady", "status": "True", "lastTransitionTime": builders.CREATED},
            {"type": "OllamaReady", "status": "True", "lastTransitionTime": builders.CREATED},
            {"type": "CacheReady", "status": "True"},
        ]
    }
    held = state.Held("digest-of-a:1", 1_500_000, builders.facts(CHAT), changed=builders.CREATED_SECONDS)
    store = state.Store({"a:1": held}, {"a:1": "a:1"}, {"a:1": 2_000_000})
    observed = builders.observed(
        resource,
        pods=(builders.pod(store=store, ready=True),),
        pulls={("pod-0", "b:1"): RUNNING},
        pools={POOL: seen.PoolObjects(stateful_set=rolled())},
        ray_service=builders.ray_service(builders.modelset("a:1")),
        cache=seen.CacheObjects(pods=(seen.CachePod("assistants-cache-0", ready=True),)),
    )
    pulling = "not ready: b:1 (Pulling 25%), polite (Creating)"
    assert decide.told(observed).status == {
        "observedGeneration": 7,
        "replicas": 1,
        "selector": "app.kubernetes.io/component=ollama,modelset.dev/set=assistants",
        "endpoint": "http://assistants-serve-svc.default.svc:8000/v1",
        "modelNames": "a:1",
        "modelsReady": "1/3",
        "ollamaReady": "1/2",
        "desiredReplicas": 2,
        "conditions": [
            condition("Ready", False, "PullingModels", pulling),
            condition("ModelsReady", False, "PullingModels", pulling),
            condition("OllamaReady", False, "PodsNotReady", "1 of 2 Ollama pods are ready"),
            condition("ProxyReady", True, "Running", "the proxy is running", builders.CREATED),
            condition("Progressing", True, "PullingModels", pulling),
            condition("CacheReady", True, "Serving", "models are pulled through the cache"),
        ],
        "models": [
            {
                "name": "a:1",
                "servedNames": ["a:1"],
                "phase": "Ready",
                "readyReplicas": "1/2",
                "digest": "digest-of-a:1",
                "size": 1_500_000,
                "capabilities": list(CHAT),
                "type": "Chat",
                "checkedAt": builders.CREATED,
                "memory": 2_000_000,
                "progress": "50%",
            },
            {
                "name": "b:1",
                "servedNames": ["bee"],
                "phase": "Pulling",
                "readyReplicas": "0/2",
                "progress": "25%",
            },
            {
                "name": "polite",
                "servedNames": ["polite"],
                "phase": "Creating",
                "readyReplicas": "0/2",
                "from": "a:1",
                "memory": 1_500_000,
            },
        ],
    }


def test_what_was_known_of_a_model_is_told_while_nobody_holds_it() -> None:
    known = {
        "type": "Chat",
        "digest": "digest-of-a:1",
        "size": 7,
        "memory": 9,
        "capabilities": list(CHAT),
        "checkedAt": builders.CREATED,
    }
    resource = builders.resource("a:1")
    before = {"name": "a:1", "phase": "Ready", "readyReplicas": "1/1", "progress": "100%", **known}
    # It was edited meanwhile.
    resource["status"] = {"observedGeneration": 0, "models": [before]}
    (entry,) = decide.told(builders.observed(resource)).status["models"]
    assert entry == known | {
        "name": "a:1",
        "servedNames": ["a:1"],
        "phase": "Pending",
        "readyReplicas": "0/1",
        "message": "no Ollama pod has been created yet",
    }


@pytest.mark.parametrize(("metadata", "generation"), [({}, 1), ({"generation": 4}, 4)])
def test_a_spec_that_cannot_be_read_leaves_all_but_ready_as_it_was(
    metadata: dict[str, int], generation: int
) -> None:
    others = [{"type": "ModelsReady", "status": "True"}]
    ready = {"type": "Ready", "status": "False", "lastTransitionTime": builders.CREATED}
    resource = {"metadata": metadata, "status": {"replicas": 3, "conditions": [*others, ready]}}
    told = condition("Ready", False, "InvalidSpec", "no such field", builders.CREATED)
    assert status.unusable(resource, builders.NOW, "no such field") == {
        "replicas": 3,
        "conditions": [told | {"observedGeneration": generation}, *others],
    }


@pytest.mark.parametrize(("length", "told"), [(1000, 1000 * "x"), (1001, 999 * "x" + "…")])
def test_a_message_is_cut_where_the_crd_ends_it(length: int, told: str) -> None:
    (ready,) = status.unusable({"metadata": {}}, builders.NOW, length * "x")["conditions"]
    assert ready["message"] == told


def look(
    *pods: seen.Pod, ollama: Any = None, pulls: Any = None, told: Any = None, **fields: Any
) -> seen.Observed:
    """Return a look at a set of one model, whose proxy serves."""
    resource = builders.resource("a:1", ollama=ollama or {})
    resource["status"] = told or {}
    given = {
        "pools": {POOL: seen.PoolObjects(stateful_set=rolled())},
        "ray_service": builders.ray_service(builders.modelset("a:1")),
    }
    return builders.observed(resource, pods=pods, pulls=pulls or {}, **(given | fields))


HOLDS = builders.pod(store=builders.store(a__1=CHAT), ready=True)
EMPTY = builders.pod(store=builders.store(), ready=True)
NOWHERE = dataclasses.replace(builders.pod(), ip="", status=UNSCHEDULABLE)
FAILED = {("pod-0", "a:1"): state.Pull(state.PullPhase.FAILED, failures=1, message="no such host")}
FULL = {("pod-0", "a:1"): state.Pull(state.PullPhase.FAILED, failures=1, message="no space left on device")}


@pytest.mark.parametrize(
    ("stateful_set", "replicas"),
    [(None, 0), ({"metadata": {"name": POOL}, "spec": {}}, 0), (rolled(3), 3)],
    ids=["none", "new", "three"],
)
def test_the_scale_subresource_counts_the_pods_that_there_are(
    stateful_set: seen.Object | None, replicas: int
) -> None:
    observed = look(pools={POOL: seen.PoolObjects(stateful_set=stateful_set)})
    assert decide.told(observed).status["replicas"] == replicas


def told(observed: seen.Observed, *problems: str, applied: bool = True) -> dict[str, tuple[str, str]]:
    """Return status and reason of all conditions."""
    judged = models.judge_all(observed)
    built = status.build(observed, judged, ("a:1",), problems, applied=applied)
    return {one["type"]: (one["status"], one["reason"]) for one in built["conditions"]}


@pytest.mark.parametrize(
    ("observed", "models_ready", "ready", "progressing"),
    [
        pytest.param(
            look(HOLDS), "AllModelsReady", ("True", "Serving"), ("False", "Settled"), id="all is there"
        ),
        pytest.param(
            look(EMPTY, pulls={("pod-0", "a:1"): RUNNING}),
            "PullingModels",
            ("False", "PullingModels"),
            ("True", "PullingModels"),
            id="a model comes",
        ),
        pytest.param(
            look(EMPTY),
            "WaitingForModels",
            ("False", "WaitingForModels"),
            ("True", "WaitingForModels"),
            id="a model has not begun to",
        ),
        pytest.param(
            look(EMPTY, pulls=FAILED),
            "ModelFailed",
            ("False", "ModelFailed"),
            ("False", "Settled"),
            id="a model cannot be had",
        ),
        pytest.param(
            look(EMPTY, pulls=FULL),
            "DiskFull",
            ("False", "DiskFull"),
            ("False", "Settled"),
            id="a disk is full",
        ),
        pytest.param(
            look(NOWHERE),
            "WaitingForModels",
            ("False", "Unschedulable"),
            ("False", "Unschedulable"),
            id="a pod finds no node, for which its models wait",
        ),
        pytest.param(
            look(EMPTY, NOWHERE, ollama={"replicas": 2}, pulls=FAILED),
            "ModelFailed",
            ("False", "ModelFailed"),
            ("False", "Unschedulable"),
            id="a model cannot be had, and a pod finds no node",
        ),
        pytest.param(
            look(EMPTY, NOWHERE, ollama={"replicas": 2}, pulls=FULL),
            "DiskFull",
            ("False", "DiskFull"),
            ("False", "Unschedulable"),
            id="a disk is full, and a pod finds no node",
        ),
        pytest.param(
            look(EMPTY, NOWHERE, ollama={"replicas": 2}, pulls={("pod-0", "a:1"): RUNNING}),
            "PullingModels",
            ("False", "Unschedulable"),
            ("True", "PullingModels"),
            id="a model comes, and a pod finds no node",
        ),
        pytest.param(
            look(ollama={"replicas": 0}),
            "WaitingForModels",
            ("False", "WaitingForModels"),
            ("True", "WaitingForModels"),
            id="no pod is asked for",
        ),
        pytest.param(
            look(HOLDS, ollama={"replicas": 0}),
            "AllModelsReady",
            ("False", "ScaledToZero"),
            ("False", "Settled"),
            id="no pod is asked for, and the last one answers still",
        ),
        pytest.param(
            look(HOLDS, ray_service=None),
            "AllModelsReady",
            ("False", "Creating"),
            ("True", "Creating"),
            id="there is no proxy yet",
        ),
        pytest.param(
            look(HOLDS, pools={}),
            "AllModelsReady",
            ("False", "RollingOut"),
            ("True", "RollingOut"),
            id="the StatefulSet is gone",
        ),
        pytest.param(
            look(HOLDS, pools={POOL: seen.PoolObjects(stateful_set=rolled(2, updated=1))}),
            "AllModelsReady",
            ("False", "RollingOut"),
            ("True", "RollingOut"),
            id="one of two pods is as it was",
        ),
    ],
)
def test_why_a_set_is_not_ready_and_what_goes_on(
    observed: seen.Observed, models_ready: str, ready: tuple[str, str], progressing: tuple[str, str]
) -> None:
    found = told(observed)
    assert (found["ModelsReady"][1], found["Ready"], found["Progressing"]) == (
        models_ready,
        ready,
        progressing,
    )


def test_what_has_not_reached_the_api_server_is_under_way() -> None:
    found = told(look(HOLDS), applied=False)
    assert (found["Ready"], found["Progressing"]) == (("False", "Applying"), ("True", "Applying"))


def test_what_was_refused_is_told_before_all_else() -> None:
    observed = look(EMPTY, pulls=FAILED)
    found = status.build(observed, models.judge_all(observed), (), ("no", "nor that"), applied=False)
    by_type = {one["type"]: one for one in found["conditions"]}
    for kind in ("Ready", "Progressing"):
        told = (by_type[kind]["status"], by_type[kind]["reason"], by_type[kind]["message"])
        assert told == ("False", "ApplyFailed", "no; nor that")


SERVED = {
    "observedGeneration": 1,
    "conditions": [{"type": "Ready", "status": "True"}],
}


@pytest.mark.parametrize(
    ("stateful_set", "before", "rolling"),
    [
        pytest.param(rolled(), {}, False, id="it is as it should be"),
        pytest.param(rolled(2, updated=1), SERVED, True, id="pods are being replaced"),
        pytest.param(rolled(generation=2), {}, True, id="its controller has not seen it yet"),
        pytest.param(rolled(seen_generation=2), {}, False, id="nor is it behind when it is ahead"),
        pytest.param(rolled(generation=2), SERVED, False, id="only the number of pods has changed"),
        pytest.param(
            rolled(generation=2), SERVED | {"observedGeneration": 0}, True, id="it served another spec"
        ),
        pytest.param(
            {"metadata": {"name": POOL, "generation": 1}, "spec": {}}, {}, True, id="it has no status yet"
        ),
        pytest.param({"metadata": {"name": POOL}, "spec": {}}, {}, False, id="nothing is known of it"),
        pytest.param(
            {"metadata": {"name": POOL}, "spec": {}, "status": {"replicas": 1}},
            {},
            True,
            id="none of its pods is as it says now",
        ),
    ],
)
def test_when_pods_are_being_replaced(
    stateful_set: seen.Object, before: dict[str, Any], rolling: bool
) -> None:
    observed = look(HOLDS, told=before, pools={POOL: seen.PoolObjects(stateful_set=stateful_set)})
    expected = ("False", "RollingOut") if rolling else ("True", "Serving")
    assert told(observed)["Ready"] == expected


# A volume that cannot be made as large as the set says.
SMALL = {
    "pools": {
        POOL: seen.PoolObjects(
            stateful_set=rolled(),
            claims=(
                {
                    "metadata": {"name": f"models-{POOL}-0", "uid": "claim-0"},
                    "spec": {"resources": {"requests": {"storage": "9Gi"}}},
                    "status": {"phase": "Bound"},
                },
            ),
        )
    },
    "ungrown": {"claim-0": seen.Ungrown("20Gi", "no")},
    "ollama": {"storage": {"size": "20Gi"}},
}
AUTOSCALED = {"autoscaling": {"minReplicas": 0, "maxReplicas": 3}}
AT_LEAST_TWO = {"autoscaling": {"minReplicas": 2, "maxReplicas": 3}}


@pytest.mark.parametrize(
    ("observed", "ollama_ready"),
    [
        pytest.param(look(HOLDS), ("True", "AllPodsReady"), id="all are there"),
        pytest.param(look(HOLDS, EMPTY), ("True", "AllPodsReady"), id="more than all"),
        pytest.param(look(), ("False", "PodsNotReady"), id="none is"),
        pytest.param(look(NOWHERE), ("False", "Unschedulable"), id="it finds no node"),
        pytest.param(look(HOLDS, **SMALL), ("True", "VolumesTooSmall"), id="its volume is too small"),
        pytest.param(look(**SMALL), ("False", "PodsNotReady"), id="none is, and its volume is too small"),
        pytest.param(look(ollama={"replicas": 0}), ("False", "ScaledToZero"), id="none is asked for"),
        pytest.param(look(ollama=AUTOSCALED, demanded=0), ("True", "ScaledToZero"), id="none is needed"),
        pytest.param(look(HOLDS, ollama=AUTOSCALED, demanded=2), ("True", "ScalingUp"), id="more are needed"),
        pytest.param(
            look(HOLDS, NOWHERE, ollama=AUTOSCALED, demanded=2),
            ("True", "Unschedulable"),
            id="more are needed, and find no node",
        ),
        pytest.param(
            look(ollama=AUTOSCALED, demanded=1), ("False", "PodsNotReady"), id="the first is needed"
        ),
        pytest.param(
            look(HOLDS, ollama=AT_LEAST_TWO, demanded=3), ("False", "PodsNotReady"), id="too few are"
        ),
    ],
)
def test_how_the_ollama_pods_are(observed: seen.Observed, ollama_ready: tuple[str, str]) -> None:
    assert told(observed)["OllamaReady"] == ollama_ready


@pytest.mark.parametrize(
    ("pods", "cache_ready", "message"),
    [
        pytest.param(
            (), ("False", "PodNotReady"), "nothing can be pulled: its pod is about to start", id="none"
        ),
        pytest.param(
            (seen.CachePod("c", ready=False, status=UNSCHEDULABLE),),
            ("False", "Unschedulable"),
            "nothing can be pulled: c: no cpu; look at spec.registry.cache.resources,"
            " spec.registry.cache.nodeSelector, spec.registry.cache.tolerations, and at what the nodes have",
            id="in trouble",
        ),
        pytest.param(
            (
                seen.CachePod(
                    "c",
                    ready=False,
                    status={"containerStatuses": [{"state": {"waiting": {"reason": "ContainerCreating"}}}]},
                ),
            ),
            ("False", "PodNotReady"),
            "nothing can be pulled: c: ContainerCreating",
            id="being made",
        ),
        pytest.param(
            (seen.CachePod("c", ready=False), seen.CachePod("d", ready=True)),
            ("True", "Serving"),
            "models are pulled through the cache",
            id="one of two serves",
        ),
    ],
)
def test_how_the_registry_cache_is(
    pods: tuple[seen.CachePod, ...], cache_ready: tuple[str, str], message: str
) -> None:
    resource = builders.resource("a:1", registry={"cache": {}})
    observed = builders.observed(resource, cache=seen.CacheObjects(pods=pods))
    built = status.build(observed, (), ())
    found = next(one for one in built["conditions"] if one["type"] == "CacheReady")
    assert ((found["status"], found["reason"]), found["message"]) == (cache_ready, message)
