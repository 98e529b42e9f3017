"""Several pools, of which each holds models of its own: what a plan makes of them."""

import dataclasses
import json
from typing import Any

import pytest

from modelset_operator.api import spec
from modelset_operator.manifests import ray
from modelset_operator.plan import decide, models, placement, proxy, status
from modelset_operator.plan import observed as seen

from . import builders

LARGE, SMALL = "assistants-large", "assistants-small"
REPLICAS = {LARGE: 1, SMALL: 2}
WANTED = {LARGE: {"big:1", "both:1"}, SMALL: {"tiny:1", "both:1"}}


@pytest.fixture(autouse=True)
def _two_pools(monkeypatch: pytest.MonkeyPatch) -> None:
    def pools(modelset: spec.ModelSet) -> tuple[spec.Pool, ...]:
        return tuple(
            spec.Pool(name, {"pool": name}, dataclasses.replace(modelset.ollama, replicas=replicas))
            for name, replicas in REPLICAS.items()
        )

    def in_pool(pool: spec.Pool, observed: seen.Observed) -> placement.Assignment:
        keys = frozenset(WANTED[pool.name])
        return placement.Assignment(
            {f"{pool.name}-{ordinal}": keys for ordinal in range(pool.ollama.replicas)}, {}
        )

    monkeypatch.setattr(spec.ModelSet, "pools", property(pools))
    monkeypatch.setattr(placement, "in_pool", in_pool)


def pod(pool: str, ordinal: int, *held: str, ready: bool = True) -> seen.Pod:
    name = f"{pool}-{ordinal}"
    store = builders.store_of(dict.fromkeys(held, builders.CHAT))
    return seen.Pod(name=name, pool=pool, uid=name, ip="10.0.0.1", ready=ready, runs=True, store=store)


def observed(*pods: seen.Pod, **fields: Any) -> seen.Observed:
    return builders.observed(builders.resource("big:1", "tiny:1", "both:1"), pods=pods, **fields)


def test_each_pool_has_objects_of_its_own() -> None:
    applied = [one.manifest for one in decide.plan(observed()).applies]
    by_name = {(one["kind"], one["metadata"]["name"]): one for one in applied}
    for name, replicas in REPLICAS.items():
        stateful_set = by_name["StatefulSet", name]["spec"]
        assert (stateful_set["replicas"], stateful_set["serviceName"]) == (replicas, name)
        assert stateful_set["selector"]["matchLabels"] == {"pool": name}
        assert stateful_set["template"]["metadata"]["labels"]["pool"] == name
        assert by_name["Service", name]["spec"]["selector"] == {"pool": name}
        required = by_name["ConfigMap", name]["data"]["required"].split()
        assert {path.split("/")[2] + ":1" for path in required} == WANTED[name]


def test_a_pod_pulls_what_is_wanted_on_it_and_is_looked_at_for_that() -> None:
    plan = decide.plan(observed(pod(LARGE, 0, "both:1"), pod(SMALL, 0), pod(SMALL, 1, "tiny:1")))
    assert [(pull.pod, pull.reference) for pull in plan.pulls] == [
        (f"{LARGE}-0", "big:1"),
        (f"{SMALL}-0", "tiny:1"),
        (f"{SMALL}-0", "both:1"),
        (f"{SMALL}-1", "both:1"),
    ]
    assert {place.described for place in plan.places} == {frozenset({"big:1", "tiny:1", "both:1"})}


def test_what_another_pool_should_hold_is_garbage_once_that_one_holds_it() -> None:
    extra = pod(SMALL, 0, "tiny:1", "big:1")
    assert not decide.plan(observed(extra, pod(LARGE, 0))).waits
    assert decide.plan(observed(extra, pod(LARGE, 0, "big:1"))).waits


def test_the_proxy_is_told_of_all_pools_without_a_change_of_its_pods() -> None:
    modelset = observed().modelset
    service = ray.ray_service(modelset, [], {"labels": {}, "annotations": {}})["spec"]
    deployment = json.loads(service["serveConfigV2"])["applications"][0]["deployments"][0]
    assert [entry["url"] for entry in deployment["user_config"]["upstreams"]] == [
        f"http://{name}.default.svc:11434" for name in REPLICAS
    ]
    assert not any(name in json.dumps(service["rayClusterConfig"]) for name in REPLICAS)


def test_a_model_is_counted_on_the_pods_that_should_hold_it() -> None:
    pods = pod(LARGE, 0, "big:1"), pod(SMALL, 0, "tiny:1", "both:1", "big:1"), pod(SMALL, 1, "tiny:1")
    judged = {one.model.name: one for one in models.judge_all(observed(*pods))}
    counted = {name: (one.ready_pods, one.pods, one.progress) for name, one in judged.items()}
    assert counted == {"big:1": (1, 1, "100%"), "tiny:1": (2, 2, "100%"), "both:1": (1, 3, "33%")}
    told = decide.told(observed(*pods)).status
    assert (told["ollamaReady"], told["models"][2]["readyReplicas"]) == ("3/3", "1/3")


def test_the_pods_of_all_stateful_sets_are_counted_and_any_of_them_may_roll() -> None:
    def found(updated: int) -> seen.Observed:
        figures = {LARGE: (1, 1), SMALL: (2, updated)}
        return observed(
            pools={
                name: seen.PoolObjects(
                    stateful_set={
                        "metadata": {"name": name},
                        "status": {"replicas": replicas, "updatedReplicas": those},
                    }
                )
                for name, (replicas, those) in figures.items()
            }
        )

    running = proxy.Proxy(ready=True, settled=True, reason="Running", message="")
    assert decide.told(found(2)).status["replicas"] == 3
    assert status._moving(found(2), running, applied=True) is None
    assert status._moving(found(1), running, applied=True) is not None


def test_without_a_pool_nothing_is_wanted_on_a_pod() -> None:
    assert placement.wanted_on(pod("else", 0), observed()) == {}
