"""What is known of a prompt without reading it as the model does."""

from typing import Any

import pytest

from modelset_proxy.dispatch import memory, prompts


def _shared(one: list[str], other: list[str]) -> int:
    return memory.common(prompts.prompt("m", one).prefix, prompts.prompt("m", other).prefix)


def test_prompts_that_begin_alike_have_blocks_in_common() -> None:
    system, question = "s" * 1000, "q" * 1000
    assert _shared([system, question], [system, question, "more"]) >= 7
    assert 3 <= _shared([system, question], [system, "another"]) <= 4
    assert _shared([system], ["x" + system]) == 0


def test_where_a_part_ends_makes_a_difference() -> None:
    assert prompts.prompt("m", ["ab", "c"]).prefix != prompts.prompt("m", ["a", "bc"]).prefix


def test_models_have_nothing_in_common() -> None:
    assert prompts.prompt("a", ["x" * 999]).prefix[0] != prompts.prompt("b", ["x" * 999]).prefix[0]


def test_of_a_long_prompt_only_the_beginning_is_looked_at() -> None:
    found = prompts.prompt("m", ["word " * 100_000, "word " * 100_000])
    assert len(found.prefix) == 128
    assert found.tokens == 250_001


class Part(str):
    """Notes when something is taken of it."""

    taken = False

    def __getitem__(self, key: Any) -> str:
        self.taken = True
        return super().__getitem__(key)


@pytest.mark.parametrize(("left", "taken"), [(2, True), (1, False), (0, False)])
def test_nothing_is_taken_of_what_comes_after_the_beginning(left: int, taken: bool) -> None:
    after = Part("after")
    prompts.prompt("m", ["x" * (128 * 256 - left), after])
    assert after.taken is taken


def test_text_that_is_no_unicode_is_looked_at_all_the_same() -> None:
    assert prompts.prompt("m", ["\ud800"]).prefix


def test_four_characters_are_a_token_and_there_is_at_least_one() -> None:
    assert [prompts.prompt("m", ["x" * count]).tokens for count in (0, 3, 4, 7)] == [1, 1, 2, 2]


@pytest.mark.parametrize(("count", "blocks"), [(254, 1), (255, 2)])
def test_a_block_is_as_many_bytes_of_the_model_and_the_parts_with_one_between(
    count: int, blocks: int
) -> None:
    assert len(prompts.prompt("m", ["x" * count]).prefix) == blocks
