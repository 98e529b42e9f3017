"""How an engine finds out which models share a runner, without holding up a look."""

import asyncio

import msgspec
import pytest

from modelset_proxy.engines import port
from modelset_proxy.engines.ollama import answers, engine, weights

pytestmark = pytest.mark.simulated
_SHOWN = answers.Show(modelfile="FROM /models/blobs/sha256-aa\n")


class Http:
    """Shows models as a test says, each in a second; keeps which it was asked about."""

    def __init__(self, shown: answers.Show | Exception | None = _SHOWN) -> None:
        self.shown = shown
        self.asked: list[tuple[str, str]] = []

    async def show(self, url: str, name: str) -> answers.Show | None:
        self.asked.append((url, name))
        await asyncio.sleep(1)
        if isinstance(self.shown, Exception):
            raise self.shown
        return self.shown


def _models(*digests: str) -> list[answers.HeldModel]:
    return [answers.HeldModel(f"m{digest}", digest) for digest in digests]


def _now() -> float:
    return asyncio.get_running_loop().time()


async def test_each_digest_is_asked_about_once_whichever_server_holds_it() -> None:
    http = Http()
    found = weights.Weights(http)  # type: ignore[arg-type]
    await found.learn("s1", [*_models("a", "b", ""), answers.HeldModel("another name", "b")])
    await found.learn("s2", _models("a", "c"))
    await found.learn("s2", _models("a", "b", "c"))
    assert http.asked == [("s1", "ma"), ("s1", "another name"), ("s2", "mc")]
    assert found.of("a").weights == "FROM sha256-aa"
    assert found.of("") == weights.UNKNOWN


async def test_many_are_asked_about_at_once() -> None:
    http = Http()
    found = weights.Weights(http)  # type: ignore[arg-type]
    await found.learn("s1", _models(*"abcdefghijklmnop"))
    assert (_now(), len(http.asked)) == (2, 16)


async def test_a_look_waits_for_some_seconds_and_once() -> None:
    http = Http()
    found = weights.Weights(http)  # type: ignore[arg-type]
    many = _models(*"abcdefghijklmnopqrstuvwxyz")
    await found.learn("s1", many)
    assert _now() == 2
    await found.learn("s1", many)
    assert (_now(), found.of("z")) == (2, weights.UNKNOWN)
    await asyncio.sleep(3)
    assert found.of("z").weights
    await found.learn("s1", many)
    assert (_now(), len(http.asked)) == (5, 26)


async def test_two_servers_are_asked_side_by_side_and_none_about_what_is_known() -> None:
    http = Http()
    found = weights.Weights(http)  # type: ignore[arg-type]
    first = asyncio.create_task(found.learn("s1", _models(*"ABCDEFGH", "b")))
    await asyncio.sleep(0.5)
    await found.learn("s2", _models(*"cdefghij", *"ABCDEFGH", "b"))
    await first
    assert [name for url, name in http.asked if url == "s1"] == [f"m{digest}" for digest in "ABCDEFGHb"]
    assert [name for url, name in http.asked if url == "s2"] == [f"m{digest}" for digest in "cdefghijb"]


async def test_a_server_that_does_not_answer_is_asked_again_and_one_that_does_not_know_is_not() -> None:
    http = Http(port.UnreachableError("refused"))
    found = weights.Weights(http)  # type: ignore[arg-type]
    many = _models(*"abcdefghij")
    await found.learn("s1", many)
    await asyncio.sleep(9)
    assert len(http.asked) == 8
    http.shown = None
    await found.learn("s1", _models("a"))
    await found.learn("s1", _models("a"))
    assert http.asked[8:] == [("s1", "ma")]
    assert found.of("a") == weights.UNKNOWN


async def test_what_was_asked_about_first_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_MOST_REMEMBERED", 2)
    found = weights.Weights(Http())  # type: ignore[arg-type]
    for digest in "abc":
        await found.learn("s1", _models(digest))
    assert [bool(found.of(digest).weights) for digest in "abc"] == [False, True, True]


async def test_questions_end_with_the_engine() -> None:
    asked = engine.Ollama()
    await asked.start()
    asked._weights._http = Http()  # type: ignore[assignment]
    look = asyncio.create_task(asked._weights.learn("s1", _models("a")))
    await asyncio.sleep(0.5)
    await asked.close()
    await look
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert _now() == 0.5


def test_what_a_model_was_made_for_is_known_without_its_file() -> None:
    shown = answers.Show(
        modelfile="FROM llama3\n",
        parameters="stop",
        model_info={
            "general.parameter_count": msgspec.Raw(b"5"),
            "general.architecture": msgspec.Raw(b'"a"'),
            "a.context_length": msgspec.Raw(b"8192"),
        },
    )
    assert weights.runner(shown) == weights.Runner(longest_context=8192)


def test_a_parameter_without_a_value_says_nothing() -> None:
    shown = answers.Show(modelfile=_SHOWN.modelfile, parameters="num_batch\nnum_ctx 8")
    assert weights.runner(shown) == weights.Runner("FROM sha256-aa", 8)
