"""What tests of whole reconciles begin with, and what all tests do without."""

import ssl
from collections.abc import AsyncIterator

import pytest

from modelset_operator.engines import looks

from . import builders, fake_api, fake_ollama, worlds


@pytest.fixture(autouse=True)
def no_authorities(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust no certificate, as no test has one: each client of the API server reads all of the machine's."""
    monkeypatch.setattr(ssl.SSLContext, "set_default_verify_paths", lambda _: None)


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[worlds.World]:
    monkeypatch.setattr(looks, "BUSY_SECONDS", 0.001)
    monkeypatch.setattr(looks, "SETTLED_SECONDS", 0.001)
    monkeypatch.setattr(looks, "LOOKS_A_SECOND", 10_000)
    fleet = fake_ollama.FakeOllamas()
    fleet.registry[worlds.SMOL] = fake_ollama.Published(capabilities=("completion",))
    fleet.registry[worlds.MINI] = fake_ollama.Published(capabilities=("embedding",))
    api = fake_api.FakeApi()
    api.put(builders.resource(*worlds.MODELS, registry=worlds.REGISTRY))
    found = worlds.World(api, fleet)
    yield found
    await found.close()
