"""Variants of one base: other words around the same weights, one place in memory, the same slots."""

import asyncio
from typing import Any

import pytest

from modelset_proxy.dispatch import facts, memory, variants
from modelset_proxy.engines import port
from modelset_proxy.engines.ollama import answers, weights
from modelset_proxy.engines.ollama import engine as ollama_engine
from serve_app.tests import asking, fake_ollama, running
from serve_app.tests.dispatch.bench import Bench

VARIANTS = tuple(f"v{number:02}" for number in range(50))


def _report(bench: Bench, *loaded: str, held: tuple[str, ...] = VARIANTS, **leads: str) -> facts.Report:
    return facts.Report(
        bench.now, frozenset(held), dict.fromkeys(loaded, 0), leads or dict.fromkeys(held, held[0])
    )


def _bench(*loaded: str, **limits: Any) -> Bench:
    bench = Bench({"s1": ""}, **limits)
    bench.look(s1=_report(bench, *loaded))
    return bench


def test_fifty_variants_in_turn_are_one_load() -> None:
    bench = _bench(max_loaded_per_server=1)
    loads = 0
    for variant in VARIANTS * 2:
        request, _ = bench.ask(variant)
        loads += bench.core._state.copies(variant)[0].loading
        bench.end(request)
        bench.now += 1
        bench.look(s1=_report(bench, VARIANTS[0]))
    assert loads == 1


def test_variants_share_slots() -> None:
    bench = _bench(max_in_flight_per_server=4)
    for variant in VARIANTS:
        bench.arrive(variant)
    assert len(bench.starts()) == 4
    assert bench.core.wants() == {("s1", "v00"): (4, 50)}


def test_demand_is_told_of_each_variant() -> None:
    bench = _bench()
    bench.ask("v01")
    bench.arrive("v02")
    demand = bench.core.demand(bench.now)
    assert (demand["v01"].in_flight, demand["v01"].queued) == (1, 0)
    assert (demand["v02"].in_flight, demand["v02"].queued) == (0, 1)


def test_whichever_variant_loaded_it_the_copy_is_known() -> None:
    bench = _bench("v07", max_loaded_per_server=1)
    assert [copy.model for copy in bench.core._state.copies("v31")] == ["v00"]
    assert bench.ask("v31")[1] == "s1"


def test_a_copy_is_not_let_go_while_somebody_waits_for_a_variant_of_it() -> None:
    bench = Bench({"s1": ""}, max_loaded_per_server=1)
    held = ("a", "b", "c")
    bench.look(s1=_report(bench, "a", held=held, a="a", b="a"))
    running, _ = bench.ask("a")
    bench.arrive("c")
    bench.arrive("b")
    bench.now += 20
    bench.end(running)
    assert [(one.request.model, type(one)) for one in bench.decide()] == [("b", facts.Start)]


def test_what_runs_at_any_copy_counts_once_they_are_one() -> None:
    bench = Bench({"s1": "ab"})
    bench.ask("b")
    bench.look(s1=_report(bench, "a", held=("a", "b"), a="a", b="a"))
    bench.arrive("a")
    assert bench.decide() == []


def test_what_one_variant_took_is_known_of_the_others() -> None:
    bench = _bench()
    request, _ = bench.ask("v01")
    bench.end(request, port.Outcome(load_seconds=9.0))
    assert bench.core._state.lane("v02").known.load_seconds("s1") == 9.0


def test_what_one_took_is_known_of_those_that_turn_out_to_be_its_variants() -> None:
    bench = Bench({"s1": "ab"})
    requests = {model: bench.ask(model)[0] for model in "ab"}
    bench.end(requests["a"], port.Outcome(load_seconds=9.0))
    bench.look(s1=_report(bench, "a", held=("a", "b"), a="a", b="a"))
    assert bench.core._state.lane("b").known.load_seconds("s1") == 9.0


def test_models_that_turn_out_to_be_variants_become_one_with_what_runs_there() -> None:
    bench = Bench({"s1": "ab"}, max_in_flight_per_server=2)
    first, second = bench.ask("a")[0], bench.ask("b")[0]
    bench.now += 1
    bench.look(s1=_report(bench, "a", held=("a", "b"), a="a", b="a"))
    assert bench.core.wants() == {("s1", "a"): (2, 2)}
    waiting = bench.arrive("b")
    assert bench.starts() == []
    bench.end(first)
    assert bench.starts() == [(waiting.id, "s1")]
    bench.end(second)
    bench.end(waiting)
    assert bench.core._state.copies("b")[0].running == 0


def test_what_one_copy_takes_over_of_another_is_all_there_is() -> None:
    server = memory.Server("s1")
    one, other = (
        memory.Copy("a", server, size=1, asked=asked, ready=ready)
        for asked, ready in ((1.0, 9.0), (2.0, 8.0))
    )
    for copy, heard in ((one, 3.0), (other, 4.0)):
        copy.running, copy.unread_tokens, copy.heard = 1, 10.0, heard
        copy.slots = [memory.Slot()]
    slots = [*one.slots, *other.slots]
    one.take_over(other)
    assert (one.running, one.unread_tokens, one.slots) == (2, 20.0, slots)
    assert (one.asked, one.heard, one.ready, one.loading) == (2.0, 4.0, 8.0, True)
    one.ahead, other.loading = "a", False
    one.take_over(other)
    assert (one.loading, one.ahead) == (False, "")


def test_a_copy_goes_on_under_the_name_of_its_new_lead() -> None:
    bench = Bench({"s1": "b"}, max_in_flight_per_server=1)
    request, _ = bench.ask("b")
    bench.now += 1
    bench.look(s1=_report(bench, "b", held=("a", "b"), a="a", b="a"))
    assert set(bench.core._state.servers["s1"].copies) == {"a"}
    bench.arrive("a")
    assert bench.starts() == []
    bench.end(request)
    assert len(bench.starts()) == 1


def test_all_copies_go_on_under_the_name_of_a_lead_that_had_none() -> None:
    bench = Bench({"s1": "bc"})
    for model in "bc":
        bench.ask(model)
    bench.look(s1=_report(bench, "a", held=("a", "b", "c"), a="a", b="a", c="a"))
    assert [(copy.model, copy.running) for copy in bench.core._state.copies("c")] == [("a", 2)]
    assert set(bench.core._state.servers["s1"].copies) == {"a"}


# --- runners of one file, of which a server has one at a time


def _rivals(bench: Bench, *loaded: str) -> None:
    """Have a look find that `a` and `b` are runners of one file, and `c` and `d` of others."""
    files = {"a": "w", "b": "w", "c": "x", "d": "y"}
    report = facts.Report(bench.now, frozenset("abcd"), dict.fromkeys(loaded, 0), files=files)
    bench.look(s1=report)


def _decisions(bench: Bench) -> list[str]:
    return [
        f"start {one.request.model}" if isinstance(one, facts.Start) else f"unload {one.model}"
        for one in bench.decide()
        if isinstance(one, facts.Start | facts.Unload)
    ]


def test_a_runner_of_the_same_file_takes_the_others_place_though_there_is_room() -> None:
    bench = Bench({"s1": "ac"}, max_loaded_per_server=3)
    _rivals(bench, "a", "c")
    bench.arrive("b")
    # Told to let go of one, Ollama would let go of whichever runs.
    assert _decisions(bench) == ["start b"]
    assert sorted(bench.core._state.servers["s1"].copies) == ["b", "c"]


def test_it_waits_until_the_other_one_is_idle_and_others_do_not_wait_for_it() -> None:
    bench = Bench({"s1": "a"}, max_loaded_per_server=3)
    _rivals(bench, "a")
    running, _ = bench.ask("a")
    bench.arrive("b")
    other = bench.arrive("c")
    assert _decisions(bench) == ["start c"]
    bench.now += 20
    bench.end(other)
    assert _decisions(bench) == []
    bench.end(running)
    assert _decisions(bench) == ["start b"]


def test_what_is_in_use_for_too_long_gives_way_and_nothing_else_does() -> None:
    bench = Bench({"s1": "ac"}, max_loaded_per_server=3, max_in_flight_per_server=2, switch_seconds=5)
    _rivals(bench, "a", "c")
    running, _ = bench.ask("a")
    bench.ask("c")
    bench.arrive("b")
    bench.now += 6
    assert _decisions(bench) == []
    bench.arrive("a")
    bench.arrive("c")
    assert _decisions(bench) == ["start c"]
    bench.end(running)
    assert _decisions(bench) == ["start b"]


def test_it_makes_room_besides_where_there_is_none() -> None:
    bench = Bench({"s1": "acd"}, max_loaded_per_server=2)
    _rivals(bench, "a", "c", "d")
    bench.arrive("b")
    assert sorted(_decisions(bench)) == ["start b", "unload c"]


def test_what_another_proxy_uses_is_not_taken_the_place_of() -> None:
    bench = Bench({"s1": ""}, max_loaded_per_server=3)
    _rivals(bench)
    bench.core.others(facts.Memory(frozenset({("s1", "a")}), frozenset(), {}))
    bench.arrive("b")
    bench.arrive("c")
    assert _decisions(bench) == ["start c"]


def test_variants_of_one_place_do_not_exclude_each_other() -> None:
    bench = Bench({"s1": "a"}, max_loaded_per_server=3, max_in_flight_per_server=2)
    files = dict.fromkeys("ab", "w")
    leads = dict.fromkeys("ab", "a")
    bench.look(s1=facts.Report(bench.now, frozenset("ab"), {"a": 0}, leads=leads, files=files))
    bench.ask("a")
    assert bench.ask("b")[1] == "s1"


def test_a_silent_copy_is_watched_whichever_variant_is_waited_for() -> None:
    bench = _bench("v00")
    bench.ask("v09")
    bench.now += 4
    [tried] = bench.core.check(bench.now, {("s1", "v09"): True})
    assert tried == facts.Try("v00", "s1", whole=False)


def _held(shared: str, changed: int = 0, length: int = 0) -> port.Held:
    return port.Held("", weights=shared, changed=changed, context_length=length)


@pytest.mark.parametrize(
    ("held", "pinned", "leads"),
    [
        ({"a": _held("w"), "b": _held("w")}, {"a": None, "b": None}, {"a": "a", "b": "a"}),
        ({"a": _held("w", 2), "b": _held("w", 1)}, {"a": None, "b": None}, {"a": "b", "b": "b"}),
        ({"a": _held("w"), "b": _held("v")}, {"a": None, "b": None}, {}),
        ({"a": _held(""), "b": _held("")}, {"a": None, "b": None}, {}),
        ({"a": _held("w"), "b": _held("w")}, {"a": 4096, "b": 8192}, {}),
        ({"a": _held("w", length=1), "b": _held("w", length=2)}, {"a": None, "b": None}, {}),
        ({"a": _held("w", length=1), "b": _held("w", length=2)}, {"a": 4, "b": 4}, {"a": "a", "b": "a"}),
        # The base is held because of its variants, and not served itself.
        ({"a": _held("w"), "b": _held("w")}, {"b": None}, {"a": "b", "b": "b"}),
        ({"a": _held("w"), "b": _held("w")}, {}, {}),
    ],
)
def test_who_shares_a_place_and_who_stands_for_all(
    held: dict[str, port.Held], pinned: dict[str, int | None], leads: dict[str, str]
) -> None:
    assert variants.leads(held, pinned) == leads


FILES = "FROM /models/blobs/sha256-aa\n"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ((FILES, ""), ("FROM /elsewhere/sha256-aa\n", ""), True),
        ((FILES, ""), (FILES + 'SYSTEM """\nADAPTER /models/blobs/sha256-bb\n"""', ""), True),
        ((FILES, "temperature 0.2"), (FILES, 'stop "num_batch 1"'), True),
        ((FILES, ""), ("FROM /models/blobs/sha256-ab\n", ""), False),
        ((FILES, ""), (FILES + "ADAPTER /models/blobs/sha256-bb\n", ""), False),
        ((FILES, ""), (FILES + "FROM /models/blobs/sha256-bb\n", ""), False),
        ((FILES, "num_batch      8"), (FILES, "num_batch      16"), False),
        ((FILES, "num_ctx        8"), (FILES, "num_ctx        16"), True),
    ],
)
def test_what_a_runner_is_kept_by(one: tuple[str, str], other: tuple[str, str], same: bool) -> None:
    first, second = (
        weights.runner(answers.Show(modelfile=f"# FROM x\n\n{files}", parameters=parameters))
        for files, parameters in (one, other)
    )
    assert first.weights
    assert (first.weights == second.weights) is same


@pytest.mark.parametrize(
    ("files", "parameters", "same"),
    [
        (FILES + "ADAPTER /models/blobs/sha256-bb\n", "", True),
        (FILES, "num_batch      8", True),
        ("FROM /models/blobs/sha256-ab\n", "", False),
    ],
)
def test_in_whose_place_a_runner_comes(files: str, parameters: str, same: bool) -> None:
    one, other = (
        weights.runner(answers.Show(modelfile=modelfile, parameters=told))
        for modelfile, told in ((FILES, ""), (files, parameters))
    )
    assert one.file
    assert (one.file == other.file) is same


@pytest.mark.parametrize("option", ["num_batch", "num_gpu", "main_gpu", "use_mmap", "num_thread"])
def test_what_runners_are_started_with_keeps_them_apart(option: str) -> None:
    one, other = (
        weights.runner(answers.Show(modelfile=FILES, parameters=f"{option} {value}")).weights
        for value in "01"
    )
    assert one != other


def test_the_length_of_context_that_a_model_brings_is_read() -> None:
    assert weights.runner(answers.Show(modelfile=FILES, parameters="num_ctx     8192")).context_length == 8192


@pytest.mark.parametrize("modelfile", ["", "FROM \n", "FROM llama3\n", "TEMPLATE x\nFROM /a/sha256-aa"])
def test_what_has_no_file_of_weights_shares_with_none(modelfile: str) -> None:
    assert weights.runner(answers.Show(modelfile=modelfile)) == weights.Runner()


CONFIG: dict[str, Any] = {
    "models": [
        {"model": name, "servedNames": [name], "type": "Chat", "created": 1}
        for name in ("base:1", "pirate:1")
    ],
    "limits": {"maxInFlightPerServer": 2, "maxLoadedPerServer": 1},
}


async def test_variants_at_ollama_run_side_by_side_in_the_slots_of_one_runner() -> None:
    ollama = fake_ollama.FakeOllama({"base:1": ["completion"], "pirate:1": ["completion"]})
    ollama.bases = {"pirate:1": "base:1"}
    gate = asyncio.Event()
    ollama.chat = [gate, *fake_ollama.answer("one")]
    async with (
        fake_ollama.running(ollama),
        running.proxied(ollama.url, user_config=CONFIG) as (session, built),
    ):
        servers = built.dispatch.core._state.servers
        await asking.until(lambda: bool(servers[ollama.url].leads), built)
        requests = [
            asyncio.create_task(asking.ask(session, model=model)) for model in ("base:1", "pirate:1") * 2
        ]
        await asking.until(lambda: len(ollama.sent("/api/chat")) == 2, built)
        await asking.until(
            lambda: sum(waiting for _, waiting in built.dispatch.counts().values()) == 2, built
        )
        gate.set()
        assert [status for status, _ in await asyncio.gather(*requests)] == [200] * 4
    assert ollama.loads == 1
    assert [body for _, body in ollama.answered if body.get("keep_alive") == 0] == []


async def test_the_first_look_tells_what_shares_a_runner_and_each_is_asked_about_once() -> None:
    server = fake_ollama.FakeOllama({"base:1": ["completion"], "pirate:1": ["completion"]})
    server.bases = {"pirate:1": "base:1"}
    engine = ollama_engine.Ollama()
    await engine.start()
    async with fake_ollama.running(server):
        first = await engine.look(server.url)
        assert len({held.weights for held in first.held.values()} - {""}) == 1
        await engine.look(server.url)
        await engine.close()
    assert len(server.sent("/api/show")) == 2


async def test_a_variant_that_is_made_anew_shares_what_it_shared_until_it_has_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its request would else have what its base has in memory give way to it."""
    server = fake_ollama.FakeOllama({"base:1": ["completion"], "pirate:1": ["completion"]})
    server.bases = {"pirate:1": "base:1"}
    engine = ollama_engine.Ollama()
    await engine.start()
    async with fake_ollama.running(server):
        await engine.look(server.url)
        monkeypatch.setattr(weights, "_PATIENCE_SECONDS", 0)
        server.digests, server.bases = {"pirate:1": "sha256:anew"}, {}
        pirate, base = engine.key("pirate:1"), engine.key("base:1")
        seen = await engine.look(server.url)
        assert seen.held[pirate].digest == "sha256:anew"
        assert seen.held[pirate].weights == seen.held[base].weights
        async with asyncio.timeout(5):
            while (seen := await engine.look(server.url)).held[pirate].weights == seen.held[base].weights:
                pass
        await engine.close()


async def test_a_server_that_cannot_tell_is_asked_again_only_where_it_did_not_answer() -> None:
    server = fake_ollama.FakeOllama({"base:1": ["completion"]})
    engine = ollama_engine.Ollama()
    await engine.start()
    known = engine._weights
    models = [answers.HeldModel("gone:1", "sha256:gone"), answers.HeldModel("base:1", "sha256:base")]
    async with fake_ollama.running(server):
        for url in ("http://127.0.0.1:9", server.url, server.url):
            await known.learn(url, models)
    await engine.close()
    assert [body["model"] for body in server.sent("/api/show")] == ["gone:1", "base:1"]
    assert (known.of("sha256:gone").weights, bool(known.of("sha256:base").weights)) == ("", True)
