"""The body of ``POST /v1/responses``, decoded, checked and made into a chat.

As with chats, fields not named here are ignored. What would need memory between requests is refused.
"""

from typing import Annotated, Any, Literal

import msgspec

from modelset_proxy.openai import errors, reading, requests, steps
from modelset_proxy.openai.responses import conversation, names

_LOGPROBS = "message.output_text.logprobs"
_ONLY_FUNCTIONS = "Only tools of type 'function' can be called here."
_NEEDS_MEMORY = {
    "background": "Nothing is stored here; wait for the answer, or stream it.",
    "conversation": "Nothing is stored here; send the whole conversation in 'input'.",
    "previous_response_id": "Nothing is stored here; send the whole conversation in 'input'.",
    "prompt": "Nothing is stored here; send the prompt itself in 'instructions' and 'input'.",
}

Metadata = Annotated[
    dict[Annotated[str, msgspec.Meta(max_length=64)], Annotated[str, msgspec.Meta(max_length=512)]],
    msgspec.Meta(max_length=16),
]


class TextFormat(msgspec.Struct, tag_field="type", tag="text"):
    """Plain text."""


class JsonObjectFormat(msgspec.Struct, tag_field="type", tag="json_object"):
    """Any JSON object."""


class JsonSchemaFormat(msgspec.Struct, tag_field="type", tag="json_schema"):
    """JSON that follows a schema."""

    name: str
    schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None


class Text(msgspec.Struct):
    """What the text of an answer is to be like; ``verbosity`` has no effect."""

    format: TextFormat | JsonObjectFormat | JsonSchemaFormat = msgspec.field(default_factory=TextFormat)
    verbosity: Literal["low", "medium", "high"] | None = None


class Reasoning(msgspec.Struct):
    """How much is to be thought; ``summary`` has no effect."""

    effort: requests.Effort | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None


class Chosen(msgspec.Struct, tag_field="type", tag="function"):
    """A function by its name."""

    name: str


class Allowed(msgspec.Struct):
    """A subset of the tools, and whether one of them must be called."""

    mode: Literal["auto", "required"]
    tools: list[Chosen]


class Body(msgspec.Struct, kw_only=True):
    """What the client sent."""

    model: Annotated[str, msgspec.Meta(min_length=1)]
    input: str | list[dict[str, Any]]
    instructions: str | None = None
    stream: bool | None = None
    max_output_tokens: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] | None = None
    temperature: requests.Temperature | None = None
    top_p: requests.Probability | None = None
    top_logprobs: Annotated[int, msgspec.Meta(ge=0, le=20)] | None = None
    include: list[str] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    text: Text | None = None
    reasoning: Reasoning | None = None
    metadata: Metadata | None = None
    truncation: Literal["auto", "disabled"] | None = None
    background: bool | None = None
    conversation: Any = None
    previous_response_id: str | None = None
    prompt: Any = None


class Request(msgspec.Struct):
    """A request: what was sent, the chat that it is, and what the fields of that are called by the client."""

    body: Body
    chat: requests.ChatRequest
    names: names.Names


def _check(body: Body) -> None:
    for name, why in _NEEDS_MEMORY.items():
        if getattr(body, name):
            raise errors.unsupported(name, why)


_body = reading.Reader(Body, "input", dict[str, Any], _check)


def read(data: bytes) -> steps.Steps[Request]:
    """Decode and check a request, in steps; raises a 400 that names the field at fault."""
    body = yield from _body.in_steps(data)
    own = names.Names()
    messages = yield from conversation.messages(body.input, body.instructions, own)
    logprobs = _LOGPROBS in (body.include or ())
    chat = requests.ChatRequest(
        model=body.model,
        messages=messages,
        stream=body.stream,
        max_completion_tokens=body.max_output_tokens,
        temperature=body.temperature,
        top_p=body.top_p,
        logprobs=logprobs or None,
        top_logprobs=body.top_logprobs if logprobs else None,
        tools=_tools(body),
        tool_choice=_choice(body.tool_choice),
        parallel_tool_calls=body.parallel_tool_calls,
        response_format=_format(body.text),
        reasoning_effort=body.reasoning.effort if body.reasoning else None,
    )
    with own.used():
        requests.check(chat)
    return Request(body, chat, own)


def _tools(body: Body) -> list[requests.FunctionTool | requests.CustomTool] | None:
    """Return the functions. Tools of other types, OpenAI's to run, do no harm where none is to be called."""
    if body.tools is None:
        return None
    tools: list[requests.FunctionTool | requests.CustomTool] = []
    for number, tool in enumerate(body.tools):
        where = f"tools[{number}]"
        if tool.get("type") == "function":
            tools.append(requests.FunctionTool(reading.convert(tool, requests.Function, where)))
        elif body.tool_choice != "none":
            kind = errors.shown(tool.get("type"))
            raise errors.unsupported(where, f"Tools of type '{kind}' are not run here. {_ONLY_FUNCTIONS}")
    return tools


def _choice(choice: str | dict[str, Any] | None) -> requests.ToolChoice | None:
    if not isinstance(choice, dict):
        return choice
    if choice.get("type") == "function":
        chosen = reading.convert(choice, Chosen, "tool_choice")
        return requests.FunctionChoice(requests.NamedFunction(chosen.name))
    if choice.get("type") == "allowed_tools":
        allowed = reading.convert(choice, Allowed, "tool_choice")
        functions = [requests.FunctionChoice(requests.NamedFunction(tool.name)) for tool in allowed.tools]
        return requests.AllowedToolsChoice(requests.AllowedTools(allowed.mode, functions))
    raise errors.unsupported("tool_choice", _ONLY_FUNCTIONS)


def _format(
    text: Text | None,
) -> requests.TextFormat | requests.JsonObjectFormat | requests.JsonSchemaFormat | None:
    wanted = text.format if text is not None else None
    if isinstance(wanted, JsonSchemaFormat):
        schema = requests.JsonSchema(wanted.name, wanted.description, wanted.schema, wanted.strict)
        return requests.JsonSchemaFormat(schema)
    return requests.JsonObjectFormat() if isinstance(wanted, JsonObjectFormat) else None
