import pytest

from modelset_operator.api import sources


@pytest.mark.parametrize(
    ("name", "registry", "host", "insecure"),
    [
        ("m", sources.Registry(), "registry.ollama.ai", False),
        ("m", sources.Registry(insecure=True), "registry.ollama.ai", False),
        ("m", sources.Registry("models.example:5000", True), "models.example:5000", True),
        ("m", sources.Registry("models.example:5000", False), "models.example:5000", False),
        (
            "Models.Example:5000/team/m",
            sources.Registry("models.example:5000", True),
            "Models.Example:5000",
            True,
        ),
        ("hf.co/team/m", sources.Registry("models.example:5000", True), "hf.co", False),
        ("models.example/team/m", sources.Registry("models.example:5000", True), "models.example", False),
    ],
)
def test_only_the_registry_that_is_named_is_trusted_unseen(
    name: str, registry: sources.Registry, host: str, insecure: bool
) -> None:
    reference, source = sources.parse(name, registry)
    assert (reference.host, source) == (host, sources.Source(host, insecure))
