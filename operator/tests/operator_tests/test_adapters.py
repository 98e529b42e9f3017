"""Variants with an adapter: what is pulled for them, when they are made, and what they take."""

import dataclasses
from typing import Any

import pytest

from modelset_operator.api import spec
from modelset_operator.engines import state
from modelset_operator.plan import decide, models, needs, placement, variants
from modelset_operator.plan import observed as seen

from . import builders, fake_ollama
from .worlds import MODELS, REGISTRY, SMOL, World

CHAT = builders.CHAT
BASE, TUNED, KEY = "m:1", "tuned:1", "support:latest"
FILE = "sha256-ad"
PLAIN = {"name": "support", "from": BASE}
SUPPORT = {**PLAIN, "adapter": TUNED}
SIZE, EXTRA = 1_500_000, 200_000


def held(name: str, *adapters: str, **fields: Any) -> state.Held:
    """Return a model of the base's weights, with these adapters."""
    facts = state.Facts(CHAT, weights=" ".join(("w", *adapters)), adapters=adapters)
    size = SIZE + EXTRA * len(adapters)
    return dataclasses.replace(state.Held(f"digest-of-{name}", size, facts, changed=1), **fields)


def store(**fields: state.Held) -> state.Store:
    """Return what a pod holds; keyword arguments are keys, with `__` for `:`."""
    entries = {key.replace("__", ":"): one for key, one in fields.items()}
    return state.Store(entries, {key: key for key in entries})


HOLDS_BASE = store(m__1=held(BASE))
HOLDS_BOTH = store(m__1=held(BASE), tuned__1=held(TUNED, FILE))


def made(entry: dict[str, Any], base: state.Store = HOLDS_BOTH) -> state.Store:
    """Return what a pod holds that has made a variant of what it held."""
    (model,) = builders.modelset(entry).models
    recipe = variants.recipe(model, builders.pod(store=base))
    assert recipe is not None
    facts = state.Facts(CHAT, weights="w ad", adapters=(FILE,), mark=recipe.mark)
    held = {**base.held, KEY: state.Held("made", SIZE + EXTRA, facts, changed=9)}
    return state.Store(held, {key: key for key in held})


def with_tuned(found: state.Store, tuned: state.Held) -> state.Store:
    return state.Store({**found.held, TUNED: tuned}, found.names)


MADE = made(SUPPORT)


def look(*entries: Any, stores: tuple[state.Store, ...] = (HOLDS_BOTH,), **fields: Any) -> seen.Observed:
    pods = tuple(builders.pod(ordinal, store=one, ready=True) for ordinal, one in enumerate(stores))
    ollama = {"replicas": len(stores), **fields.pop("ollama", {})}
    return builders.observed(builders.resource(*entries, ollama=ollama), pods=pods, **fields)


# --- which models there are


def test_an_adapter_is_pulled_from_the_sets_registry_and_not_served() -> None:
    modelset = builders.modelset(SUPPORT, registry=REGISTRY)
    assert [str(model.reference) for model in modelset.models] == [KEY]
    assert {str(one.reference): (one.served_names, one.source.insecure) for one in modelset.bases} == {
        "models.example:5000/library/m:1": ((), True),
        "models.example:5000/library/tuned:1": ((), True),
    }


def test_an_adapter_that_is_an_entry_too_is_served() -> None:
    modelset = builders.modelset(BASE, TUNED, SUPPORT)
    assert modelset.bases == ()
    assert [model.served_names for model in modelset.models] == [(BASE,), (TUNED,), ("support",)]


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        ([{**PLAIN, "adapter": "support:latest"}], "adapter of support names itself"),
        (
            [PLAIN, {"name": "b", "from": BASE, "adapter": "support"}],
            "adapter of b names support, which is a variant itself",
        ),
        ([{"name": "b", "from": "m", "adapter": "M:latest"}], "adapter of b names the base"),
        ([{**PLAIN, "adapter": "x:y:z"}], "'x:y:z' is not a model reference"),
    ],
)
def test_nonsense_names_the_field(entries: list[Any], problem: str) -> None:
    with pytest.raises(spec.SpecError, match=f"spec.models: .*{problem}"):
        builders.modelset(*entries)


# --- what is made, and when


def work(found: seen.Observed) -> list[str]:
    return [
        f"{'pull' if pull.recipe is None else f'make with {pull.recipe.adapter}'} {pull.reference}"
        for pull in decide.plan(found).pulls
    ]


UNKNOWN = held(TUNED, facts=None)


@pytest.mark.parametrize(
    ("entry", "held", "expected"),
    [
        pytest.param(SUPPORT, HOLDS_BASE, [f"pull {TUNED}"], id="its adapter is pulled first"),
        pytest.param(SUPPORT, with_tuned(HOLDS_BASE, UNKNOWN), [], id="and described"),
        pytest.param(SUPPORT, HOLDS_BOTH, [f"make with {FILE} {KEY}"], id="then it is made"),
        pytest.param(SUPPORT, MADE, [], id="once"),
        pytest.param(SUPPORT, with_tuned(MADE, UNKNOWN), [], id="and let alone while nothing is known"),
        pytest.param(SUPPORT, made(PLAIN), [f"make with {FILE} {KEY}"], id="one that had no adapter"),
        pytest.param(PLAIN, MADE, [f"make with  {KEY}"], id="one that is to have none"),
        pytest.param(
            SUPPORT,
            with_tuned(MADE, held(TUNED, "sha256-other")),
            [f"make with sha256-other {KEY}"],
            id="its adapter has moved",
        ),
        pytest.param(
            SUPPORT,
            with_tuned(MADE, held(TUNED, FILE, digest="pushed again")),
            [],
            id="its adapter was pushed again",
        ),
        pytest.param({**PLAIN, "adapter": "n:1"}, MADE, ["pull n:1"], id="another adapter"),
        pytest.param(SUPPORT, with_tuned(MADE, held(TUNED)), [], id="none, any more"),
    ],
)
def test_what_is_pulled_and_what_is_made(
    entry: dict[str, Any], held: state.Store, expected: list[str]
) -> None:
    assert work(look(entry, stores=(held,))) == expected


@pytest.mark.parametrize(
    ("entry", "garbage"),
    [
        (SUPPORT, []),
        (PLAIN, []),
        ({**PLAIN, "adapter": "n:1"}, []),
        (BASE, [KEY, TUNED]),
    ],
    ids=["wanted", "until it is made anew without it", "or with another one", "nobody's"],
)
def test_an_adapter_stays_as_long_as_a_variant_has_it(entry: Any, garbage: list[str]) -> None:
    found = look(entry, stores=(MADE,))
    assert [removal.reference for removal in decide._garbage(found, ())] == garbage


def test_a_variant_that_is_to_be_in_memory_is_loaded_again_with_another_adapter() -> None:
    before, after = (
        decide.plan(look({**SUPPORT, "preload": True}, stores=(made(SUPPORT, base),))).loads
        for base in (HOLDS_BOTH, with_tuned(HOLDS_BOTH, held(TUNED, "sha256-other", digest="moved")))
    )
    assert before[0].version != after[0].version


# --- what is told

HALF = state.Pull(state.PullPhase.RUNNING, fraction=0.5, moving=True)
GONE = state.Pull(state.PullPhase.FAILED, failures=1, message="file does not exist", unknown_model=True)
INSTEAD = "set adapter to a model that was made with FROM and one ADAPTER in its Modelfile"
NONE = f"its adapter, tuned:1, has no adapter layers: {INSTEAD}"


@pytest.mark.parametrize(
    ("held", "pulls", "phase", "progress", "message"),
    [
        pytest.param(
            HOLDS_BASE,
            {("pod-0", TUNED): HALF},
            "Pulling",
            "50%",
            "its adapter, tuned:1: Pulling",
            id="on its way",
        ),
        pytest.param(
            HOLDS_BASE,
            {("pod-0", TUNED): GONE},
            "Failed",
            "",
            "its adapter, tuned:1: assistants-ollama-0: file does not exist",
            id="not to be had",
        ),
        pytest.param(with_tuned(HOLDS_BASE, held(TUNED)), {}, "Failed", "", NONE, id="no adapter"),
        pytest.param(with_tuned(MADE, held(TUNED)), {}, "Failed", "", NONE, id="no adapter any more"),
        pytest.param(
            with_tuned(HOLDS_BASE, held(TUNED, "sha256-a", "sha256-b")),
            {},
            "Failed",
            "",
            NONE.replace("no adapter layers", "2 adapter layers"),
            id="two adapters",
        ),
        pytest.param(
            with_tuned(HOLDS_BASE, held(TUNED, facts=None, problem="not found", broken=True)),
            {},
            "Failed",
            "",
            f"its adapter, tuned:1, cannot be read (not found): {INSTEAD}",
            id="one without weights",
        ),
        pytest.param(with_tuned(HOLDS_BASE, UNKNOWN), {}, "Creating", "", "", id="not described yet"),
        pytest.param(HOLDS_BOTH, {}, "Creating", "", "", id="there"),
        pytest.param(MADE, {}, "Ready", "100%", "", id="made"),
    ],
)
def test_a_variant_is_no_further_than_its_adapter(
    held: state.Store, pulls: dict[tuple[str, str], state.Pull], phase: str, progress: str, message: str
) -> None:
    (one,) = models.judge_all(look(SUPPORT, stores=(held,), pulls=pulls))
    assert (one.phase, one.progress) == (phase, progress)
    assert one.message.endswith(message)
    assert bool(one.message) == bool(message)


@pytest.mark.parametrize(
    ("held", "pulls", "required"),
    [
        (HOLDS_BASE, {}, {BASE, TUNED, "support"}),
        (HOLDS_BASE, {("pod-0", TUNED): GONE}, {BASE}),
        (with_tuned(HOLDS_BASE, held(TUNED)), {}, {BASE, TUNED}),
    ],
)
def test_a_pod_waits_for_no_variant_whose_adapter_is_not_to_be_had(
    held: state.Store, pulls: dict[tuple[str, str], state.Pull], required: set[str]
) -> None:
    found = look(SUPPORT, stores=(held,), pulls=pulls)
    (those,) = models.required(*found.modelset.pools, found).values()
    assert {model.name for model in those} == required


# --- where it goes, and what it takes


@pytest.mark.parametrize(
    ("entries", "kept"),
    [
        pytest.param([{**SUPPORT, "replicas": 1}], [{BASE, TUNED, KEY}, set(), set()], id="with its variant"),
        pytest.param(
            [BASE, {**SUPPORT, "replicas": 1}], [{BASE, TUNED, KEY}, {BASE}, {BASE}], id="and nowhere else"
        ),
        pytest.param(
            [
                {"name": "a", "from": "m:1", "adapter": TUNED, "replicas": 1},
                {"name": "b", "from": "n:1", "adapter": TUNED, "replicas": 1},
            ],
            [{"m:1", "a:latest", TUNED}, {"n:1", "b:latest", TUNED}, set()],
            id="with each of them",
        ),
        pytest.param(
            [{"name": TUNED, "replicas": 2}, {**SUPPORT, "replicas": 1}],
            [{BASE, TUNED, KEY}, {TUNED}, {TUNED}],
            id="and as an entry says",
        ),
    ],
)
def test_an_adapter_is_where_its_variants_are(entries: list[Any], kept: list[set[str]]) -> None:
    empty = store()
    found = look(*entries, stores=(empty, empty, empty))
    assert [set(keys) for keys in placement.placed(found).keys.values()] == kept


@pytest.mark.parametrize("found", [HOLDS_BOTH, MADE], ids=["not made yet", "made"])
def test_it_has_a_runner_of_its_own_and_takes_the_disk_of_its_adapter_alone(found: state.Store) -> None:
    looked = look(BASE, PLAIN | {"name": "plain"}, SUPPORT, stores=(found,))
    base, plain, support = (needs.of(model, looked) for model in looked.modelset.models)
    assert base.runner == plain.runner != support.runner
    assert support.runner.startswith(f"w {FILE}") or support.runner.startswith("w ad")
    assert base.memory == SIZE
    assert (support.memory, support.disk) == (SIZE + EXTRA, 0)
    (tuned,) = looked.modelset.bases
    assert needs.of(tuned, looked).disk == EXTRA


def test_an_adapter_of_other_weights_takes_all_of_its_disk() -> None:
    other = held(TUNED, FILE, facts=state.Facts(CHAT, weights=f"another {FILE}", adapters=(FILE,)))
    looked = look(SUPPORT, stores=(with_tuned(HOLDS_BASE, other),))
    sizes = {model.name: needs.of(model, looked).disk for model in looked.modelset.bases}
    assert sizes == {BASE: SIZE, TUNED: SIZE + EXTRA}


def test_an_adapter_smaller_than_the_weights_that_it_shares_takes_nothing() -> None:
    assert variants.adds(held(BASE), held(TUNED, FILE, size=SIZE - 1)) == 0


def test_what_a_variant_will_be_is_known_before_it_is_made() -> None:
    (model,) = builders.modelset(SUPPORT).models
    expected = variants.expected(model, held(BASE), held(TUNED, FILE))
    assert expected is not None
    assert expected.facts == state.Facts(CHAT, weights=f"w {FILE}", adapters=(FILE,))
    assert (expected.size, expected.digest) == (SIZE + EXTRA, f"digest-of-{BASE}")


def test_an_adapter_of_weights_that_are_not_known_takes_all_of_its_disk() -> None:
    unknown = state.Facts(CHAT)
    assert variants.adds(held(BASE, facts=unknown), held(TUNED, FILE, facts=unknown)) == SIZE + EXTRA


def test_a_variant_is_made_of_its_base_and_its_adapter_and_nothing_else() -> None:
    (model,) = builders.modelset(SUPPORT).models
    assert variants.made_of(model, builders.pod(store=MADE)) == {BASE, TUNED}
    (model,) = builders.modelset(PLAIN).models
    assert variants.made_of(model, builders.pod(store=made(PLAIN))) == {BASE}


def test_until_its_adapter_is_known_a_variant_counts_as_a_model_of_its_own() -> None:
    looked = look(BASE, SUPPORT, stores=(HOLDS_BASE,))
    _, support = (needs.of(model, looked) for model in looked.modelset.models)
    assert (support.runner, support.memory) == (KEY, SIZE)


def test_a_variant_whose_adapter_does_not_fit_on_the_disk_says_so() -> None:
    # The base fits, and is known; of the adapter it is known from the other pod what it takes.
    small = {"storage": {"size": str(SIZE + EXTRA // 2)}}
    found = look(SUPPORT, stores=(HOLDS_BASE, with_tuned(store(), held(TUNED, FILE))), ollama=small)
    assert "of disk" in placement.placed(found).unmet[KEY]


# --- a whole set


async def test_a_set_gets_a_variant_with_an_adapter_and_follows_it_without_a_restart(world: World) -> None:
    await world.to_ready()
    library = "models.example:5000/library"
    one, two, plain = (f"{library}/{name}" for name in (TUNED, "tuned:2", "plain:1"))
    world.fleet.registry[one] = fake_ollama.Published(adapters=("sha256-one",))
    world.fleet.registry[two] = fake_ollama.Published(adapters=("sha256-two",))
    world.fleet.registry[plain] = fake_ollama.Published()
    server = world.fleet.servers["10.0.0.1"]

    async def edit(adapter: str, phase: str) -> None:
        variant = {"name": "support", "from": "smollm2:135m"}
        world.edit(*MODELS, {**variant, "adapter": adapter} if adapter else variant)
        await world.until(lambda: world.phases().get("support") == phase)

    await edit(TUNED, "Ready")
    assert server.held[KEY].adapters == ("sha256-one",)
    await edit("plain:1", "Failed")
    assert server.held[KEY].adapters == ("sha256-one",)
    assert [one["message"] for one in world.api.events if one["reason"] == "CreateFailed"] == [
        f"support: its adapter, plain:1, has no adapter layers: {INSTEAD}"
    ]
    await edit("tuned:2", "Ready")
    assert server.held[KEY].adapters == ("sha256-two",)
    world.run_kuberay()
    await world.reconcile()
    world.now[0] += 30
    await world.reconcile()
    await world.until(lambda: not {one, plain} & server.held.keys())
    assert {two, KEY, SMOL} <= server.held.keys()
    # Without one it needs nobody's files, and once it is made nothing else would be a reason to look again.
    await edit("", "Ready")
    await world.until(lambda: two not in server.held)
    assert [write for write in world.api.writes if "StatefulSet" in write] == [
        "apply StatefulSet/assistants-ollama"
    ]
