import json
import re
from typing import Any

import httpx
import pytest

from modelset_operator.api import sources
from modelset_operator.engines import ollama, port, state

from . import fake_ollama

ADDRESS = "10.0.0.1"
NAME = "models.example:5000/library/m:1"
SOURCE = sources.Source("models.example:5000", insecure=True)


@pytest.fixture
def fleet() -> fake_ollama.FakeOllamas:
    fleet = fake_ollama.FakeOllamas()
    fleet.servers["10.0.0.1"] = fake_ollama.Server()
    fleet.registry[NAME] = fake_ollama.Published(layers=(1000, 10), capabilities=("tools", "completion"))
    return fleet


@pytest.fixture
def client(fleet: fake_ollama.FakeOllamas) -> ollama.Ollama:
    return ollama.Ollama(httpx.AsyncClient(transport=fleet))


def answering(content: bytes, status: int = 200) -> ollama.Ollama:
    transport = httpx.MockTransport(lambda request: httpx.Response(status, content=content))
    return ollama.Ollama(httpx.AsyncClient(transport=transport))


async def pull(client: ollama.Ollama, name: str = NAME) -> list[port.Progress]:
    return [progress async for progress in client.ensure(ADDRESS, name, SOURCE)]


async def test_a_pull_tells_its_progress_and_then_the_pod_holds_the_model(client: ollama.Ollama) -> None:
    progress = await pull(client)
    layers = [(one.completed, one.total) for one in progress if one.digest]
    assert layers == [(0, 1000), (500, 1000), (1000, 1000), (0, 10), (5, 10), (10, 10)]
    assert progress[-1].status == "success"
    store = await client.inspect(ADDRESS)
    assert store.held[NAME].size == 1010
    assert (await client.describe(ADDRESS, NAME)).capabilities == ("completion", "tools")


async def test_the_files_of_an_older_version_can_be_deleted_once_a_newer_one_is_there(
    client: ollama.Ollama, fleet: fake_ollama.FakeOllamas
) -> None:
    await pull(client)
    old = fleet.servers[ADDRESS].held[NAME]
    fleet.registry[NAME] = fake_ollama.Published(pushed=1)
    again = client.ensure(ADDRESS, NAME, SOURCE, again=True)
    assert [one.status async for one in again][-1] == "success"
    assert fleet.servers[ADDRESS].held == {NAME: fleet.registry[NAME], f"replaced.{NAME}": old}


async def test_what_has_gone_meanwhile_is_not_pulled_in_its_place(client: ollama.Ollama) -> None:
    with pytest.raises(port.RefusedError, match="not found"):
        await anext(client.ensure(ADDRESS, NAME, SOURCE, again=True))


@pytest.mark.parametrize(
    ("words", "sent"),
    [
        ({}, {}),
        ({"system": "Be polite."}, {"system": "Be polite."}),
        (
            {"template": "{{ .Prompt }}", "parameters": {"temperature": 0.2, "stop": ["a"]}},
            {"template": "{{ .Prompt }}", "parameters": {"temperature": 0.2, "stop": ["a"]}},
        ),
    ],
)
async def test_a_variant_is_made_of_what_the_spec_says_and_marked(
    fleet: fake_ollama.FakeOllamas, words: dict[str, Any], sent: dict[str, Any]
) -> None:
    bodies: list[dict[str, Any]] = []

    async def note(request: httpx.Request) -> None:
        bodies.append(json.loads(request.content))

    client = ollama.Ollama(httpx.AsyncClient(transport=fleet, event_hooks={"request": [note]}))
    await pull(client)
    recipe = state.Recipe(NAME, **{"system": "", "template": "", "parameters": {}, **words}, mark="a b c d")
    steps = [step.status async for step in client.create(ADDRESS, "support:latest", recipe)]
    assert steps[-1] == "success"
    marked = {"model": "support:latest", "from": NAME, "license": "modelset.dev/variant a b c d"}
    assert bodies[-1] == {**marked, **sent}
    assert (await client.describe(ADDRESS, "support:latest")).mark == "a b c d"


ADAPTED = fake_ollama.Published(adapters=("sha256-ad",))


async def test_a_variant_is_made_with_the_file_of_its_adapter(
    client: ollama.Ollama, fleet: fake_ollama.FakeOllamas
) -> None:
    await pull(client)
    fleet.servers[ADDRESS].held["tuned:1"] = ADAPTED
    assert (await client.describe(ADDRESS, "tuned:1")).adapters == ("sha256-ad",)
    assert (await client.describe(ADDRESS, NAME)).adapters == ()
    recipe = state.Recipe(NAME, "", "", {}, "a b c d e f", adapter="sha256-ad")
    _ = [step async for step in client.create(ADDRESS, "support:latest", recipe)]
    found = await client.describe(ADDRESS, "support:latest")
    assert (found.weights, found.adapters) == ("sha256-aa sha256-ad", ("sha256-ad",))


async def test_an_adapter_that_is_gone_meanwhile_is_told_in_ollamas_words(
    client: ollama.Ollama, fleet: fake_ollama.FakeOllamas
) -> None:
    await pull(client)
    recipe = state.Recipe(NAME, "", "", {}, "a b c d e f", adapter="sha256-ad")
    with pytest.raises(port.RefusedError, match=r"blobs/sha256-ad: no such file or directory$"):
        _ = [step async for step in client.create(ADDRESS, "support:latest", recipe)]


async def test_what_ollama_takes_for_weights_in_place_of_an_adapter_is_not_kept(
    client: ollama.Ollama, fleet: fake_ollama.FakeOllamas
) -> None:
    await pull(client)
    fleet.servers[ADDRESS].held["tuned:1"] = ADAPTED
    fleet.untyped.add("sha256-ad")
    recipe = state.Recipe(NAME, "", "", {}, "a b c d e f", adapter="sha256-ad")
    with pytest.raises(port.RefusedError, match="takes sha256-ad for no adapter"):
        _ = [step async for step in client.create(ADDRESS, "support:latest", recipe)]
    assert "support:latest" not in fleet.servers[ADDRESS].held


@pytest.mark.parametrize(
    ("licences", "mark"),
    [
        ("", ""),
        ("Apache 2.0\nsee LICENSE", ""),
        ("Apache 2.0\nmodelset.dev/variant a b c d", "a b c d"),
        ("modelset.dev/variant its maker's\nmodelset.dev/variant a b c d", "a b c d"),
        ("modelset.dev/variant its maker's\nApache 2.0", ""),
    ],
)
async def test_a_mark_is_the_last_of_a_models_licences(licences: str, mark: str) -> None:
    shown = json.dumps({"capabilities": [], "license": licences}).encode()
    assert (await answering(shown).describe(ADDRESS, NAME)).mark == mark


async def test_a_recipe_that_ollama_does_not_take_is_refused_in_its_words(
    client: ollama.Ollama,
) -> None:
    await pull(client)
    recipe = state.Recipe(NAME, "", "{{ .Prompt", {}, "a b c d")
    with pytest.raises(port.RefusedError, match=r"^template error: template: :1: unclosed action$"):
        _ = [step async for step in client.create(ADDRESS, "support:latest", recipe)]


async def test_an_error_in_mid_stream_is_ollamas_own_word(client: ollama.Ollama) -> None:
    with pytest.raises(port.RefusedError, match=r"^pull model manifest: file does not exist$") as refused:
        await pull(client, "nope:1")
    assert refused.value.unknown_model


async def test_another_error_in_mid_stream_says_nothing_about_the_model(
    client: ollama.Ollama, fleet: fake_ollama.FakeOllamas
) -> None:
    fleet.broken[NAME] = "no space left on device"
    with pytest.raises(port.RefusedError) as refused:
        await pull(client)
    assert not refused.value.unknown_model


async def test_a_cache_that_is_not_reached_is_no_word_of_the_registry(
    client: ollama.Ollama, fleet: fake_ollama.FakeOllamas
) -> None:
    reason = (
        'pull model manifest: Get "http://models.example/v2/library/a/manifests/1": '
        "proxyconnect tcp: dial tcp: lookup a-cache.default.svc on 10.96.0.10:53: no such host"
    )
    fleet.broken[NAME] = reason
    with pytest.raises(port.UnreachableError, match=re.escape(reason)):
        await pull(client)


@pytest.mark.parametrize("insecure", [True, False])
async def test_a_pull_is_as_secure_as_its_source(insecure: bool) -> None:
    asked: list[Any] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(json.loads(request.content)["insecure"])
        return httpx.Response(200, content=b'{"status": "success"}')

    client = ollama.Ollama(httpx.AsyncClient(transport=httpx.MockTransport(answer)))
    source = sources.Source("models.example:5000", insecure)
    assert [one.status async for one in client.ensure(ADDRESS, NAME, source)] == ["success"]
    assert asked == [insecure]


@pytest.mark.parametrize(("keep_alive", "sent"), [("-1", -1), ("300", 300), ("5m", "5m")])
async def test_a_model_is_loaded_for_as_long_as_was_said(keep_alive: str, sent: int | str) -> None:
    asked: list[Any] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append((request.url.path, json.loads(request.content)))
        return httpx.Response(200, content=b'{"embeddings": []}')

    client = ollama.Ollama(httpx.AsyncClient(transport=httpx.MockTransport(answer)))
    await client.load(ADDRESS, NAME, keep_alive=keep_alive)
    assert asked == [("/api/embed", {"model": NAME, "keep_alive": sent})]


async def test_a_model_is_loaded_in_the_length_that_is_pinned(
    client: ollama.Ollama, fleet: fake_ollama.FakeOllamas
) -> None:
    await pull(client)
    await client.load(ADDRESS, NAME, keep_alive="-1", context_length=512)
    assert fleet.servers[ADDRESS].contexts == {NAME: 512}


LLAMA = {
    "general.architecture": "llama",
    "llama.block_count": 30,
    "llama.embedding_length": 576,
    "llama.context_length": 2048,
    "llama.attention.head_count": 9,
    "llama.attention.head_count_kv": 3,
}


@pytest.mark.parametrize(
    ("info", "parameters", "values", "lengths"),
    [
        pytest.param(LLAMA, "", 30 * 3 * (64 + 64), (2048, 0), id="heads of equal width"),
        pytest.param(
            {**LLAMA, "llama.attention.key_length": 128, "llama.attention.value_length": 32},
            'stop    "x"\nnum_ctx                        8192',
            30 * 3 * (128 + 32),
            (2048, 8192),
            id="widths of their own, and a length of the Modelfile",
        ),
        pytest.param(
            {name: value for name, value in LLAMA.items() if not name.endswith("_kv")},
            "",
            30 * 9 * (64 + 64),
            (2048, 0),
            id="each head has keys of its own",
        ),
        pytest.param(
            {**LLAMA, "llama.attention.head_count_kv": None}, "", None, (2048, 0), id="layers differ"
        ),
        pytest.param({**LLAMA, "llama.attention.head_count_kv": 0}, "", 0, (2048, 0), id="it keeps nothing"),
        pytest.param({**LLAMA, "llama.block_count": -1}, "", None, (2048, 0), id="no number of layers"),
        pytest.param({**LLAMA, "llama.embedding_length": "wide"}, "", None, (2048, 0), id="no width"),
        pytest.param(
            {**LLAMA, "llama.attention.head_count": 0, "llama.attention.key_length": 64},
            "num_ctx 10\nnum_ctx 20",
            None,
            (2048, 20),
            id="no width of values, and a length said twice",
        ),
        pytest.param(
            {"general.architecture": "llama"}, "num_ctx long\nnum_ctxs 5", None, (0, 0), id="no length"
        ),
        pytest.param({}, "", None, (0, 0), id="nothing told"),
    ],
)
async def test_what_a_model_keeps_of_a_conversation_is_read_from_it(
    client: ollama.Ollama,
    fleet: fake_ollama.FakeOllamas,
    info: dict[str, Any],
    parameters: str,
    values: int | None,
    lengths: tuple[int, int],
) -> None:
    fleet.registry[NAME] = fake_ollama.Published(info=info, parameters=parameters)
    await pull(client)
    facts = await client.describe(ADDRESS, NAME)
    assert (facts.cache_values, facts.context_length, facts.pinned_context_length) == (values, *lengths)


async def test_variants_are_known_by_the_file_of_their_weights(
    client: ollama.Ollama, fleet: fake_ollama.FakeOllamas
) -> None:
    fleet.registry[NAME] = fake_ollama.Published(weights="sha256-bb")
    await pull(client)
    assert (await client.describe(ADDRESS, NAME)).weights == "sha256-bb"


@pytest.mark.parametrize(
    ("modelfile", "weights"),
    [
        ("FROM /root/blobs/sha256-aa\n", "sha256-aa"),
        ("FROM /elsewhere/sha256-aa\nADAPTER /elsewhere/sha256-cc\nTEMPLATE x\n", "sha256-aa sha256-cc"),
        ('TEMPLATE """\nFROM /root/blobs/sha256-bb\n"""\n', ""),
        ("", ""),
    ],
)
async def test_what_follows_the_files_of_a_modelfile_names_none(modelfile: str, weights: str) -> None:
    body = json.dumps({"modelfile": modelfile}).encode()
    assert (await answering(body, 200).describe(ADDRESS, NAME)).weights == weights


@pytest.mark.parametrize(
    ("time", "seconds"),
    [
        ("2024-05-04T14:56:49.277302595Z", 1714834609.277302),
        ("2024-05-04T16:56:49+02:00", 1714834609.0),
        ("yesterday", 0.0),
    ],
)
async def test_it_is_known_when_a_model_was_fetched(time: str, seconds: float) -> None:
    listed = json.dumps({"models": [{"name": NAME, "modified_at": time}]}).encode()
    store = await answering(listed).inspect(ADDRESS)
    assert store.held[NAME].changed == seconds


@pytest.mark.parametrize(
    ("listed", "store"),
    [
        ({}, state.Store({}, {})),
        ({"models": None}, state.Store({}, {})),
        ({"models": [{"name": NAME}]}, state.Store({NAME: state.Held("", 0)}, {NAME: NAME}, {NAME: 0})),
        (
            {"models": [{"name": "M:latest", "digest": "d", "size": 7}]},
            state.Store({"m:latest": state.Held("d", 7)}, {"m:latest": "M:latest"}, {"m:latest": 7}),
        ),
    ],
)
async def test_what_is_listed_is_held_however_little_is_told_of_it(
    listed: dict[str, Any], store: state.Store
) -> None:
    # Both lists, of what is held and of what is in memory, are alike.
    assert await answering(json.dumps(listed).encode()).inspect(ADDRESS) == store


@pytest.mark.parametrize(
    "shown",
    [
        b"",
        b"[]",
        b"{}",
        json.dumps(
            dict.fromkeys(["model_info", "parameters", "capabilities", "modelfile", "license"])
        ).encode(),
    ],
)
async def test_a_model_that_tells_nothing_is_known_for_nothing(shown: bytes) -> None:
    assert await answering(shown).describe(ADDRESS, NAME) == state.Facts(())


async def test_steps_are_told_as_far_as_ollama_says_them() -> None:
    lines = b'{}\n\n{"status": "pulling aa", "digest": "sha256:aa", "total": 9}\n{"status": "success"}\n'
    assert await pull(answering(lines)) == [
        port.Progress(""),
        port.Progress(""),
        port.Progress("pulling aa", "sha256:aa", 9),
        port.Progress("success"),
    ]


async def test_each_request_has_the_time_that_its_work_takes() -> None:
    seconds: dict[str, tuple[float, float]] = {}

    def answer(request: httpx.Request) -> httpx.Response:
        given = request.extensions["timeout"]
        seconds[request.url.path] = given["connect"], given["read"]
        return httpx.Response(200, content=b'{"status": "success"}')

    client = ollama.Ollama(httpx.AsyncClient(transport=httpx.MockTransport(answer)))
    await client.inspect(ADDRESS)
    await client.load(ADDRESS, NAME, keep_alive="-1")
    await client.remove(ADDRESS, NAME, loaded=True)
    await pull(client)
    _ = [step async for step in client.create(ADDRESS, NAME, state.Recipe("m:1", "", "", {}, "a"))]
    ask = ollama.ASK_SECONDS
    assert seconds == {
        "/api/tags": (ask, ask),
        "/api/ps": (ask, ask),
        "/api/embed": (ollama.LOAD_SECONDS, ollama.LOAD_SECONDS),
        "/api/generate": (ask, ask),
        "/api/delete": (ollama.DELETE_SECONDS, ollama.DELETE_SECONDS),
        "/api/pull": (ask, ollama.PULL_READ_SECONDS),
        "/api/create": (ask, ollama.CREATE_READ_SECONDS),
    }


async def test_a_list_with_what_is_no_name_is_no_answer() -> None:
    with pytest.raises(port.UnreachableError, match="no name"):
        await answering(b'{"models": [{"name": "a//b"}]}').inspect(ADDRESS)


@pytest.mark.parametrize(
    ("content", "status", "message"),
    [
        (b'{"error": "invalid model name"}', 400, "invalid model name"),
        (b"bad gateway", 502, "HTTP 502: bad gateway"),
    ],
)
async def test_an_error_before_the_stream(content: bytes, status: int, message: str) -> None:
    with pytest.raises(port.RefusedError, match=message):
        await pull(answering(content, status))


@pytest.mark.parametrize("content", [b'{"status": "pulling manifest"}\n', b"", b"not json\n"])
async def test_a_pull_that_does_not_end_in_success_is_not_complete(content: bytes) -> None:
    with pytest.raises(port.UnreachableError):
        await pull(answering(content))


async def test_a_pod_that_is_not_there(client: ollama.Ollama, fleet: fake_ollama.FakeOllamas) -> None:
    fleet.unreachable.add("10.0.0.1")
    with pytest.raises(port.UnreachableError, match="Ollama does not answer"):
        await client.inspect(ADDRESS)
    with pytest.raises(port.UnreachableError, match="broke off"):
        await pull(client)


async def test_a_model_in_memory_is_let_go_before_it_is_deleted(
    client: ollama.Ollama, fleet: fake_ollama.FakeOllamas
) -> None:
    await pull(client)
    server = fleet.servers["10.0.0.1"]
    server.loaded.add(NAME)
    server.requests.clear()
    assert (await client.inspect(ADDRESS)).loaded == {NAME: 1010}
    await client.remove(ADDRESS, NAME, loaded=True)
    assert server.requests == [f"/api/generate {NAME}", f"/api/delete {NAME}"]
    assert (server.held, server.loaded) == ({}, set())


async def test_deleting_what_is_not_there_says_so(client: ollama.Ollama) -> None:
    with pytest.raises(port.RefusedError, match="not found"):
        await client.remove(ADDRESS, NAME, loaded=False)


def test_addresses() -> None:
    assert ollama.base_url("10.0.0.1") == "http://10.0.0.1:11434"
    assert ollama.base_url("fd00::1") == "http://[fd00::1]:11434"


async def test_an_answer_that_is_larger_than_any_of_ollamas_is_not_read_to_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ollama, "MOST_BYTES", 100)
    assert await answering(b'{"capabilities": ["x"]}', 200).describe(ADDRESS, NAME) == state.Facts(("x",))
    with pytest.raises(port.UnreachableError, match="more than 100 bytes"):
        await answering(b"x" * 101, 200).describe(ADDRESS, NAME)


async def test_a_whole_answer_has_its_time_however_often_something_comes(
    client: ollama.Ollama, fleet: fake_ollama.FakeOllamas
) -> None:
    fleet.hanging.add("10.0.0.1")
    with pytest.raises(port.UnreachableError, match="TimeoutError"):
        await client._ask("GET", f"{ollama.base_url(ADDRESS)}/api/tags", seconds=0.01)
