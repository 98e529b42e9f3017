"""What a set says about its models' abilities, and what becomes of requests that are beyond them."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from serve_app.tests.pictures import RED
from tests.e2e.features.asking import COLOURS, PLAIN, THINKING, TOOLS, user
from tests.e2e.features.pictures import looking, picture
from tests.e2e.support import modelset as ms

TOOL = {"type": "function", "function": {"name": "get_weather"}}


def test_the_status_says_what_each_model_can_do(skilled: ms.ModelSet) -> None:
    """Real Ollama, smollm2:135m-tools, smollm2:135m-thinking and smollm2:135m-colours."""
    capabilities = {
        model["servedNames"][0]: set(model["capabilities"]) for model in skilled.status()["models"]
    }
    assert capabilities == {
        TOOLS: {"completion", "tools"},
        THINKING: {"completion", "thinking"},
        COLOURS: {"completion", "vision"},
    }


@pytest.mark.parametrize(
    ("beyond", "param"),
    [
        ({"messages": user("hi"), "tools": [TOOL]}, "tools"),
        ({"messages": user("hi"), "reasoning_effort": "low"}, "reasoning_effort"),
        ({"messages": looking(picture(RED))}, "messages[0].content[0]"),
    ],
    ids=["tools", "reasoning", "image"],
)
def test_what_a_model_cannot_do_is_refused(plain: openai.OpenAI, beyond: dict[str, Any], param: str) -> None:
    """Real Ollama, smollm2:135m: it says what the model can do, and never sees these requests."""
    with pytest.raises(openai.BadRequestError, match=r"does not (support|take)") as refused:
        plain.chat.completions.create(model=PLAIN, **beyond)
    assert refused.value.param == param
