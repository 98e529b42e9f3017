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


async def test_each_digest_is_asked_about_once_whichever_server_holds_it() -> None:
    http = Http()
    found = weights.Weights(http)  # type: ignore[arg-type]
    found.learn("s1", _models("a", "b", ""))
    found.learn("s1", _models("a", "b"))
    await asyncio.sleep(0.5)
    assert http.asked == [("s1", "ma")]
    await asyncio.sleep(2)
    found.learn("s2", _models("a", "c"))
    await asyncio.sleep(2)
    found.learn("s2", _models("a", "b", "c"))
    await asyncio.sleep(2)
    assert http.asked == [("s1", "ma"), ("s1", "mb"), ("s2", "mc")]
    assert found.of("a").weights == "FROM sha256-aa"
    assert found.of("") == weights.UNKNOWN


async def test_two_servers_are_asked_side_by_side_and_none_twice() -> None:
    http = Http()
    found = weights.Weights(http)  # type: ignore[arg-type]
    found.learn("s1", _models("a", "b"))
    await asyncio.sleep(0.5)
    found.learn("s2", _models("b", "a", "c"))
    await asyncio.sleep(9)
    assert sorted(http.asked) == [("s1", "ma"), ("s1", "mb"), ("s2", "mb"), ("s2", "mc")]


async def test_a_server_that_does_not_answer_is_asked_again_and_one_that_does_not_know_is_not() -> None:
    http = Http(port.UnreachableError("refused"))
    found = weights.Weights(http)  # type: ignore[arg-type]
    found.learn("s1", _models("a", "b"))
    await asyncio.sleep(9)
    assert http.asked == [("s1", "ma")]
    http.shown = None
    found.learn("s1", _models("a"))
    await asyncio.sleep(9)
    found.learn("s1", _models("a"))
    await asyncio.sleep(9)
    assert http.asked == [("s1", "ma")] * 2
    assert found.of("a") == weights.UNKNOWN


async def test_what_was_asked_about_first_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_MOST_REMEMBERED", 2)
    found = weights.Weights(Http())  # type: ignore[arg-type]
    found.learn("s1", _models("a", "b", "c"))
    await asyncio.sleep(9)
    assert [bool(found.of(digest).weights) for digest in "abc"] == [False, True, True]


async def test_questions_end_with_the_engine() -> None:
    asked = engine.Ollama()
    await asked.start()
    asked._weights._http = Http()  # type: ignore[assignment]
    asked._weights.learn("s1", _models("a"))
    await asyncio.sleep(0.5)
    await asked.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert asyncio.get_running_loop().time() == 0.5


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
