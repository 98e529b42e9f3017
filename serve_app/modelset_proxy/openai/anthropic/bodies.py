"""What clients of Anthropic's Messages API send: the request body, decoded and checked.

Shapes are those of Anthropic's API reference. Fields not named here are ignored, such as ``cache_control``,
``metadata`` and ``service_tier``; those that would change the answer and that cannot be honoured are named
here and refused.
"""

from typing import Annotated, Any, Literal

import msgspec

from modelset_proxy.openai import errors, reading, requests

# Each is looked for after every token.
_MOST_STOPS = 64
_CUSTOM = "custom"


class Text(msgspec.Struct, tag_field="type", tag="text"):
    """Text inside a message."""

    text: str


class Base64Source(msgspec.Struct, tag_field="type", tag="base64"):
    """An image itself."""

    media_type: Literal["image/png", "image/jpeg", "image/gif", "image/webp"]
    data: str


class UrlSource(msgspec.Struct, tag_field="type", tag="url"):
    """Where an image is."""

    url: str


class FileSource(msgspec.Struct, tag_field="type", tag="file"):
    """A file that Anthropic keeps; refused."""


class Image(msgspec.Struct, tag_field="type", tag="image"):
    """An image inside a message."""

    source: Base64Source | UrlSource | FileSource


class Document(msgspec.Struct, tag_field="type", tag="document"):
    """A document inside a message; refused."""


class SearchResult(msgspec.Struct, tag_field="type", tag="search_result"):
    """Something found, with its source; refused."""


class ToolResult(msgspec.Struct, tag_field="type", tag="tool_result"):
    """What a tool answered."""

    tool_use_id: str
    content: str | list[Text | Image | Document | SearchResult] | None = None
    is_error: bool | None = None


class Thinking(msgspec.Struct, tag_field="type", tag="thinking"):
    """What the model thought earlier."""

    thinking: str


class RedactedThinking(msgspec.Struct, tag_field="type", tag="redacted_thinking"):
    """Thoughts that only Anthropic can read."""


class ToolUse(msgspec.Struct, tag_field="type", tag="tool_use"):
    """A call of a tool that the model made earlier."""

    id: str
    name: requests.ToolName
    input: dict[str, Any]


UserBlock = Text | Image | Document | SearchResult | ToolResult
AssistantBlock = Text | Thinking | RedactedThinking | ToolUse


class UserMessage(msgspec.Struct, tag_field="role", tag="user"):
    """What the user says, and what tools answered."""

    content: str | Annotated[list[UserBlock], msgspec.Meta(min_length=1)]


class AssistantMessage(msgspec.Struct, tag_field="role", tag="assistant"):
    """What the model said earlier, which may have been nothing."""

    content: str | list[AssistantBlock]


class SystemMessage(msgspec.Struct, tag_field="role", tag="system"):
    """Instructions that come later than the first message."""

    content: str | list[Text]


Message = UserMessage | AssistantMessage | SystemMessage


class Tool(msgspec.Struct):
    """A tool the model may call. Those that Anthropic defines have a ``type`` of their own; refused."""

    name: requests.ToolName
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    strict: bool | None = None
    type: str | None = None


class Choice(msgspec.Struct):
    """What the ways to choose a tool have in common."""

    disable_parallel_tool_use: bool | None = None


class AutoChoice(Choice, tag_field="type", tag="auto"):
    """Call a tool or do not."""


class AnyChoice(Choice, tag_field="type", tag="any"):
    """Call one of the tools."""


class NoChoice(Choice, tag_field="type", tag="none"):
    """Call no tool."""


class ToolChoice(Choice, tag_field="type", tag="tool", kw_only=True):
    """Call exactly this tool."""

    name: str


class EnabledThinking(msgspec.Struct, tag_field="type", tag="enabled"):
    """Think, for at most so many tokens."""

    budget_tokens: Annotated[int, msgspec.Meta(ge=1)]


class AdaptiveThinking(msgspec.Struct, tag_field="type", tag="adaptive"):
    """Think as the model sees fit."""


class DisabledThinking(msgspec.Struct, tag_field="type", tag="disabled"):
    """Do not think."""


class JsonFormat(msgspec.Struct, tag_field="type", tag="json_schema"):
    """JSON that follows a schema."""

    schema: dict[str, Any]


class OutputConfig(msgspec.Struct):
    """How much effort the answer is worth, and its form."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: JsonFormat | None = None


class MessagesRequest(msgspec.Struct, kw_only=True):
    """Body of ``POST /v1/messages``."""

    model: Annotated[str, msgspec.Meta(min_length=1)]
    max_tokens: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
    messages: Annotated[list[Message], msgspec.Meta(min_length=1)]
    system: str | list[Text] | None = None
    stream: bool | None = None
    temperature: requests.Probability | None = None
    top_p: requests.Probability | None = None
    top_k: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] | None = None
    stop_sequences: Annotated[list[str], msgspec.Meta(max_length=_MOST_STOPS)] | None = None
    tools: list[Tool] | None = None
    tool_choice: AutoChoice | AnyChoice | ToolChoice | NoChoice | None = None
    thinking: EnabledThinking | AdaptiveThinking | DisabledThinking | None = None
    output_config: OutputConfig | None = None
    output_format: Any = None
    mcp_servers: list[Any] | None = None


def _check(request: MessagesRequest) -> None:
    if request.output_format is not None:
        raise errors.unsupported("output_format", "Send it as 'output_config.format'.")
    if request.mcp_servers:
        raise errors.unsupported("mcp_servers", "No MCP servers are called from here.")
    _check_tools(request)


def _check_tools(request: MessagesRequest) -> None:
    tools = request.tools or []
    for number, tool in enumerate(tools):
        if tool.type not in (None, _CUSTOM):
            raise errors.unsupported(
                f"tools[{number}].type",
                f"Only Anthropic's models know tools of type '{errors.shown(tool.type)}'. Send it as "
                f"'{_CUSTOM}', with an input_schema.",
            )
        if tool.input_schema is None:
            param = f"tools[{number}].input_schema"
            raise errors.invalid(
                f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter"
            )
    choice = request.tool_choice
    if isinstance(choice, AnyChoice | ToolChoice) and not tools:
        raise errors.invalid("'tool_choice' is only allowed when 'tools' are specified.", param="tool_choice")
    if isinstance(choice, ToolChoice) and choice.name not in {tool.name for tool in tools}:
        raise errors.invalid(
            f"Tool choice '{errors.shown(choice.name)}' is not among 'tools'.", param="tool_choice.name"
        )


read = reading.Reader(MessagesRequest, "messages", Message, _check)
