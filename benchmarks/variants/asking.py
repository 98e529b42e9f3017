"""Clients of variants through the proxy, and of models at Ollama itself."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import httpx

from benchmarks.variants import recipes
from stack import step

# Longer than anything takes that goes well.
_ANSWER_SECONDS = 300.0
_TELL_EVERY = 100


class Client:
    """Asks one question, of the proxy at its URL or of an Ollama at its own."""

    def __init__(self, http: httpx.AsyncClient, proxy: str, ollama: str, context_length: int) -> None:
        self._http = http
        self._proxy = proxy
        self._ollama = ollama
        self._context_length = context_length

    async def through_the_proxy(self, model: str) -> str:
        """Return an answer; nothing that the request brings takes the place of what the variant says."""
        body = {"model": model, "messages": recipes.QUESTION}
        found = await self._post(f"{self._proxy}/v1/chat/completions", body)
        return str(found.json()["choices"][0]["message"]["content"])

    async def of_ollama(self, model: str) -> str:
        """Return the answer that Ollama itself gives, loaded as the proxy has it."""
        options = {"num_ctx": self._context_length}
        body = {"model": model, "messages": recipes.QUESTION, "stream": False, "options": options}
        found = await self._post(f"{self._ollama}/api/chat", body)
        return str(found.json()["message"]["content"])

    async def all(self, models: Sequence[str], clients: int) -> list[str | None]:
        """Return the answers of models through the proxy, so many at a time; None where there was none."""
        answers: list[str | None] = [None] * len(models)
        upcoming = iter(range(len(models)))

        async def client() -> None:
            for number in upcoming:
                try:
                    answers[number] = await self.through_the_proxy(models[number])
                except httpx.HTTPError as error:
                    step.say(f"  no answer of {models[number]}: {error!r}")
                if number and number % _TELL_EVERY == 0:
                    step.say(f"  {number:,} of {len(models):,}")

        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(client())
        return answers

    async def _post(self, url: str, body: Mapping[str, object]) -> httpx.Response:
        response = await self._http.post(url, json=body, timeout=_ANSWER_SECONDS)
        return response.raise_for_status()
