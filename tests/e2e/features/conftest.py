"""One set for all features, and OpenAI's client at it and at the shared set."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest

from tests.e2e.features.asking import COLOURS, THINKING, TOOLS
from tests.e2e.support import modelset as ms
from tests.e2e.support import namespaces
from tests.e2e.support.kube import Kube


@pytest.fixture(scope="package")
def features_kube(pytestconfig: pytest.Config) -> Iterator[Kube]:
    yield from namespaces.fresh("e2e-features", pytestconfig)


@pytest.fixture(scope="package")
def skilled(features_kube: Kube) -> ms.ModelSet:
    """A Ready set whose models call tools, think, and see colours."""
    models = [
        {"name": name.replace("-", ":135m-"), "servedNames": [name]} for name in (TOOLS, THINKING, COLOURS)
    ]
    features_kube.apply(ms.manifest("skilled", models))
    result = ms.ModelSet(features_kube, "skilled")
    result.await_ready()
    return result


@pytest.fixture(scope="package")
def client(skilled: ms.ModelSet) -> Iterator[openai.OpenAI]:
    with skilled.client() as client:
        yield client


@pytest.fixture(scope="package")
def plain(assistants: ms.ModelSet) -> Iterator[openai.OpenAI]:
    """At the set that all tests share, with SmolLM2 as it was published."""
    with assistants.client() as client:
        yield client
