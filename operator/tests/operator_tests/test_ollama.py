import httpx
import pytest

from modelset_operator.engines import ollama

from . import fake_ollama

URL = "http://10.0.0.1:11434"
NAME = "models.example:5000/library/m:1"


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


async def pull(client: ollama.Ollama, name: str = NAME) -> list[ollama.Progress]:
    return [progress async for progress in client.pull(URL, name, insecure=True)]


async def test_a_pull_tells_its_progress_and_then_the_pod_holds_the_model(client: ollama.Ollama) -> None:
    progress = await pull(client)
    layers = [(one.completed, one.total) for one in progress if one.digest]
    assert layers == [(0, 1000), (500, 1000), (1000, 1000), (0, 10), (5, 10), (10, 10)]
    assert progress[-1].status == "success"
    store = await client.store(URL)
    assert store.held[NAME].size == 1010
    assert await client.capabilities(URL, NAME) == ("completion", "tools")


async def test_an_error_in_mid_stream_is_ollamas_own_word(client: ollama.Ollama) -> None:
    with pytest.raises(ollama.OllamaError, match=r"^pull model manifest: file does not exist$"):
        await pull(client, "nope:1")


@pytest.mark.parametrize(
    ("content", "status", "message"),
    [
        (b'{"error": "invalid model name"}', 400, "invalid model name"),
        (b"bad gateway", 502, "HTTP 502: bad gateway"),
    ],
)
async def test_an_error_before_the_stream(content: bytes, status: int, message: str) -> None:
    with pytest.raises(ollama.OllamaError, match=message):
        await pull(answering(content, status))


@pytest.mark.parametrize("content", [b'{"status": "pulling manifest"}\n', b"", b"not json\n"])
async def test_a_pull_that_does_not_end_in_success_is_not_complete(content: bytes) -> None:
    with pytest.raises(ollama.UnreachableError):
        await pull(answering(content))


async def test_a_pod_that_is_not_there(client: ollama.Ollama, fleet: fake_ollama.FakeOllamas) -> None:
    fleet.unreachable.add("10.0.0.1")
    with pytest.raises(ollama.UnreachableError, match="Ollama does not answer"):
        await client.store(URL)
    with pytest.raises(ollama.UnreachableError, match="broke off"):
        await pull(client)


async def test_a_model_in_memory_is_let_go_before_it_is_deleted(
    client: ollama.Ollama, fleet: fake_ollama.FakeOllamas
) -> None:
    await pull(client)
    server = fleet.servers["10.0.0.1"]
    server.loaded.add(NAME)
    server.requests.clear()
    assert (await client.store(URL)).loaded == {NAME}
    await client.delete(URL, NAME, unload=True)
    assert server.requests == [f"/api/generate {NAME}", f"/api/delete {NAME}"]
    assert (server.held, server.loaded) == ({}, set())


async def test_deleting_what_is_not_there_says_so(client: ollama.Ollama) -> None:
    with pytest.raises(ollama.OllamaError, match="not found"):
        await client.delete(URL, NAME, unload=False)


def test_addresses() -> None:
    assert ollama.base_url("10.0.0.1") == "http://10.0.0.1:11434"
    assert ollama.base_url("fd00::1") == "http://[fd00::1]:11434"


async def test_an_answer_that_is_larger_than_any_of_ollamas_is_not_read_to_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ollama, "MOST_BYTES", 100)
    assert await answering(b'{"capabilities": ["x"]}', 200).capabilities(URL, NAME) == ("x",)
    with pytest.raises(ollama.UnreachableError, match="more than 100 bytes"):
        await answering(b"x" * 101, 200).capabilities(URL, NAME)


async def test_a_whole_answer_has_its_time_however_often_something_comes(
    client: ollama.Ollama, fleet: fake_ollama.FakeOllamas
) -> None:
    fleet.hanging.add("10.0.0.1")
    with pytest.raises(ollama.UnreachableError, match="TimeoutError"):
        await client._ask("GET", f"{URL}/api/tags", seconds=0.01)
