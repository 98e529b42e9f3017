import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelset_operator.api import references


def _of(letters: str, least: int, most: int) -> st.SearchStrategy[str]:
    """Not by `st.from_regex`, which first looks through all of Unicode: seconds, in each new checkout."""
    return st.lists(st.sampled_from(letters), min_size=least, max_size=most).map("".join)


_PLAIN = string.ascii_lowercase + string.digits
_PORTS = st.just("") | _of(string.digits, 2, 2).map(":{}".format)
_HOSTS = st.builds("h{}.x{}/".format, st.sampled_from(string.ascii_lowercase), _PORTS)
_NAMESPACES = _of(string.ascii_lowercase, 1, 3).map("{}/".format)
_PLACES = st.just("") | _NAMESPACES | st.tuples(_HOSTS, _NAMESPACES).map("".join)
_MODELS = st.tuples(st.sampled_from(_PLAIN), _of(f"{_PLAIN}._-", 0, 7)).map("".join)
_TAGS = st.just("") | _of(_PLAIN, 1, 4).map(":{}".format)


@pytest.mark.parametrize(
    ("text", "reported"),
    [
        ("smollm2", "smollm2:latest"),
        ("smollm2:135m", "smollm2:135m"),
        ("library/smollm2", "smollm2:latest"),
        ("registry.ollama.ai/library/smollm2:135m", "smollm2:135m"),
        ("mxbai/embed:1", "mxbai/embed:1"),
        ("models.example:5000/library/smollm2:135m", "models.example:5000/library/smollm2:135m"),
        ("models.example:5000/library/smollm2", "models.example:5000/library/smollm2:latest"),
        ("hf.co/bartowski/Llama-3.2-1B-GGUF:Q4_K_M", "hf.co/bartowski/Llama-3.2-1B-GGUF:Q4_K_M"),
        ("http://10.0.0.1:5000/library/m:t", "10.0.0.1:5000/library/m:t"),
    ],
)
def test_a_reference_reads_as_tags_report_it(text: str, reported: str) -> None:
    assert str(references.parse(text)) == reported


@pytest.mark.parametrize(
    ("text", "pulled"),
    [
        ("smollm2:135m", "models.example:5000/library/smollm2:135m"),
        ("team/chat", "models.example:5000/team/chat:latest"),
        ("other.example/team/chat:1", "other.example/team/chat:1"),
    ],
)
def test_names_without_a_host_come_from_the_registry_of_the_set(text: str, pulled: str) -> None:
    assert str(references.parse(text, "models.example:5000")) == pulled


@pytest.mark.parametrize(
    "text",
    [
        *("", ":tag", "model:", "/model", "a//b", "host/ns/", "a/b/c/d", "-m", "m:-t", "a.b/c.d/m", "-h/n/m"),
        *("h/n/m:t:u", "m\n", "m" * 81, "m:" + "t" * 81, "h/" + "n" * 81 + "/m"),
    ],
)
def test_what_ollama_takes_for_no_name_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="not a model reference"):
        references.parse(text)


@pytest.mark.parametrize("text", ["reg.local:5000/model", "localhost:5000/model", "hf.co/model"])
def test_a_host_without_a_namespace_is_not_taken_for_one(text: str) -> None:
    with pytest.raises(
        ValueError, match=f"a host needs a namespace too, as in {text.split('/')[0]}/library/"
    ):
        references.parse(text)


@given(st.tuples(_PLACES, _MODELS, _TAGS).map("".join))
def test_what_tags_report_parses_to_the_same_reference(text: str) -> None:
    reference = references.parse(text)
    assert references.parse(str(reference)) == reference


def test_references_are_alike_for_ollama_whatever_their_case() -> None:
    assert references.parse("SmolLM2:135M").key == references.parse("smollm2:135m").key


@pytest.mark.parametrize(
    ("name", "served"),
    [
        ("smollm2:135m", ("smollm2:135m",)),
        ("smollm2", ("smollm2",)),
        ("smollm2:latest", ("smollm2:latest", "smollm2")),
    ],
)
def test_default_served_names(name: str, served: tuple[str, ...]) -> None:
    assert references.default_served_names(name) == served
