"""What routes do with what they are asked."""

from typing import Any

import aiohttp
import pytest

from modelset_proxy.dispatch import work
from modelset_proxy.telemetry import metrics
from modelset_proxy.web import service
from serve_app.tests import asking, fake_ollama, running


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/smollm2", "/healthz"])
async def test_what_is_known_is_told(client: aiohttp.ClientSession, path: str) -> None:
    async with client.get(path) as response:
        assert (response.status, response.headers["content-type"]) == (200, "application/json")


def test_before_it_is_configured_it_serves_nothing() -> None:
    found = service.Service(None, None, metrics.Nothing())  # type: ignore[arg-type]
    assert found.catalog.served_names == []


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", asking.CHAT),
        ("/v1/completions", {"model": "smollm2", "prompt": ["What is this?", "b"]}),
    ],
)
async def test_where_a_request_goes_is_decided_by_its_prompt(
    ollama: fake_ollama.FakeOllama, path: str, body: dict[str, Any]
) -> None:
    async with running.proxied(ollama.url) as (client, built):
        seen: list[tuple[int, int]] = []
        genuine = built.dispatch.open

        def open_work(*given: Any, **more: Any) -> work.Work[Any]:
            found = genuine(*given, **more)
            seen.append((len(found.request.prefix), found.request.prompt_tokens))
            return found

        built.dispatch.open = open_work  # type: ignore[method-assign]
        assert (await asking.post(client, path, body))[0] == 200
    [(blocks, tokens)] = seen
    assert blocks == 1
    assert tokens > 0
