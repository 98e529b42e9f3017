"""What tests of whole reconciles begin with."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from modelset_operator.engines import looks

from . import builders, fake_api, fake_ollama, worlds


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[worlds.World]:
    monkeypatch.setattr(looks, "BUSY_SECONDS", 0.001)
    monkeypatch.setattr(looks, "SETTLED_SECONDS", 0.001)
    fleet = fake_ollama.FakeOllamas()
    fleet.registry[worlds.SMOL] = fake_ollama.Published(capabilities=("completion",))
    fleet.registry[worlds.MINI] = fake_ollama.Published(capabilities=("embedding",))
    api = fake_api.FakeApi()
    api.put(builders.resource(*worlds.MODELS, registry=worlds.REGISTRY))
    found = worlds.World(api, fleet, asyncio.Queue(), [1000.0], None, None, None)  # type: ignore[arg-type]
    found.restart_operator()
    yield found
    await found.work.close()
    found.watching.cancel()
