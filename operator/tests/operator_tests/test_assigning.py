"""Which pods keep which model: one row a situation."""

import dataclasses
from typing import Any

import pytest

from modelset_operator.engines import state
from modelset_operator.manifests import ollama
from modelset_operator.plan import decide, models, needs, placement
from modelset_operator.plan import observed as seen

from . import builders

GI = 2**30
POOL = "assistants-ollama"


def demand(
    key: str,
    copies: int | None = None,
    *,
    memory: float = 0,
    disk: float = 0,
    hot: bool = False,
    runner: str = "",
) -> placement.Demand:
    takes = needs.Needs(int(memory * GI) or None, int(disk * GI) or None, runner)
    return placement.Demand(key, copies, takes, hot)


def rooms(*pods: str, memory: float = 0, disk: float = 0, hot: int | None = None) -> list[placement.Room]:
    """Return pods by what they keep, as in `a +b ~c`: assigned and held, only assigned, only held."""
    return [
        placement.Room(
            pod=str(ordinal),
            memory=int(memory * GI) or None,
            disk=int(disk * GI) or None,
            hot=hot,
            assigned=frozenset(word.strip("+") for word in text.split() if not word.startswith("~")),
            held=frozenset(word.strip("~") for word in text.split() if not word.startswith("+")),
        )
        for ordinal, text in enumerate(pods)
    ]


@pytest.mark.parametrize(
    ("demands", "pods", "assigned"),
    [
        pytest.param([demand("a")], rooms("", "", ""), ["a", "a", "a"], id="by default on all"),
        pytest.param([demand("a", 2)], rooms("", "", ""), ["a", "a", ""], id="on the lowest ordinals"),
        pytest.param([demand("a", 5)], rooms("", ""), ["a", "a"], id="not more often than there are pods"),
        pytest.param([demand("a", 1)], [], [], id="no pod"),
        pytest.param([demand("a", 1)], rooms("", "~a"), ["", "a"], id="where it is on disk"),
        pytest.param(
            [demand("a", 1)], rooms("", "+a"), ["", "a"], id="where it was to be, before it was pulled"
        ),
        pytest.param([demand("a", 1)], rooms("~a", "+a"), ["", "a"], id="moved once, it does not move back"),
        pytest.param(
            [demand("a", 2)], rooms("", "a", ""), ["a", "a", ""], id="a copy more stays with the first"
        ),
        pytest.param([demand("a", 1)], rooms("a", "a"), ["a", ""], id="a copy less leaves the last"),
        pytest.param(
            [demand("a", 1), demand("b", 1)], rooms("a b", ""), ["ab", ""], id="a pod added moves nothing"
        ),
        pytest.param(
            [demand("a", 1), demand("b", 1), demand("c", 1)],
            rooms("a b", ""),
            ["ab", "c"],
            id="what is new goes to the pod that was added",
        ),
        pytest.param(
            [demand("a", 1), demand("b", 1), demand("c", 1)],
            rooms("a", "b"),
            ["ac", "b"],
            id="a pod lost moves what it kept, and only that",
        ),
        pytest.param([demand("a", 1), demand("b", 1)], rooms("", ""), ["a", "b"], id="side by side"),
        pytest.param(
            [demand("s", 1, memory=1), demand("t", 1, memory=1), demand("z", 1, memory=3)],
            rooms("", "", memory=4),
            ["z", "st"],
            id="by memory, a large one apart",
        ),
        pytest.param(
            [demand("s", 1, disk=1), demand("t", 1, disk=1), demand("z", 1, disk=3)],
            rooms("", "", disk=4),
            ["z", "st"],
            id="by disk",
        ),
        pytest.param(
            [demand("x", 1, hot=True), demand("y", 1, hot=True), demand("z", 1, memory=9)],
            rooms("", "", ""),
            ["x", "y", "z"],
            id="hot ones apart",
        ),
        pytest.param(
            [demand("all", memory=3, hot=True), demand("a", 1, memory=2)],
            rooms("a", "", memory=4),
            ["aall", "all"],
            id="what is cold may take turns with what is hot",
        ),
        pytest.param([demand("a", 1, disk=9)], rooms("a", "", disk=4), ["a", ""], id="what is on disk fits"),
        pytest.param(
            [demand(key, memory=3, hot=True, runner="r") for key in "ab"],
            rooms("", memory=4, hot=1),
            ["ab"],
            id="variants take memory once",
        ),
        pytest.param(
            [demand(key, 1, memory=2, runner="r") for key in "ab"] + [demand("c", 1, memory=3)],
            rooms("a b", "c"),
            ["ab", "c"],
            id="variants stay together",
        ),
        pytest.param(
            [demand(key, 1, memory=2, runner="r") for key in "ab"]
            + [demand("c", 1, memory=3), demand("d", 1)],
            rooms("a b", "c"),
            ["abd", "c"],
            id="variants leave more room than they would apart",
        ),
        pytest.param(
            [demand("x", 1, disk=1), demand("y", 1, disk=1), demand("z", 1, disk=3), demand("a", 1)],
            rooms("x y", "z"),
            ["axy", "z"],
            id="memory that is not known counts nothing",
        ),
        pytest.param(
            [
                demand("x", memory=4, disk=4, hot=True),
                demand("a", 1, hot=True),
                placement.Demand("v", 1, base="x", adapter="l"),
            ],
            rooms("x", memory=4, disk=4),
            ["alvx"],
            id="what is not known fits where there is no room",
        ),
        pytest.param([demand("a", 1, memory=4)], rooms("", memory=4), ["a"], id="all memory"),
        pytest.param(
            [demand("x", memory=3, hot=True), demand("a", 1, memory=1, hot=True)],
            rooms("x", memory=4),
            ["ax"],
            id="all memory, with what is preloaded",
        ),
        pytest.param(
            [demand("x", disk=3), demand("a", 1, disk=1)], rooms("x", disk=4), ["ax"], id="all disk"
        ),
        pytest.param(
            [demand("x", 1, memory=1, hot=True), demand("y", 1, memory=3), demand("a", 1, hot=True)],
            rooms("x", "y"),
            ["x", "ay"],
            id="a hot one goes where fewest are hot",
        ),
        pytest.param(
            [demand("x", 1, memory=1, hot=True), demand("y", 1, memory=3), demand("a", 1)],
            rooms("x", "y"),
            ["ax", "y"],
            id="a cold one goes where most memory is left",
        ),
        pytest.param(
            [demand("a", 1, disk=2), demand("b", 1, disk=3)],
            rooms("+a", "", disk=4),
            ["a", "b"],
            id="what was assigned and is not pulled yet keeps its place",
        ),
    ],
)
def test_assignments(
    demands: list[placement.Demand], pods: list[placement.Room], assigned: list[str]
) -> None:
    found = placement.assign(demands, pods)
    assert ["".join(sorted(keys)) for keys in found.keys.values()] == assigned
    assert found.unmet == {}


@pytest.mark.parametrize(
    ("demands", "pods", "assigned", "reason"),
    [
        pytest.param(
            [demand("a", 1, memory=5.1)],
            rooms("", "a", memory=4),
            ["", ""],
            "needs 5.1Gi of memory, pods have 4.0Gi",
            id="memory",
        ),
        pytest.param(
            [demand("b", memory=3, hot=True), demand("a", 1, memory=2, hot=True)],
            rooms("b", "b", memory=4),
            ["b", "b"],
            "needs 2.0Gi of memory beside other preloaded models, pods have 1.0Gi left of 4.0Gi",
            id="memory beside what is preloaded",
        ),
        pytest.param(
            [demand("b", hot=True), demand("a", 1, hot=True)],
            rooms("b", "b", hot=1),
            ["b", "b"],
            "spec.ollama.maxLoadedModels is 1, and as many other models are preloaded",
            id="more preloaded than may be loaded",
        ),
        pytest.param(
            [demand("b", disk=3), demand("a", 1, disk=2)],
            rooms("b", "b", disk=4),
            ["b", "b"],
            "needs 2.0Gi of disk, pods have 1.0Gi left of 4.0Gi",
            id="disk",
        ),
        pytest.param(
            [demand("b", 1, disk=3), demand("a", 2, disk=2)],
            rooms("b", "", disk=4),
            ["b", "a"],
            "needs 2.0Gi of disk, pods have 1.0Gi left of 4.0Gi",
            id="one copy of two",
        ),
        pytest.param(
            [demand("b", disk=5), demand("a", 1, disk=2)],
            rooms("b", disk=4),
            ["b"],
            "needs 2.0Gi of disk, pods have 0 left of 4.0Gi",
            id="disk that is more than full",
        ),
        pytest.param(
            [demand("a", 1, disk=3), demand("b", disk=2)],
            rooms("", "", disk=4),
            ["b", "b"],
            "needs 3.0Gi of disk, pods have 2.0Gi left of 4.0Gi",
            id="one model, beside what all pods keep",
        ),
        pytest.param(
            [demand("a", 1, disk=3), demand("b", 2, disk=2)],
            rooms("", "", disk=4),
            ["b", "b"],
            "needs 3.0Gi of disk, pods have 2.0Gi left of 4.0Gi",
            id="or as many pods as there are",
        ),
        pytest.param(
            [demand("b", 1, disk=3), demand("a", 2, disk=2), placement.Demand("v", 1, base="a")],
            rooms("", "b", disk=4),
            ["av", "b"],
            "needs 2.0Gi of disk, pods have 1.0Gi left of 4.0Gi",
            id="a base, but not its variant of which one copy is enough",
        ),
    ],
)
def test_what_finds_no_pod(
    demands: list[placement.Demand], pods: list[placement.Room], assigned: list[str], reason: str
) -> None:
    found = placement.assign(demands, pods)
    assert ["".join(sorted(keys)) for keys in found.keys.values()] == assigned
    assert found.unmet == {"a": reason}


SHAPE = state.Facts(("completion",), cache_values=1024, context_length=8192)


@pytest.mark.parametrize(
    ("facts", "fields", "ollama_fields", "bytes_needed"),
    [
        pytest.param(SHAPE, {}, {"parallel": 1}, 1000 + 2 * 1024 * 4096, id="Ollama's own context"),
        pytest.param(SHAPE, {}, {"parallel": 3}, 1000 + 3 * 2 * 1024 * 4096, id="for each request"),
        pytest.param(SHAPE, {"contextLength": 100}, {"parallel": 1}, 1000 + 2 * 1024 * 100, id="pinned"),
        pytest.param(
            dataclasses.replace(SHAPE, pinned_context_length=50),
            {},
            {"parallel": 1},
            1000 + 2 * 1024 * 50,
            id="the Modelfile's",
        ),
        pytest.param(
            SHAPE, {"contextLength": 9000}, {"parallel": 1}, 1000 + 2 * 1024 * 8192, id="no more than it has"
        ),
        pytest.param(
            SHAPE,
            {"contextLength": 128},
            {"parallel": 1, "flashAttention": True, "kvCacheType": "q8_0"},
            1000 + 1024 * 128 * 34 // 32,
            id="a smaller cache",
        ),
        pytest.param(
            SHAPE,
            {"contextLength": 128},
            {"parallel": 1, "flashAttention": True, "kvCacheType": "q4_0"},
            1000 + 1024 * 128 * 18 // 32,
            id="a still smaller cache",
        ),
        pytest.param(
            SHAPE,
            {"contextLength": 128},
            {"parallel": 1, "kvCacheType": "f16"},
            1000 + 2 * 1024 * 128,
            id="a cache as large as without a word",
        ),
        pytest.param(
            dataclasses.replace(SHAPE, capabilities=("embedding",)),
            {"contextLength": 100},
            {"parallel": 4},
            1000 + 2 * 1024 * 100,
            id="embeddings are for one request at a time",
        ),
        pytest.param(state.Facts(("completion",)), {}, {}, 1000, id="it does not tell of a cache"),
        pytest.param(None, {}, {}, None, id="not asked yet"),
    ],
)
def test_memory_by_a_models_own_numbers(
    facts: state.Facts | None, fields: dict[str, Any], ollama_fields: dict[str, Any], bytes_needed: int | None
) -> None:
    modelset = builders.modelset({"name": "m:1", **fields}, ollama=ollama_fields)
    held = state.Held("digest", 1000, facts)
    assert needs.calculated(modelset.models[0], held, modelset.ollama) == bytes_needed


def store(*keys: str, loaded: int = 0, size: int = 1000) -> state.Store:
    held = {key: state.Held(f"digest-of-{key}", size, state.Facts(("completion",))) for key in keys}
    return state.Store(held, {key: key for key in keys}, dict.fromkeys(keys, loaded) if loaded else {})


def look(*pods: state.Store | None, told: dict[str, Any] | None = None, **fields: Any) -> seen.Observed:
    """Look at a set of one model on one of two pods with 4 Gi each."""
    model = {"name": "m:1", "replicas": 1, **fields}
    resource = builders.resource(
        model, ollama={"replicas": 2, "resources": {"limits": {"memory": "4Gi"}}, "parallel": 1}
    )
    resource["status"] = told or {}
    found = [builders.pod(ordinal, store=store, ready=True) for ordinal, store in enumerate(pods)]
    return builders.observed(resource, pods=tuple(found))


@pytest.mark.parametrize(
    ("pods", "told", "memory"),
    [
        pytest.param((store("m:1", loaded=5000),), {"memory": 9}, 5000, id="measured"),
        pytest.param((store("m:1", loaded=5000), store("m:1", loaded=6000)), {}, 6000, id="measured on two"),
        pytest.param((store("m:1", loaded=5000),), {"memory": 9000}, 9000, id="measured less than before"),
        pytest.param((store("m:1", loaded=500),), {"memory": 1000}, 500, id="measured, calculated before"),
        pytest.param(
            (store("m:1", loaded=500),),
            {"memory": 9, "digest": "another"},
            500,
            id="measured, another version",
        ),
        pytest.param((store("m:1"),), {"memory": 9}, 9, id="as told, when it was measured"),
        pytest.param((store("m:1"),), {"memory": 9, "digest": "another"}, 1000, id="another version"),
        pytest.param((store("m:1"),), {}, 1000, id="calculated"),
        pytest.param((None,), {"memory": 9}, 9, id="nobody there to ask"),
        pytest.param((None,), {}, None, id="never seen"),
    ],
)
def test_what_is_known_of_a_models_memory(
    pods: tuple[state.Store | None, ...], told: dict[str, Any], memory: int | None
) -> None:
    entry = {"name": "m:1", "digest": "digest-of-m:1", **told}
    observed = look(*pods, told={"observedGeneration": 1, "models": [entry]})
    assert needs.of(observed.modelset.models[0], observed).memory == memory
    assert decide.told(observed).status["models"][0].get("memory") == memory


@pytest.mark.parametrize(
    ("fields", "weights", "memory"),
    [
        pytest.param({}, "w", 5000, id="the same runner"),
        pytest.param({"contextLength": 100}, "w", 1000, id="another context"),
        pytest.param({}, "x", 1000, id="other weights"),
        pytest.param({}, "", 1000, id="weights not known"),
    ],
)
def test_what_a_variant_took_is_known_of_its_sisters(
    fields: dict[str, Any], weights: str, memory: int
) -> None:
    resource = builders.resource("loaded:1", {"name": "m:1", **fields})
    facts = {
        "loaded:1": state.Facts((), weights="w" if weights else ""),
        "m:1": state.Facts((), weights=weights),
    }
    held = {key: state.Held(f"digest-of-{key}", 1000, found) for key, found in facts.items()}
    there = state.Store(held, {key: key for key in held}, {"loaded:1": 5000})
    observed = builders.observed(resource, pods=(builders.pod(0, store=there, ready=True),))
    assert [needs.of(model, observed).memory for model in observed.modelset.models] == [5000, memory]


def test_after_an_edit_memory_is_calculated_anew() -> None:
    entry = {"name": "m:1", "digest": "digest-of-m:1", "memory": 9}
    observed = look(store("m:1"), told={"observedGeneration": 0, "models": [entry]})
    assert needs.of(observed.modelset.models[0], observed).memory == 1000


def test_what_never_fits_is_pending_and_stays_on_disk() -> None:
    observed = look(store("m:1", size=5 * GI), store())
    (judged,) = models.judge_all(observed)
    assert (judged.phase, judged.message) == ("Pending", "needs 5.0Gi of memory, pods have 4.0Gi")
    assert (judged.ready_pods, judged.pods) == (0, 1)
    plan = decide.plan(observed)
    assert (plan.pulls, plan.waits) == ((), False)


def test_a_model_is_pulled_on_its_new_pod_before_the_old_one_loses_it() -> None:
    def moving(*pods: state.Store, ready: bool = True) -> decide.Plan:
        observed = look(*pods)
        (pool,) = observed.modelset.pools
        assigned = ollama.config_map(
            observed.modelset, pool, {f"{POOL}-0": (), f"{POOL}-1": observed.modelset.models}
        )
        there = tuple(dataclasses.replace(pod, ready=ready) for pod in observed.pods)
        pools = {POOL: seen.PoolObjects(config_map=assigned)}
        return decide.plan(dataclasses.replace(observed, pools=pools, pods=there))

    before = moving(store("m:1"), store())
    assert [(pull.pod, pull.key) for pull in before.pulls] == [(f"{POOL}-1", "m:1")]
    assert not before.waits
    # The one that holds it as well is left alone until the new one answers for it.
    assert not moving(store("m:1"), store("m:1"), ready=False).waits
    after = moving(store("m:1"), store("m:1"))
    assert (after.pulls, after.waits) == ((), True)


def test_a_pod_that_is_on_its_way_out_keeps_what_it_has() -> None:
    resource = builders.resource("m:1", ollama={"replicas": 1})
    pods = (builders.pod(0, store=store("m:1"), ready=True), builders.pod(1, store=store("m:1"), ready=True))
    plan = decide.plan(builders.observed(resource, pods=pods))
    assert (plan.pulls, plan.waits) == ((), False)


def test_a_pod_is_told_what_it_keeps_alone_and_all_of_them_what_they_share() -> None:
    modelset = builders.modelset("a:1", {"name": "b:1", "replicas": 1}, ollama={"replicas": 2})
    a, b = modelset.models
    (pool,) = modelset.pools
    found = ollama.config_map(modelset, pool, {f"{POOL}-0": (a, b), f"{POOL}-1": (a,)})
    assert found["data"] == {
        "required": f"{a.reference.manifest_path}\n",
        f"{POOL}-0": f"{b.reference.manifest_path}\n",
    }
    assert ollama.assigned(found, f"{POOL}-0") == {model.reference.manifest_path for model in (a, b)}
    assert ollama.assigned(found, f"{POOL}-1") == {a.reference.manifest_path}
    assert ollama.assigned(None, f"{POOL}-0") == frozenset()


def test_a_pod_that_is_away_keeps_its_model() -> None:
    observed = look(store(), None)
    (pool,) = observed.modelset.pools
    assigned = ollama.config_map(
        observed.modelset, pool, {f"{POOL}-0": (), f"{POOL}-1": observed.modelset.models}
    )
    pools = {POOL: seen.PoolObjects(config_map=assigned)}
    away = dataclasses.replace(observed, pools=pools, pods=observed.pods[:1])
    assert placement.placed(away).keys == {f"{POOL}-0": frozenset(), f"{POOL}-1": frozenset({"m:1"})}


def test_a_model_stays_where_it_is_on_disk() -> None:
    assert placement.placed(look(store(), store("m:1"))).keys == {
        f"{POOL}-0": frozenset(),
        f"{POOL}-1": frozenset({"m:1"}),
    }


def test_no_more_models_are_preloaded_than_pods_load_at_once() -> None:
    hot = [{"name": name, "preload": True} for name in ("a:1", "b:1")]
    found = placement.placed(builders.observed(builders.resource(*hot, ollama={"maxLoadedModels": 1})))
    assert found.keys == {f"{POOL}-0": frozenset({"a:1"})}
    assert list(found.unmet) == ["b:1"]


@pytest.mark.parametrize(
    ("loaded", "load", "told", "phase", "message"),
    [
        pytest.param(
            0, None, "0/1", "Loading", "being loaded into memory on assistants-ollama-0", id="not yet"
        ),
        pytest.param(
            0,
            state.Load(),
            "0/1",
            "Loading",
            "being loaded into memory on assistants-ollama-0",
            id="under way",
        ),
        pytest.param(
            0,
            state.Load(message="too large"),
            "0/1",
            "Loading",
            "assistants-ollama-0: too large",
            id="refused",
        ),
        pytest.param(0, state.Load(done=True), "0/1", "Ready", "", id="it was, and has been evicted since"),
        pytest.param(5000, None, "0/1", "Ready", "", id="it is in memory"),
        pytest.param(0, None, "1/1", "Ready", "", id="it was, before this run of the operator"),
    ],
)
def test_a_preloaded_model_is_ready_once_it_has_been_in_memory(
    loaded: int, load: state.Load | None, told: str, phase: str, message: str
) -> None:
    before = {
        "observedGeneration": 1,
        "models": [{"name": "m:1", "digest": "digest-of-m:1", "readyReplicas": told}],
    }
    observed = look(store("m:1", loaded=loaded), store(), told=before, preload=True, contextLength=512)
    loads = {} if load is None else {("pod-0", "m:1"): load}
    (judged,) = models.judge_all(dataclasses.replace(observed, loads=loads))
    assert (judged.phase, judged.message, judged.ready_pods) == (phase, message, int(phase == "Ready"))
    (wanted,) = decide.plan(observed).loads
    assert (wanted.uid, wanted.key, wanted.keep_alive, wanted.context_length) == ("pod-0", "m:1", "-1", 512)


def test_nothing_is_loaded_that_is_not_to_be() -> None:
    assert decide.plan(look(store("m:1"), store())).loads == ()
    assert decide.plan(look(store(), store(), preload=True)).loads == ()
