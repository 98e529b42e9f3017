"""From OpenAI's requests to what servers of its API commonly understand. Pure.

What a client says goes on as it is, but for what the proxy does itself (several choices, an echo, base64) and
for what has a name that more servers know. What a server cannot do is the server's to refuse.
"""

from typing import Any

import msgspec

from modelset_proxy.engines import encoding
from modelset_proxy.openai import catalog, errors, requests, steps

_MESSAGES_A_STEP = 256

# Said otherwise, done by the proxy, or without a meaning where they are accepted.
_NOT_PASSED = (
    "n",
    "max_completion_tokens",
    "stream_options",
    "functions",
    "function_call",
    "modalities",
    "echo",
    "best_of",
)


class Body:
    """The body of a request, made when it is needed: its choices differ in the seed alone.

    ``bulk`` is the field that may be large.
    """

    def __init__(self, fields: dict[str, Any], bulk: str) -> None:
        self._first = encoding.body(fields, bulk)
        self._fields = fields if "seed" in fields else {}
        self._bulk = bulk

    def of(self, choice: int) -> bytes | encoding.Parts:
        """Return the body for one of the answers to a request."""
        if not choice or not self._fields:
            return self._first
        return encoding.body({**self._fields, "seed": self._fields["seed"] + choice}, self._bulk)


def chat(request: requests.ChatRequest, model: catalog.Model) -> steps.Steps[Body]:
    """Return the body of ``POST /v1/chat/completions``."""
    fields = _common(msgspec.structs.replace(request, messages=[]), model, request.limit)
    fields["messages"] = yield from _messages(request.messages)
    choice = request.tool_choice
    if not request.tools:
        for name in ("tools", "tool_choice", "parallel_tool_calls"):
            fields.pop(name, None)
    elif isinstance(choice, requests.AllowedToolsChoice):
        # Few servers know it, and it says no more than this.
        allowed = requests.chosen_functions(choice)
        fields["tools"] = [tool for tool in fields["tools"] if tool["function"]["name"] in allowed]
        fields["tool_choice"] = choice.allowed_tools.mode
    return Body(fields, "messages")


def completion(request: requests.CompletionRequest, number: int, model: catalog.Model) -> Body:
    """Return the body of ``POST /v1/completions`` for one of the prompts."""
    # The others are not to be copied for each of them.
    fields = _common(msgspec.structs.replace(request, prompt=""), model, request.limit)
    fields["prompt"] = request.prompts[number]
    if request.echo and not request.echoed(number):
        fields["echo"] = True
    if request.best_of is not None and request.best_of > request.choices:
        if request.choices > 1:
            raise errors.unsupported("best_of", "Candidates are ranked for one choice only; leave out n.")
        fields["best_of"] = request.best_of
    return Body(fields, "prompt")


def embedding(request: requests.EmbeddingRequest, model: catalog.Model) -> bytes | encoding.Parts:
    """Return the body of ``POST /v1/embeddings``; vectors come as numbers, whatever the client wants."""
    fields: dict[str, Any] = {"model": model.name, "input": request.input, "encoding_format": "float"}
    if request.dimensions is not None:
        fields["dimensions"] = request.dimensions
    return encoding.body(fields, "input")


def shortest(model: catalog.Model) -> list[tuple[str, bytes]]:
    """Return paths and bodies of requests for the least that a model can answer, of which one will do."""
    text = "/v1/completions", msgspec.json.encode({"model": model.name, "prompt": "a", "max_tokens": 1})
    vector = "/v1/embeddings", msgspec.json.encode({"model": model.name, "input": "a"})
    return {catalog.CHAT: [text], catalog.EMBEDDING: [vector]}.get(model.kind, [text, vector])


def _common(request: requests.Sampling, model: catalog.Model, limit: int | None) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(request)
    for name in ("max_tokens", "stop", *_NOT_PASSED):
        fields.pop(name, None)
    fields["model"] = model.name
    fields["stream"] = bool(request.stream)
    if request.stream:
        fields["stream_options"] = {"include_usage": True}
    if limit is not None:
        fields["max_tokens"] = limit
    if request.stops:
        fields["stop"] = request.stops
    if request.repeat_penalty is not None:
        # llama.cpp knows it by the one name, vLLM by the other.
        fields["repetition_penalty"] = request.repeat_penalty
    return fields


def _messages(messages: list[requests.Message]) -> steps.Steps[list[dict[str, Any]]]:
    passed = []
    for index, message in enumerate(messages):
        if index and not index % _MESSAGES_A_STEP:
            yield
        passed.append(_message(msgspec.to_builtins(message)))
    return passed


def _message(message: dict[str, Any]) -> dict[str, Any]:
    if message["role"] == "developer":
        # OpenAI's newer name for the same; templates of models know the older one.
        return {**message, "role": "system"}
    if thoughts := message.get("reasoning_content") or message.get("reasoning"):
        return {**message, "reasoning_content": thoughts, "reasoning": thoughts}
    return message
