"""Variants: which ones there are, whether a pod holds them as the spec says, and what is done about it."""

import dataclasses
from typing import Any

import pytest

from modelset_operator.api import references, spec
from modelset_operator.engines import state
from modelset_operator.manifests import network, ollama
from modelset_operator.plan import decide, models, needs, placement, status, variants
from modelset_operator.plan import observed as seen

from . import builders
from .worlds import REGISTRY

CHAT = builders.CHAT
BASE, SUPPORT = "m:1", "support"
KEY = "support:latest"
POLITE = {"name": SUPPORT, "from": BASE, "system": "Be polite.", "parameters": {"temperature": 0.2}}
RUDE = {**POLITE, "system": "Be rude."}
RUNNING, FAILED = state.PullPhase.RUNNING, state.PullPhase.FAILED


def entry(name: str = SUPPORT, base: str = BASE, **fields: Any) -> dict[str, Any]:
    return {"name": name, "from": base, **fields}


def made(*recipes: dict[str, Any], base: state.Store) -> state.Store:
    """Return what a pod holds that has made these of what it held."""
    pod = builders.pod(store=base)
    held, names = dict(base.held), dict(base.names)
    for model in builders.modelset(*recipes).models:
        recipe, key = variants.recipe(model, pod), model.reference.key
        assert recipe is not None
        facts = state.Facts(CHAT, mark=recipe.mark)
        held[key] = state.Held(f"digest-of-{recipe.mark}", 1_500_000, facts, changed=9)
        names[key] = str(model.reference)
    return state.Store(held, names, base.loaded)


def holds(*names: str, version: int = 0) -> state.Store:
    return builders.store_of(dict.fromkeys(names, CHAT), version=version)


NOTHING, HOLDS_BASE = holds(), holds(BASE)
HOLDS_POLITE = made(POLITE, base=HOLDS_BASE)


def observed(*entries: str | dict[str, Any], **fields: Any) -> seen.Observed:
    store = fields.pop("store", None)
    resource = builders.resource(*entries, **fields.pop("spec", {}))
    resource["status"] = fields.pop("told", {})
    if store is not None:
        fields.setdefault("pods", (builders.pod(store=store, ready=True),))
    return builders.observed(resource, **fields)


def judged(found: seen.Observed) -> dict[str, models.Judged]:
    return {one.model.name: one for one in models.judge_all(found)}


# --- which ones there are


def test_a_variant_is_called_what_the_spec_calls_it_and_its_base_is_pulled_whatever_the_registry() -> None:
    modelset = builders.modelset(POLITE, registry=REGISTRY)
    (model,), (base,) = modelset.models, modelset.bases
    assert (str(model.reference), model.served_names) == (KEY, (SUPPORT,))
    assert (str(base.reference), base.source.insecure) == ("models.example:5000/library/m:1", True)
    assert model.variant is not None
    assert model.variant.base == base.reference
    assert modelset.by_key == {KEY: model, base.reference.key: base}


@pytest.mark.parametrize(
    ("entries", "bases"),
    [
        pytest.param([POLITE], {BASE: None}, id="one that is no entry"),
        pytest.param(
            [entry("a"), entry("b", "m:1"), entry("c", "n")], {"m:1": None, "n": None}, id="once each"
        ),
        pytest.param([BASE, POLITE], {}, id="an entry"),
        pytest.param(["m", entry(base="m:latest")], {}, id="an entry, spelled otherwise"),
        pytest.param(
            [entry("a", replicas=1), entry("b", replicas=2)], {BASE: 2}, id="on as many pods as any variant"
        ),
        pytest.param([entry("a", replicas=1), entry("b")], {BASE: None}, id="on all pods, as one variant is"),
    ],
)
def test_bases_that_are_no_entries_are_kept_all_the_same(
    entries: list[Any], bases: dict[str, int | None]
) -> None:
    modelset = builders.modelset(*entries)
    assert {base.name: base.replicas for base in modelset.bases} == bases
    assert not any(base.served_names for base in modelset.bases)


@pytest.mark.parametrize(
    ("replicas", "of_variants", "kept"),
    [(1, [2], 2), (3, [2], 3), (1, [1, None], None), (None, [1], None), (1, [], 1)],
)
def test_an_entry_is_kept_on_as_many_pods_as_its_variants(
    replicas: int | None, of_variants: list[int | None], kept: int | None
) -> None:
    family = [entry(f"v{index}", replicas=count) for index, count in enumerate(of_variants)]
    base, *_ = builders.modelset({"name": BASE, "replicas": replicas}, *family).models
    assert base.replicas == kept


def test_entries_of_one_model_stay_two_when_they_have_a_variant() -> None:
    modelset = builders.modelset("m", {"name": "m:latest", "servedNames": ["other"]}, entry(base="m"))
    assert [model.served_names for model in modelset.models] == [("m",), ("other",), (SUPPORT,)]


@pytest.mark.parametrize(
    ("fields", "length"),
    [({}, 512), ({"contextLength": 64}, 64), ({"parameters": {"num_ctx": 64}}, None)],
)
def test_a_variant_has_its_bases_context_unless_it_has_its_own(
    fields: dict[str, Any], length: int | None
) -> None:
    _, model = builders.modelset({"name": BASE, "contextLength": 512}, entry(**fields)).models
    assert model.context_length == length


@pytest.mark.parametrize(
    ("entries", "registry", "problem"),
    [
        ([entry("a", "a:latest")], {}, "from of a names itself"),
        ([entry("a", "a:latest")], REGISTRY, "from of a names itself"),
        ([entry("a"), entry("b", "A:latest")], {}, "from of b names a, which is a variant itself"),
        ([entry("a"), entry("b", "a")], REGISTRY, "from of b names a, which is a variant itself"),
        ([entry("a"), entry("a:latest", system="x")], {}, "a and a:latest are one name on Ollama"),
        (["a", entry("a:latest")], {}, "a and a:latest are one name on Ollama"),
        ([entry("a", "x:y:z")], {}, "'x:y:z' is not a model reference"),
    ],
)
def test_what_cannot_be_made_is_refused(entries: list[Any], registry: dict[str, Any], problem: str) -> None:
    with pytest.raises(spec.SpecError, match=f"spec.models: .*{problem}"):
        builders.modelset(*entries, registry=registry)


def test_pods_may_reach_the_registry_of_a_base_and_none_for_a_variant() -> None:
    modelset = builders.modelset(entry("here.example:1/team/a", "there.example:2/team/m"))
    assert network._registry_ports(modelset) == [2, 443]


# --- whether a pod holds them as the spec says


@pytest.mark.parametrize(
    ("recipe", "store", "differs"),
    [
        pytest.param(POLITE, HOLDS_BASE, False, id="not there"),
        pytest.param(POLITE, HOLDS_POLITE, False, id="as it should be"),
        pytest.param(RUDE, HOLDS_POLITE, True, id="another system prompt"),
        pytest.param({**POLITE, "template": "x"}, HOLDS_POLITE, True, id="a template more"),
        pytest.param({**POLITE, "parameters": {"temperature": 0.3}}, HOLDS_POLITE, True, id="a parameter"),
        pytest.param({**POLITE, "from": "n:1"}, HOLDS_POLITE, True, id="another base, which is not there"),
        pytest.param(
            POLITE,
            state.Store({**HOLDS_POLITE.held, **holds(BASE, version=2).held}, HOLDS_POLITE.names),
            True,
            id="its base has moved",
        ),
        pytest.param(
            POLITE,
            state.Store({KEY: HOLDS_POLITE.held[KEY]}, HOLDS_POLITE.names),
            False,
            id="its base is away",
        ),
        pytest.param(
            RUDE,
            state.Store({KEY: HOLDS_POLITE.held[KEY]}, HOLDS_POLITE.names),
            True,
            id="its base is away, and it is another one",
        ),
        pytest.param(POLITE, holds(BASE, SUPPORT), True, id="a model of a registry"),
        pytest.param(SUPPORT, holds(SUPPORT), False, id="a model of a registry, as it should be"),
        pytest.param(SUPPORT, HOLDS_POLITE, True, id="a variant, and it should be none"),
        pytest.param(BASE, HOLDS_POLITE, False, id="the base itself"),
    ],
)
def test_what_a_pod_holds_is_told_from_what_the_spec_says(
    recipe: str | dict[str, Any], store: state.Store, differs: bool
) -> None:
    (model,) = builders.modelset(recipe).models
    assert variants.differs(model, builders.pod(store=store)) is differs


def test_in_which_order_parameters_come_says_nothing() -> None:
    both = {"top_k": 1, "seed": 2}
    store = made(entry(parameters=both), base=HOLDS_BASE)
    (model,) = builders.modelset(entry(parameters=dict(reversed(both.items())))).models
    assert not variants.differs(model, builders.pod(store=store))


@pytest.mark.parametrize("broken", [True, False])
def test_a_variant_that_cannot_be_described_has_lost_something(broken: bool) -> None:
    lost = dataclasses.replace(HOLDS_POLITE.held[KEY], facts=None, problem="no such file", broken=broken)
    store = state.Store({**HOLDS_POLITE.held, KEY: lost}, HOLDS_POLITE.names)
    (model,) = builders.modelset(POLITE).models
    assert variants.differs(model, builders.pod(store=store)) is broken


@pytest.mark.parametrize("mark", ["other:latest m:1 d h", "support:latest", "support:latest m:1 d h more"])
def test_a_mark_that_came_with_a_model_is_not_taken_for_ours(mark: str) -> None:
    held = state.Held("d", 1, state.Facts(CHAT, mark=mark))
    plain, variant = builders.modelset(SUPPORT).models[0], builders.modelset(POLITE).models[0]
    assert not variants.is_another(plain, held)
    assert variants.is_another(variant, held)
    assert variants.made_of(variant, builders.pod(store=state.Store({KEY: held}, {}))) == frozenset()


def test_a_variant_that_is_as_it_should_be_is_so_on_pods_whose_ollama_gives_it_another_digest() -> None:
    other = dataclasses.replace(HOLDS_POLITE.held[KEY], digest="another")
    stores = (HOLDS_POLITE, state.Store({**HOLDS_POLITE.held, KEY: other}, HOLDS_POLITE.names))
    pods = tuple(builders.pod(ordinal, store=store, ready=True) for ordinal, store in enumerate(stores))
    found = observed(POLITE, pods=pods, spec={"ollama": {"replicas": 2}})
    assert judged(found)[SUPPORT].ready_pods == 2
    assert decide.plan(found).pulls == ()


# --- what is done about it


def work(found: seen.Observed) -> list[str]:
    return [
        f"{'pull' if pull.recipe is None else f'make of {pull.recipe.base}'} {pull.reference}"
        for pull in decide.plan(found).pulls
    ]


@pytest.mark.parametrize(
    ("entries", "store", "expected"),
    [
        pytest.param([POLITE], NOTHING, ["pull m:1"], id="the base first"),
        pytest.param([POLITE], HOLDS_BASE, ["make of m:1 support:latest"], id="then the variant"),
        pytest.param([POLITE], HOLDS_POLITE, [], id="which is made once"),
        pytest.param([BASE, RUDE], HOLDS_POLITE, ["make of m:1 support:latest"], id="and again when edited"),
        pytest.param([{**POLITE, "from": "n:1"}], HOLDS_POLITE, ["pull n:1"], id="another base is pulled"),
        pytest.param([POLITE], holds(BASE, SUPPORT), [], id="not over a model that has the name"),
        pytest.param([SUPPORT], HOLDS_POLITE, [], id="nor that over a variant"),
        pytest.param(
            [entry("b", SUPPORT), SUPPORT], HOLDS_POLITE, [], id="nor is one made of what is no model yet"
        ),
    ],
)
def test_what_is_pulled_and_what_is_made(entries: list[Any], store: state.Store, expected: list[str]) -> None:
    assert work(observed(*entries, store=store)) == expected


def test_a_base_is_called_as_the_pod_spells_it() -> None:
    spelled = state.Store(HOLDS_BASE.held, {BASE: "M:1"})
    assert work(observed(POLITE, store=spelled)) == ["make of M:1 support:latest"]


@pytest.mark.parametrize(
    ("entries", "store", "garbage"),
    [
        pytest.param([POLITE], HOLDS_POLITE, [], id="a base that is no entry is wanted"),
        pytest.param([BASE], HOLDS_POLITE, [KEY], id="a variant taken out"),
        pytest.param(["n:1"], HOLDS_POLITE, [BASE, KEY], id="and its base with the last one"),
        pytest.param([{**POLITE, "from": "n:1"}], HOLDS_POLITE, [], id="the base of one not yet made anew"),
        pytest.param(
            [{**POLITE, "from": "n:1"}],
            made({**POLITE, "from": "n:1"}, base=holds(BASE, "n:1")),
            [BASE],
            id="and when it is",
        ),
        pytest.param([SUPPORT], HOLDS_POLITE, [BASE, KEY], id="a variant in a model's way"),
        pytest.param([POLITE], holds(BASE, SUPPORT), [KEY], id="a model in a variant's way"),
    ],
)
def test_what_is_taken_out(entries: list[Any], store: state.Store, garbage: list[str]) -> None:
    found = observed(*entries, store=store)
    assert [removal.reference for removal in decide._garbage(found, ())] == garbage


@pytest.mark.parametrize(("recipe", "loads"), [(POLITE, [KEY]), (RUDE, [])])
def test_what_is_about_to_be_made_anew_is_loaded_afterwards(recipe: dict[str, Any], loads: list[str]) -> None:
    found = observed({**recipe, "preload": True}, store=HOLDS_POLITE)
    assert [load.key for load in decide.plan(found).loads] == loads


def test_pods_hold_a_variant_and_its_base_before_they_are_ready() -> None:
    found = observed(POLITE, store=NOTHING)
    (pool,) = found.modelset.pools
    lists = ollama.config_map(found.modelset, pool, models.required(pool, found))["data"]
    paths = [references.parse(name).manifest_path for name in (BASE, SUPPORT)]
    assert lists == {"required": "".join(f"{path}\n" for path in paths)}


# --- what is told


REFUSED = state.Pull(FAILED, failures=1, message="template error: unclosed action")
HALF = state.Pull(RUNNING, fraction=0.5, moving=True)
UNKNOWN = state.Pull(FAILED, failures=1, message="file does not exist", unknown_model=True)
BEFORE = builders.told_listed(SUPPORT)


@pytest.mark.parametrize(
    ("recipe", "fields", "phase", "progress", "message"),
    [
        pytest.param(
            POLITE, {}, "Pending", "", "its base, m:1: no Ollama pod has been created yet", id="no pod"
        ),
        pytest.param(
            POLITE,
            {"store": NOTHING, "pulls": {("pod-0", BASE): HALF}},
            "Pulling",
            "50%",
            "its base, m:1: Pulling",
            id="its base is on its way",
        ),
        pytest.param(
            POLITE,
            {"store": NOTHING, "pulls": {("pod-0", BASE): UNKNOWN}},
            "Failed",
            "",
            "its base, m:1: assistants-ollama-0: file does not exist",
            id="its base is not to be had",
        ),
        pytest.param(POLITE, {"store": HOLDS_BASE}, "Creating", "", "", id="its base is there"),
        pytest.param(
            POLITE,
            {"store": HOLDS_BASE, "pulls": {("pod-0", KEY): REFUSED}},
            "Failed",
            "",
            "assistants-ollama-0: template error: unclosed action",
            id="Ollama refuses the recipe",
        ),
        pytest.param(POLITE, {"store": HOLDS_POLITE}, "Ready", "100%", "", id="it is there"),
        pytest.param(RUDE, {"store": HOLDS_POLITE}, "Creating", "", "", id="it is there as it was"),
        pytest.param(
            POLITE,
            {"store": holds(BASE, SUPPORT)},
            "Pending",
            "",
            "waiting for what had this name before to be deleted",
            id="a model is in its way",
        ),
        pytest.param(
            SUPPORT,
            {"store": HOLDS_POLITE},
            "Pending",
            "",
            "waiting for what had this name before to be deleted",
            id="a variant is in the way of a model",
        ),
        pytest.param(
            {**POLITE, "replicas": 1},
            {
                "store": HOLDS_BASE,
                "spec": {"ollama": {"resources": {"limits": {"memory": "700Ki"}}}},
            },
            "Pending",
            "",
            "needs 1Mi of memory, pods have 700Ki",
            id="it has no room",
        ),
    ],
)
def test_a_variant_is_no_further_than_its_base(
    recipe: str | dict[str, Any], fields: dict[str, Any], phase: str, progress: str, message: str
) -> None:
    (one,) = models.judge_all(observed(recipe, **fields))
    assert (one.phase, one.progress, one.message) == (phase, progress, message)


def test_a_variant_whose_base_has_no_room_says_so() -> None:
    small = {"ollama": {"resources": {"limits": {"memory": "700Ki"}}}}
    one = judged(observed(BASE, POLITE, store=HOLDS_BASE, spec=small))[SUPPORT]
    assert one.phase == "Pending"
    assert one.message == "its base, m:1, needs 1Mi of memory, pods have 700Ki"


def test_a_set_that_sleeps_has_its_variants_ready() -> None:
    told = {"models": [{"name": SUPPORT, "phase": "Ready"}]}
    asleep = {"ollama": {"autoscaling": {"minReplicas": 0, "maxReplicas": 1}}}
    (one,) = models.judge_all(observed(POLITE, told=told, spec=asleep, demanded=0))
    assert (one.phase, one.message) == ("Ready", models.ASLEEP)


def failed(name: str) -> dict[str, Any]:
    return {"observedGeneration": 1, "models": [{"name": name, "phase": "Failed", "message": "as before"}]}


@pytest.mark.parametrize(
    ("fields", "phase", "message"),
    [
        pytest.param({"store": HOLDS_BASE}, "Failed", "as before", id="its base is there"),
        pytest.param({}, "Failed", "as before", id="its base waits too"),
        pytest.param(
            {"store": NOTHING, "pulls": {("pod-0", BASE): HALF}},
            "Pulling",
            "its base, m:1: Pulling",
            id="its base is fetched anew",
        ),
    ],
)
def test_what_failed_is_told_as_such_until_it_is_tried_again(
    fields: dict[str, Any], phase: str, message: str
) -> None:
    one = judged(observed(BASE, POLITE, told=failed(SUPPORT), **fields))[SUPPORT]
    assert (one.phase, one.message) == (phase, message)


def test_what_failed_without_a_word_is_told_without_one() -> None:
    told = {"observedGeneration": 1, "models": [{"name": SUPPORT, "phase": "Failed"}]}
    (one,) = models.judge_all(observed(POLITE, told=told, store=HOLDS_BASE))
    assert (one.phase, one.message) == ("Failed", "")


@pytest.mark.parametrize(
    ("told", "pulls", "required"),
    [
        ({}, {}, {BASE, SUPPORT}),
        ({}, {("pod-0", BASE): UNKNOWN}, set()),
        (failed(SUPPORT), {}, set()),
        ({}, {("pod-0", KEY): dataclasses.replace(REFUSED, failures=3)}, {BASE}),
    ],
)
def test_a_pod_waits_for_no_variant_that_cannot_be_had(
    told: dict[str, Any], pulls: dict[tuple[str, str], state.Pull], required: set[str]
) -> None:
    found = observed(POLITE, told=told, pulls=pulls, store=NOTHING)
    (those,) = models.required(*found.modelset.pools, found).values()
    assert {model.name for model in those} == required


def test_a_variant_counts_where_it_is_as_the_spec_says() -> None:
    stores = (HOLDS_POLITE, made(RUDE, base=HOLDS_BASE))
    pods = tuple(builders.pod(ordinal, store=store, ready=True) for ordinal, store in enumerate(stores))
    found = observed(RUDE, pods=pods, spec={"ollama": {"replicas": 2}})
    (one,) = models.judge_all(found)
    assert (one.phase, one.ready_pods, one.outdated) == ("Ready", 1, ("assistants-ollama-0",))
    assert one.message == "assistants-ollama-0: not as the spec says; it is made anew"
    told = decide.told(found).status
    (leaf,) = [leaf for leaf in told["conditions"] if leaf["type"] == status.MODELS_READY]
    assert (leaf["status"], leaf["reason"]) == ("False", "VersionsDiffer")


@pytest.mark.parametrize(
    ("store", "listed"), [(HOLDS_POLITE, [KEY]), (HOLDS_BASE, [])], ids=["as it was", "not there"]
)
def test_a_variant_that_cannot_be_made_as_the_spec_says_now_goes_on_as_it_was(
    store: state.Store, listed: list[str]
) -> None:
    found = observed(RUDE, store=store, told=BEFORE, pulls={("pod-0", KEY): REFUSED})
    assert judged(found)[SUPPORT].phase == "Failed"
    assert [one["model"] for one in models.listed_entries(models.judge_all(found), found)] == listed


def test_a_base_that_is_no_entry_is_neither_served_nor_told_of() -> None:
    found = observed(POLITE, store=HOLDS_POLITE)
    assert [one["model"] for one in models.listed_entries(models.judge_all(found), found)] == [KEY]
    (told,) = decide.told(found).status["models"]
    assert (told["name"], told["from"], told["phase"]) == (SUPPORT, BASE, "Ready")


# --- where it goes, and what it takes


def with_facts(store: state.Store, **facts: Any) -> state.Store:
    held = {
        key: dataclasses.replace(
            one, facts=dataclasses.replace(one.facts, weights="w", cache_values=9, **facts)
        )
        for key, one in store.held.items()
        if one.facts is not None
    }
    return state.Store(held, store.names, store.loaded)


@pytest.mark.parametrize(
    ("store", "parameters", "like_its_base"),
    [
        (NOTHING, {}, True),
        (with_facts(HOLDS_BASE), {}, True),
        (with_facts(HOLDS_BASE), {"num_ctx": 64}, False),
        (with_facts(made(entry(), base=HOLDS_BASE)), {}, True),
        (with_facts(made(entry(), base=HOLDS_BASE), pinned_context_length=64), {}, True),
    ],
    ids=["nothing known", "not made yet", "another context", "made", "made of one with a context"],
)
def test_a_variant_takes_its_bases_runner_and_no_disk(
    store: state.Store, parameters: dict[str, Any], like_its_base: bool
) -> None:
    found = observed(BASE, entry(parameters=parameters), store=store)
    base, variant = (needs.of(model, found) for model in found.modelset.models)
    assert ((base.runner or BASE) == variant.runner) is like_its_base
    assert variant.disk == 0
    assert (variant.memory == base.memory) is like_its_base


def test_a_base_that_nobody_asks_for_takes_disk_alone() -> None:
    found = observed(POLITE, store=with_facts(HOLDS_BASE, pinned_context_length=10**9))
    (base,) = found.modelset.bases
    assert needs.of(base, found) == needs.Needs(disk=1_500_000)
    assert needs.of(base, observed(POLITE)) == needs.UNKNOWN


def test_fifty_variants_in_memory_count_as_one_model() -> None:
    family = [entry(f"v{number}", preload=True) for number in range(50)]
    found = observed({"name": BASE, "preload": True}, *family, store=with_facts(HOLDS_BASE))
    assert placement.placed(found).unmet == {}
    assert len(decide.plan(found).pulls) == 50


@pytest.mark.parametrize(
    ("entries", "kept"),
    [
        pytest.param([POLITE], [{BASE, KEY}] * 3, id="on all"),
        pytest.param([{**POLITE, "replicas": 1}], [{BASE, KEY}, set(), set()], id="with its base"),
        pytest.param(
            [{"name": BASE, "replicas": 1}, {**POLITE, "replicas": 2}],
            [{BASE, KEY}, {BASE, KEY}, set()],
            id="which goes along",
        ),
        pytest.param(
            [entry("a", "m:1", replicas=1), entry("b", "n:1", replicas=1)],
            [{"m:1", "a:latest"}, {"n:1", "b:latest"}, set()],
            id="side by side",
        ),
    ],
)
def test_a_variant_is_where_its_base_is(entries: list[Any], kept: list[set[str]]) -> None:
    found = observed(*entries, spec={"ollama": {"replicas": 3}})
    assert [set(keys) for keys in placement.placed(found).keys.values()] == kept
