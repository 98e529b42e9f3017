"""A fake Ollama, and a proxy in front of it."""

from collections.abc import AsyncIterator

import aiohttp
import pytest

from serve_app.tests import fake_ollama, running


@pytest.fixture
async def ollama() -> AsyncIterator[fake_ollama.FakeOllama]:
    fake = fake_ollama.FakeOllama()
    async with fake_ollama.running(fake):
        yield fake


@pytest.fixture
async def client(ollama: fake_ollama.FakeOllama) -> AsyncIterator[aiohttp.ClientSession]:
    async with running.proxied(ollama.url) as (session, _):
        yield session
