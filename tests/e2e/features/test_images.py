"""Images in a message, for a model that sees plain colours and nothing else."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from serve_app.tests.pictures import RED, WEBP, Colour, png
from tests.e2e.features.asking import COLOURS, STEADY
from tests.e2e.features.pictures import BLUE, GREEN, SIDE, as_url, looking, picture

IMAGE_TOKENS = 4  # as many as stack/colours.py has patches
SEEN = png(RED, SIDE)
# All but the empty one kill the runner of a model with a projector, and with it the streams of its clients.
DEADLY = {
    "empty": b"",
    "junk": b"not an image at all",
    "webp": WEBP,
    "cut-off": SEEN[:60],
    "damaged": SEEN.replace(b"IDATx", b"IDATy"),
    "enormous": SEEN.replace(SEEN[16:24], b"\0\1\0\0" * 2),
}


@pytest.mark.parametrize(("colour", "name"), [(RED, "red"), (GREEN, "green"), (BLUE, "blue")])
def test_an_image_is_seen(client: openai.OpenAI, colour: Colour, name: str) -> None:
    """Real Ollama, smollm2:135m-colours, streamed and not."""
    request: dict[str, Any] = {"model": COLOURS, "messages": looking(picture(colour)), **STEADY}
    request["max_completion_tokens"] = 16
    chat = client.chat.completions.create(**request)
    chunks = list(client.chat.completions.create(stream=True, **request))
    assert name in (chat.choices[0].message.content or "")
    assert name in "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


def test_each_image_counts_into_the_prompt(client: openai.OpenAI) -> None:
    """Real Ollama, smollm2:135m-colours."""
    none, one, two = (
        _prompt_tokens(client, urls) for urls in ([], [picture(RED)], [picture(RED), picture(BLUE)])
    )
    assert (one - none, two - none) == (IMAGE_TOKENS, 2 * IMAGE_TOKENS)


@pytest.mark.parametrize(
    "url",
    ["https://example.com/cat.png", "data:image/png;base64,not base64", "data:text/plain;base64,aGk="],
    ids=["remote", "not-base64", "text"],
)
def test_what_is_no_image_is_refused(client: openai.OpenAI, url: str) -> None:
    """Real Ollama, smollm2:135m-colours, which never gets to see these."""
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model=COLOURS, messages=looking(url))
    assert refused.value.param == "messages[0].content[0].image_url.url"


@pytest.mark.parametrize("case", DEADLY)
def test_a_broken_image_leaves_the_streams_of_others_alone(client: openai.OpenAI, case: str) -> None:
    """Real Ollama, smollm2:135m-colours, which is in the middle of an answer."""
    stream = client.chat.completions.create(
        model=COLOURS, messages=looking(picture(RED)), stream=True, **STEADY
    )
    next(stream)
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model=COLOURS, messages=looking(picture(RED), as_url(DEADLY[case])))
    assert (refused.value.param, refused.value.code) == (
        "messages[0].content[1].image_url.url",
        "invalid_value",
    )
    assert [chunk.choices[0].finish_reason for chunk in stream][-1] == "stop"


def _prompt_tokens(client: openai.OpenAI, urls: list[str]) -> int:
    chat = client.chat.completions.create(model=COLOURS, messages=looking(*urls), max_completion_tokens=1)
    assert chat.usage
    return chat.usage.prompt_tokens
