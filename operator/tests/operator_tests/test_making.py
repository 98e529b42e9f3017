"""Variants in whole reconciles: made once their base is there, made anew when edited, and taken out."""

from typing import Any

from .worlds import MINI, MODELS, SMOL, World

SUPPORT = "support:latest"
POLITE = {"name": "support", "from": "smollm2:135m", "system": "Be polite."}
RUDE = {**POLITE, "system": "Be rude."}
IP = "10.0.0.1"


def asked(world: World, what: str = "/api/") -> list[str]:
    """Return what changes were asked of the pod."""
    told = [request for request in world.fleet.servers[IP].requests if request.startswith(what)]
    return [request for request in told if not request.startswith("/api/show")]


async def with_variant(world: World, **fields: Any) -> None:
    """Have a set that serves get a variant."""
    await world.to_ready()
    world.fleet.servers[IP].requests.clear()
    world.edit(*MODELS, {**POLITE, **fields})
    await world.until(lambda: world.phases().get("support") == "Ready")
    world.run_kuberay()
    await world.reconcile()


async def rest(world: World) -> None:
    """Have the proxy take over what was applied, and what was taken out go."""
    world.run_kuberay()
    await world.reconcile()
    world.now[0] += 30
    await world.reconcile()


async def test_a_variant_of_a_base_that_is_there_is_made_and_listed_and_nothing_is_pulled(
    world: World,
) -> None:
    await with_variant(world)
    assert asked(world) == [f"/api/create {SUPPORT}"]
    assert world.listed() == [MINI, SMOL, SUPPORT]
    (told,) = [one for one in world.status["models"] if one["name"] == "support"]
    assert (told["from"], told["readyReplicas"], told["capabilities"]) == (
        "smollm2:135m",
        "1/1",
        ["completion"],
    )
    assert "created support from smollm2:135m" in [event["message"] for event in world.api.events]
    assert [write for write in world.api.writes if "StatefulSet" in write] == [
        "apply StatefulSet/assistants-ollama"
    ]


async def test_a_base_that_is_no_entry_is_pulled_for_its_variant_and_not_listed(world: World) -> None:
    world.edit(POLITE)
    await world.reconcile()
    world.start_pod()
    world.run_kuberay()
    await world.reconcile()
    await world.until_pulled(SMOL, SUPPORT)
    await world.until_ready("assistants-ollama-0")
    assert asked(world) == [f"/api/pull {SMOL}", f"/api/create {SUPPORT}"]
    assert world.listed() == [SUPPORT]
    assert world.phases() == {"support": "Ready"}


async def test_a_variant_that_is_edited_is_made_anew_and_served_meanwhile(world: World) -> None:
    await with_variant(world)
    before = world.fleet.servers[IP].held[SUPPORT].recipe
    world.edit(*MODELS, RUDE)
    await world.reconcile()
    assert world.phases()["support"] == "Creating"
    assert world.listed() == [MINI, SMOL, SUPPORT]
    await world.until(lambda: world.phases()["support"] == "Ready")
    assert world.fleet.servers[IP].held[SUPPORT].recipe != before
    assert asked(world) == [f"/api/create {SUPPORT}"] * 2


async def test_a_variant_is_made_anew_when_its_base_has_moved(world: World) -> None:
    await with_variant(world)
    server = world.fleet.servers[IP]
    server.held[SMOL] = world.fleet.registry[SMOL] = type(server.held[SMOL])(pushed=5)
    await world.until(lambda: asked(world) == [f"/api/create {SUPPORT}"] * 2)
    await world.until(lambda: world.phases()["support"] == "Ready")


async def test_an_operator_that_starts_makes_nothing_anew(world: World) -> None:
    await with_variant(world)
    await world.reconcile(2)
    world.restart_operator()
    world.api.writes.clear()
    await world.reconcile(3)
    assert asked(world) == [f"/api/create {SUPPORT}"]
    assert world.api.writes == []


async def test_an_operator_that_starts_makes_anew_what_was_edited_meanwhile(world: World) -> None:
    await with_variant(world)
    world.edit(*MODELS, RUDE)
    world.restart_operator()
    await world.until(lambda: asked(world) == [f"/api/create {SUPPORT}"] * 2)


async def test_a_variant_that_is_taken_out_goes_and_its_base_stays(world: World) -> None:
    await with_variant(world)
    world.edit(*MODELS)
    await world.reconcile()
    assert world.listed() == [MINI, SMOL]
    assert SUPPORT in world.fleet.servers[IP].held
    await rest(world)
    await world.until(lambda: set(world.fleet.servers[IP].held) == {SMOL, MINI})


async def test_a_base_stays_while_a_variant_of_it_is_there_and_goes_with_the_last(world: World) -> None:
    await with_variant(world)
    world.edit(MODELS[1], POLITE)
    await world.reconcile()
    await rest(world)
    assert set(world.fleet.servers[IP].held) == {SMOL, MINI, SUPPORT}
    assert world.listed() == [MINI, SUPPORT]
    world.edit(MODELS[1])
    await world.reconcile()
    await rest(world)
    await world.until(lambda: set(world.fleet.servers[IP].held) == {MINI})


async def test_a_name_that_was_a_variants_is_a_models_once_the_variant_is_gone(world: World) -> None:
    world.fleet.registry[SUPPORT] = world.fleet.registry[SMOL]
    await world.to_ready()
    world.edit(*MODELS, POLITE)
    await world.until(lambda: world.phases().get("support") == "Ready")
    world.fleet.servers[IP].requests.clear()
    # It names the host, so that it is the very name that the variant has.
    world.edit(*MODELS, {"name": "registry.ollama.ai/library/support", "servedNames": ["support"]})
    await world.reconcile()
    await rest(world)
    await world.until(lambda: asked(world) == [f"/api/delete {SUPPORT}", f"/api/pull {SUPPORT}"])
    await world.until(lambda: set(world.phases().values()) == {"Ready"})


async def test_a_recipe_that_ollama_refuses_is_told_and_the_variant_goes_on_as_it_was(world: World) -> None:
    await with_variant(world)
    world.edit(*MODELS, {**POLITE, "template": "{{"})
    await world.until(lambda: world.phases()["support"] == "Failed")
    assert world.listed() == [MINI, SMOL, SUPPORT]
    (event,) = [event for event in world.api.events if event["reason"] == "CreateFailed"]
    assert event["message"].startswith("support: assistants-ollama-0: template error")
    assert world.condition("ModelsReady") == "False"
