import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelset_operator.api import labels

VALID = re.compile(r"^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$")
# Of pieces, so that many are alike but for what a label cannot hold, or only beyond what fits into one.
_BEGINNINGS = ["a", "A", "0", "-", "_", ".", "@", "a:b", "a_b", "a/b", "hf.co/"]
_LONG = ["x" * length for length in (53, 54, 55, 62, 63, 64, 130)]
_ENDS = ["", "a", "b", ":1", "_1", "/1", "-", "--", ".", "@", "+"]
NAMES = st.builds(str.__add__, st.sampled_from([*_BEGINNINGS, *_LONG]), st.sampled_from(_ENDS))


@pytest.mark.parametrize(
    ("name", "encoded"),
    [
        ("smollm2", "smollm2"),
        ("smollm2:135m", "smollm2_135m"),
        ("hf.co/bartowski/Llama-3.2-1B-GGUF:Q4_K_M", "hf.co_bartowski_Llama-3.2-1B-GGUF_Q4_K_M"),
        ("a" * 63, "a" * 63),
    ],
)
def test_ordinary_names_stay_readable(name: str, encoded: str) -> None:
    assert labels.encode(name) == encoded


def test_a_long_name_is_cut_and_ends_in_a_hash() -> None:
    one, other = labels.encode("a" * 80), labels.encode("a" * 81)
    assert len(one) == len(other) == 63
    assert one != other
    assert one.startswith("a" * 54 + "-")


def test_names_that_encode_alike_get_distinct_labels_and_the_plain_one_stays() -> None:
    encoded = labels.encode_all(["a:b", "a_b", "a/b"])
    assert encoded["a_b"] == "a_b"
    assert len(set(encoded.values())) == 3
    assert encoded["a:b"].startswith("a_b-")


def test_labels_of_two_models() -> None:
    assert labels.model_labels(["smollm2", "all-minilm"]) == {
        "openai-compatible": "true",
        "modelset.dev/models": "all-minilm--smollm2",
        "model.modelset.dev/all-minilm": "true",
        "model.modelset.dev/smollm2": "true",
    }


def test_without_models_there_is_no_empty_label() -> None:
    assert labels.model_labels([]) == {"openai-compatible": "true"}


def test_the_annotation_lists_names_in_order() -> None:
    assert labels.model_names_text(["smollm2", "all-minilm", "smollm2"]) == "all-minilm;smollm2"


@given(st.lists(NAMES, max_size=12))
def test_every_label_is_valid_and_every_name_has_its_own(names: list[str]) -> None:
    encoded = labels.encode_all(names)
    assert set(encoded) == set(names)
    assert len(set(encoded.values())) == len(set(names))
    for value in [*encoded.values(), *([labels.join(encoded.values())] if names else [])]:
        assert VALID.match(value)


@given(st.lists(NAMES, min_size=1, max_size=6))
def test_labels_do_not_depend_on_order(names: list[str]) -> None:
    assert labels.model_labels(names) == labels.model_labels(reversed(names))
