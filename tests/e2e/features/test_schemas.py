"""Answers that follow a JSON schema."""

from __future__ import annotations

from typing import Any, Literal

import openai
import pydantic

from tests.e2e.features.asking import PLAIN, STEADY, user

DESCRIBE_ANNA = user("Anna is 30 years old and happy. Describe her.")


class Person(pydantic.BaseModel):
    name: str
    age: int
    mood: Literal["happy", "sad"]


def test_an_answer_follows_its_schema(plain: openai.OpenAI) -> None:
    """Real Ollama, smollm2:135m."""
    chat = plain.chat.completions.create(
        model=PLAIN,
        messages=DESCRIBE_ANNA,
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "person", "schema": Person.model_json_schema(), "strict": True},
        },
        **STEADY,
    )
    assert Person.model_validate_json(chat.choices[0].message.content or "").name == "Anna"


def test_an_answer_is_parsed_into_a_class(plain: openai.OpenAI) -> None:
    """Real Ollama, smollm2:135m; with the client's helpers for pydantic, streamed and not."""
    request: dict[str, Any] = {"model": PLAIN, "messages": DESCRIBE_ANNA, "response_format": Person, **STEADY}
    whole = plain.chat.completions.parse(**request).choices[0].message.parsed
    with plain.chat.completions.stream(**request) as stream:
        streamed = stream.get_final_completion().choices[0].message.parsed
    for person in (whole, streamed):
        assert isinstance(person, Person)
        assert person.name == "Anna"
