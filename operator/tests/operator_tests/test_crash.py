"""The operator is killed at a write, or an event goes astray: the cluster comes to the same rest.

No condition turns once more than it does undisturbed.

What cannot be helped: a download that is under way when the operator is killed is asked for again, and goes
on where it was; an Event whose status was written before the operator was killed is never told. Nothing is
told or done twice.

A few of all runs are taken here; `make crash` takes every write and every event of every way.
"""

import copy
import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from modelset_operator.api import names
from modelset_operator.cluster import keys, reflector
from serve_app.tests import simulated

from . import builders, fake_ollama, stage
from .worlds import MINI, MODELS, REGISTRY, SMOL

EXTRA = "models.example:5000/library/extra:1"
# What is there stays on the first of two pods, so that the one that is new is on the second.
PLACED = [{**model, "replicas": 1} for model in (*MODELS, {"name": "extra:1"})]
# What a way needs to have been done before.
BEFORE = {
    "a model whose pod is taken away": "a model on one pod of two",
    "a variant that is edited": "a variant",
    "a variant less": "a variant",
}
VARIANT = {"name": "support", "from": "smollm2:135m", "system": "Be polite."}


def _nothing(_: stage.Cluster) -> None:
    return


def _edited(**fields: Any) -> Callable[[stage.Cluster], None]:
    def edit(cluster: stage.Cluster) -> None:
        with cluster.api.edited("OllamaModelSet", "assistants") as found:
            found["spec"].update(fields)

    return edit


def _removed(cluster: stage.Cluster) -> None:
    if ("OllamaModelSet", "default", "assistants") in cluster.api.objects:
        cluster.api.remove("OllamaModelSet", "default", "assistants")


def _with_another_fixed_field(cluster: stage.Cluster) -> None:
    with cluster.api.edited("StatefulSet", "assistants-ollama") as found:
        found["spec"]["serviceName"] = "as it was once"


def _with_a_worker_more(cluster: stage.Cluster) -> None:
    """Be whatever adds a worker to the proxy's Ray cluster, as there is while one is scaled down."""
    (name,) = [name for kind, _, name in cluster.api.objects if kind == "RayCluster"]
    with cluster.api.edited("RayCluster", name) as found:
        found["spec"]["workerGroupSpecs"][0]["replicas"] = 1


def _scaled_by_demand(queued: int) -> Callable[[stage.Cluster], None]:
    """Have so many requests wait, of which two call for a pod."""
    bounds = {"minReplicas": 0, "maxReplicas": 3, "targetInFlight": 2, "idleSeconds": 10}

    def ask(cluster: stage.Cluster) -> None:
        cluster.queued = queued
        _edited(ollama={"autoscaling": bounds})(cluster)

    return ask


TO_READY = "to ready"
WAYS: dict[str, Callable[[stage.Cluster], None]] = {
    TO_READY: _nothing,
    "a model more": _edited(models=[*MODELS, {"name": "extra:1"}]),
    "a model less": _edited(models=[MODELS[0]]),
    "a model that the registry does not have": _edited(models=[*MODELS, {"name": "missing:1"}]),
    "another model": _edited(models=[MODELS[0], {"name": "extra:1"}]),
    "a variant": _edited(models=[*MODELS, VARIANT]),
    "a variant that is edited": _edited(models=[*MODELS, {**VARIANT, "system": "Be rude."}]),
    "a variant less": _edited(models=list(MODELS)),
    "a variant in place of its base": _edited(models=[MODELS[1], VARIANT]),
    "a variant of a model that is no entry": _edited(models=[*MODELS, {**VARIANT, "from": "extra:1"}]),
    "another image": _edited(ollama={"image": "ollama/ollama:next"}),
    "another image of the proxy": _edited(proxy={"image": "modelset-proxy:next"}),
    "a pod more": _edited(ollama={"replicas": 2}),
    "no pod": _edited(ollama={"replicas": 0}),
    "a model on one pod of two": _edited(models=PLACED, ollama={"replicas": 2}),
    "a model whose pod is taken away": _edited(models=PLACED, ollama={"replicas": 1}),
    "a preloaded model": _edited(models=[{**MODELS[0], "preload": True}, *MODELS[1:]]),
    "nobody asks": _scaled_by_demand(0),
    "many ask": _scaled_by_demand(6),
    "workers": _edited(proxy={"replicas": 3}),
    "a worker too many": _with_a_worker_more,
    "made anew": _with_another_fixed_field,
    "larger volumes": _edited(ollama={"storage": {"size": "40Gi"}}),
    "removed": _removed,
}


@pytest.fixture(autouse=True)
def same_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no chance in what is compared."""
    monkeypatch.setattr(keys.secrets, "token_bytes", lambda count: b"k" * count)


@pytest.fixture(autouse=True)
def quick_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have everything listed again within half a minute, so that it need not be waited for for an hour."""
    monkeypatch.setattr(reflector, "WATCH_SECONDS", 15)
    monkeypatch.setattr(reflector, "RESYNC_SECONDS", 20.0)
    monkeypatch.setattr(reflector.random, "uniform", lambda _low, _high: 1.0)


def _new() -> stage.Cluster:
    cluster = stage.Cluster()
    for name, capability in ((SMOL, "completion"), (MINI, "embedding"), (EXTRA, "completion")):
        cluster.fleet.registry[name] = fake_ollama.Published(capabilities=(capability,))
    cluster.api.put(builders.resource(*MODELS, registry=REGISTRY))
    return cluster


@functools.cache
def _rested() -> stage.Cluster:
    return simulated.run(stage.run(_new())).cluster


def _begin(way: str) -> stage.Cluster:
    if way == TO_READY:
        return _new()
    cluster = copy.deepcopy(_undisturbed(BEFORE[way]).cluster if way in BEFORE else _rested())
    cluster.api.events.clear()
    cluster.made.clear()
    for server in cluster.fleet.servers.values():
        server.requests.clear()
    return cluster


def _run(way: str, fault: stage.Fault | None = None) -> stage.Run:
    return simulated.run(stage.run(_begin(way), WAYS[way], fault))


_undisturbed = functools.cache(_run)


def _faults(way: str, kind: str) -> Iterator[stage.Fault]:
    run = _undisturbed(way)
    if kind == "amid":
        amid = [at for at, write in enumerate(run.writes) if write.startswith(stage.CHANGES)]
        yield from (stage.Fault(kind, at) for at in amid)
    else:
        yield from (stage.Fault(kind, at) for at in range(len(_log(run, kind))))


def _log(run: stage.Run, kind: str) -> list[str]:
    return run.writes if kind in stage.WRITES else run.events


def _same(way: str, fault: stage.Fault) -> None:
    """Have a fault occur on a way, and hold what comes of it to what comes of the way without."""
    plain = _undisturbed(way)
    what = f"{fault.kind} {fault.at}: {_log(plain, fault.kind)[fault.at]}"
    found = _run(way, fault)
    assert fault.met, what
    assert found.cluster.state() == plain.cluster.state(), what
    assert found.cluster.told() <= plain.cluster.told(), what
    assert found.cluster.asked() <= plain.cluster.asked() + found.broken_off, what
    if fault.kind in stage.WRITES:
        assert found.cluster.flips() <= plain.cluster.flips(), what
    if fault.kind in stage.EVENTS:
        assert found.cluster.told() == plain.cluster.told(), what


def _gone(fault: stage.Fault) -> None:
    """Have the set removed at a write on its way to Ready: nothing is left of it, and it is let alone."""
    what = f"{fault.kind} {fault.at}: {_undisturbed(TO_READY).writes[fault.at]}"
    cluster = _begin(TO_READY)
    fault.then = functools.partial(_removed, cluster)
    simulated.run(stage.run(cluster, fault=fault))
    assert fault.met, what
    assert cluster.api.objects == {}, what


def _at(way: str, kind: str, log_line: str) -> stage.Fault:
    """Return the fault at the first write or event that contains this."""
    log = _log(_undisturbed(way), kind)
    return stage.Fault(kind, next(at for at, line in enumerate(log) if log_line in line))


def _last_status(kind: str) -> stage.Fault:
    """Return the fault at the write that says that the set is Ready."""
    writes = enumerate(_undisturbed(TO_READY).writes)
    return stage.Fault(kind, max(at for at, write in writes if write.endswith("/status")))


@pytest.mark.parametrize(
    ("way", "kind", "log_line"),
    [
        (TO_READY, "before", "ollamamodelsets/assistants"),
        (TO_READY, "after", "ollamamodelsets/assistants"),
        (TO_READY, "after", "services/assistants-ollama"),
        (TO_READY, "before", "ollamamodelsets/assistants/status"),
        (TO_READY, "amid", "/api/pull"),
        (TO_READY, "after", "/api/pull"),
        (TO_READY, "lost", "ADDED Pod"),
        (TO_READY, "expired", "ADDED StatefulSet"),
        ("a model less", "after", "rayservices"),
        ("a model less", "before", "/api/delete"),
        ("a model less", "after", "/api/delete"),
        ("a variant", "before", "/api/create"),
        ("a variant", "amid", "/api/create"),
        ("a variant", "after", "/api/create"),
        ("a variant that is edited", "before", "/api/create"),
        ("a variant that is edited", "after", "/api/create"),
    ],
)
def test_a_killed_operator_and_events_that_go_astray_change_nothing(
    way: str, kind: str, log_line: str
) -> None:
    _same(way, _at(way, kind, log_line))


def test_the_first_write_claims_the_set() -> None:
    """It is one of those at which the operator is killed."""
    assert _undisturbed(TO_READY).writes[0].endswith("/ollamamodelsets/assistants")
    found = _undisturbed(TO_READY).cluster.api.find("OllamaModelSet", "assistants")
    assert found["metadata"]["annotations"][names.OPERATOR_ANNOTATION] == "system/modelset-operator"


def test_a_model_is_deleted_once_however_late_its_pod_is_looked_at_again() -> None:
    asked = _undisturbed("a model less").cluster.asked()
    assert asked == {f"10.0.0.1 /api/delete {MINI}": 1}


def test_a_model_whose_pod_is_taken_away_is_pulled_where_one_stays() -> None:
    way = "a model whose pod is taken away"
    before, after = (_undisturbed(one).cluster.fleet.servers for one in (BEFORE[way], way))
    assert [set(server.held) for server in before.values()] == [{SMOL, MINI}, {EXTRA}]
    assert after["10.0.0.1"].held.keys() == {SMOL, MINI, EXTRA}


def test_a_variant_is_made_once_for_each_edit_and_deleted_once() -> None:
    made, gone = {"10.0.0.1 /api/create support:latest": 1}, {"10.0.0.1 /api/delete support:latest": 1}
    ways = {"a variant": made, "a variant that is edited": made, "a variant less": gone}
    assert {way: _undisturbed(way).cluster.asked() for way in ways} == ways


def test_a_status_that_the_set_is_too_new_for_is_told_once() -> None:
    fault = _last_status("meanwhile")
    cluster = _begin(TO_READY)

    def annotate() -> None:
        with cluster.api.edited("OllamaModelSet", "assistants") as found:
            found["metadata"]["annotations"]["somebody"] = "was here"

    fault.then = annotate
    found = simulated.run(stage.run(cluster, fault=fault))
    assert fault.met
    assert found.cluster.told() == _undisturbed(TO_READY).cluster.told()


def test_a_status_is_not_written_onto_another_set_of_the_name() -> None:
    fault = _last_status("meanwhile")
    cluster = _begin(TO_READY)

    def replace() -> None:
        _removed(cluster)
        another = builders.resource(*MODELS, registry=REGISTRY)
        another["metadata"]["uid"] = "another"
        cluster.api.put(another)

    fault.then = replace
    simulated.run(stage.run(cluster, fault=fault))
    assert fault.met
    assert sum(count for (reason, _), count in cluster.told().items() if reason == "Ready") == 1


@pytest.mark.parametrize("kind", ["before", "meanwhile"])
def test_a_set_that_is_removed_while_its_children_are_made_leaves_nothing(kind: str) -> None:
    _gone(_at(TO_READY, kind, "statefulsets"))


@pytest.mark.crash
@pytest.mark.parametrize("way", WAYS)
def test_each_way_leads_where_its_name_says(way: str) -> None:
    """Otherwise nothing would be shown by all others."""
    cluster = _undisturbed(way).cluster
    if way == "removed":
        assert cluster.api.objects == {}
        return
    found = cluster.api.find("OllamaModelSet", "assistants")
    (ready,) = [one["status"] for one in found["status"]["conditions"] if one["type"] == "Ready"]
    assert ready == ("False" if way in ("no pod", "a model that the registry does not have") else "True")
    asked_for = _new().api.find("OllamaModelSet", "assistants")["spec"]
    assert (found["spec"] == asked_for) == (
        way in (TO_READY, "made anew", "a worker too many", "a variant less")
    )
    (workers,) = [one for (kind, *_), one in cluster.api.objects.items() if kind == "RayCluster"]
    assert workers["spec"]["workerGroupSpecs"][0]["replicas"] == (2 if way == "workers" else 0)
    assert _undisturbed(way).writes


@pytest.mark.crash
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", [*(kind for kind in stage.WRITES if kind != "meanwhile"), *stage.EVENTS])
@pytest.mark.parametrize("way", WAYS)
def test_every_write_may_be_the_last_and_every_event_go_astray(way: str, kind: str) -> None:
    for fault in _faults(way, kind):
        _same(way, fault)


@pytest.mark.crash
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", stage.WRITES)
def test_a_set_that_is_removed_at_any_write_leaves_nothing(kind: str) -> None:
    for fault in _faults(TO_READY, kind):
        _gone(fault)
