"""A fake Ollama, and a proxy in front of it; the time in which tests run."""

import asyncio
from collections.abc import AsyncIterator, Callable

import aiohttp
import pytest

from modelset_proxy.dispatch import fleet
from serve_app.tests import fake_ollama, running, simulated


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    if item.get_closest_marker("simulated"):
        return {"simulated": simulated.Loop}
    return {"real": asyncio.new_event_loop}


@pytest.fixture(autouse=True)
def quick_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have whoever waits for a look at the servers not wait for long."""
    monkeypatch.setattr(fleet, "_MIN_SPACING_SECONDS", 0.01)


@pytest.fixture
async def ollama() -> AsyncIterator[fake_ollama.FakeOllama]:
    fake = fake_ollama.FakeOllama()
    async with fake_ollama.running(fake):
        yield fake


@pytest.fixture
async def client(ollama: fake_ollama.FakeOllama) -> AsyncIterator[aiohttp.ClientSession]:
    async with running.proxied(ollama.url) as (session, _):
        yield session
