"""What clients send: OpenAI's request bodies, decoded and checked.

Shapes and limits are those of OpenAI's API reference for chat completions, completions and embeddings. Fields
not named here are ignored, as OpenAI's own clients expect of a server older than they are; fields that would
change the answer and that this API cannot express are named here and refused. What an engine's servers cannot
do is the engine's to refuse. Encoded again, a request is what the client sent: what is left out stays out.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, cast

import msgspec

from modelset_proxy.openai import errors, reading

Temperature = Annotated[float, msgspec.Meta(ge=0, le=2)]
Probability = Annotated[float, msgspec.Meta(ge=0, le=1)]
Penalty = Annotated[float, msgspec.Meta(ge=-2, le=2)]
TokenLimit = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
Seed = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Count = Annotated[int, msgspec.Meta(ge=1, le=128)]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
ToolName = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]


class TextPart(msgspec.Struct, tag_field="type", tag="text"):
    """Text inside a message."""

    text: str


class RefusalPart(msgspec.Struct, tag_field="type", tag="refusal"):
    """An earlier refusal by an assistant."""

    refusal: str


class ImageUrl(msgspec.Struct, omit_defaults=True):
    """Where an image is, and how closely it is to be looked at."""

    url: str
    detail: str | None = None


class ImagePart(msgspec.Struct, tag_field="type", tag="image_url"):
    """An image inside a message."""

    image_url: ImageUrl


class AudioPart(msgspec.Struct, tag_field="type", tag="input_audio"):
    """Audio inside a message."""

    input_audio: Any = None


class FilePart(msgspec.Struct, tag_field="type", tag="file"):
    """A file inside a message."""

    file: Any = None


TextContent = str | list[TextPart]
UserContent = str | list[TextPart | ImagePart | AudioPart | FilePart | RefusalPart]


class SystemMessage(msgspec.Struct, tag_field="role", tag="system", omit_defaults=True):
    """Instructions for the model."""

    content: TextContent
    name: str | None = None


class DeveloperMessage(msgspec.Struct, tag_field="role", tag="developer", omit_defaults=True):
    """Instructions under the name that newer OpenAI models give them."""

    content: TextContent
    name: str | None = None


class UserMessage(msgspec.Struct, tag_field="role", tag="user", omit_defaults=True):
    """What the user says."""

    content: UserContent
    name: str | None = None


class CalledFunction(msgspec.Struct):
    """The function a model called, with its arguments as JSON text."""

    name: ToolName
    arguments: str = ""


class FunctionCall(msgspec.Struct, tag_field="type", tag="function"):
    """A call that an assistant made earlier."""

    id: str
    function: CalledFunction


class CustomCall(msgspec.Struct, tag_field="type", tag="custom"):
    """A call of a custom (grammar) tool."""

    id: str
    custom: Any = None


class AssistantMessage(msgspec.Struct, tag_field="role", tag="assistant", omit_defaults=True):
    """What the model said earlier. Its reasoning comes under either of two names in use."""

    content: str | list[TextPart | RefusalPart] | None = None
    refusal: str | None = None
    name: str | None = None
    tool_calls: list[FunctionCall | CustomCall] | None = None
    function_call: CalledFunction | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class ToolMessage(msgspec.Struct, tag_field="role", tag="tool"):
    """What a tool answered."""

    content: TextContent
    tool_call_id: str


class FunctionMessage(msgspec.Struct, tag_field="role", tag="function"):
    """What a function answered, in the form before tools."""

    content: str | None
    name: ToolName


Message = SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage | FunctionMessage


class Function(msgspec.Struct, omit_defaults=True):
    """A function the model may call; ``parameters`` is a JSON schema."""

    name: ToolName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionTool(msgspec.Struct, tag_field="type", tag="function"):
    """A tool that is a function."""

    function: Function


class CustomTool(msgspec.Struct, tag_field="type", tag="custom"):
    """A tool with a grammar of its own; refused."""


class NamedFunction(msgspec.Struct):
    """The name of a function to call."""

    name: str


class FunctionChoice(msgspec.Struct, tag_field="type", tag="function"):
    """Call exactly this function."""

    function: NamedFunction


class AllowedTools(msgspec.Struct):
    """A subset of the tools, and whether one of them must be called."""

    mode: Literal["auto", "required"]
    tools: list[FunctionChoice]


class AllowedToolsChoice(msgspec.Struct, tag_field="type", tag="allowed_tools"):
    """Call only these functions."""

    allowed_tools: AllowedTools


class CustomChoice(msgspec.Struct, tag_field="type", tag="custom"):
    """Call a custom tool; refused."""


# msgspec takes one union of structs beside plain strings, so the words are checked in ``check``.
ToolChoice = str | FunctionChoice | AllowedToolsChoice | CustomChoice


class TextFormat(msgspec.Struct, tag_field="type", tag="text"):
    """Plain text."""


class JsonObjectFormat(msgspec.Struct, tag_field="type", tag="json_object"):
    """Any JSON object."""


class JsonSchema(msgspec.Struct, omit_defaults=True):
    """A schema that the answer follows."""

    name: str
    description: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None


class JsonSchemaFormat(msgspec.Struct, tag_field="type", tag="json_schema"):
    """JSON that follows a schema."""

    json_schema: JsonSchema


class StreamOptions(msgspec.Struct, omit_defaults=True):
    """What a stream carries besides the answer."""

    include_usage: bool | None = None


class Sampling(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What chat completions and completions have in common.

    ``top_k``, ``min_p`` and ``repeat_penalty`` are not OpenAI's; clients of model servers send them, and they
    mean the same here.
    """

    model: Annotated[str, msgspec.Meta(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Temperature | None = None
    top_p: Probability | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    seed: Seed | None = None
    stop: str | list[str] | None = None
    n: Count | None = None
    logit_bias: dict[str, float] | None = None
    top_k: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] | None = None
    min_p: Probability | None = None
    repeat_penalty: Annotated[float, msgspec.Meta(ge=0, le=10)] | None = None

    @property
    def choices(self) -> int:
        """How many answers are wanted."""
        return self.n or 1

    @property
    def stops(self) -> list[str]:
        """The texts that end an answer. An empty one would end each before its first token."""
        given = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return [text for text in given if text]

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with a chunk that counts the tokens."""
        return bool(self.stream_options and self.stream_options.include_usage)


class ChatRequest(Sampling, kw_only=True, omit_defaults=True):
    """Body of ``POST /v1/chat/completions``."""

    messages: Annotated[list[Message], msgspec.Meta(min_length=1)]
    max_tokens: TokenLimit | None = None
    max_completion_tokens: TokenLimit | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, msgspec.Meta(ge=0, le=20)] | None = None
    tools: list[FunctionTool | CustomTool] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: TextFormat | JsonObjectFormat | JsonSchemaFormat | None = None
    reasoning_effort: Effort | None = None
    modalities: list[str] | None = None
    functions: list[Any] | None = None
    function_call: Any = None

    @property
    def limit(self) -> int | None:
        """How many tokens an answer may have; None is no limit, as is 0 in what clients send."""
        return self.max_completion_tokens or self.max_tokens or None


# One or more texts, each as words or as the ids of tokens.
Texts = str | list[str | int | list[int]]


class CompletionRequest(Sampling, kw_only=True, omit_defaults=True):
    """Body of ``POST /v1/completions``."""

    prompt: Texts
    # Zero asks for the echo of the prompt, and what is known of it, alone.
    max_tokens: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] | None = None
    suffix: str | None = None
    echo: bool | None = None
    best_of: Annotated[int, msgspec.Meta(ge=0, le=20)] | None = None
    logprobs: Annotated[int, msgspec.Meta(ge=0, le=20)] | None = None

    @property
    def prompts(self) -> list[str | list[int]]:
        """The texts to continue."""
        return _each(self.prompt)

    @property
    def limit(self) -> int:
        """How many tokens an answer may have."""
        return _COMPLETION_TOKENS if self.max_tokens is None else self.max_tokens

    def echoed(self, prompt: int) -> str:
        """Return what is put before the answers to a prompt here.

        The echo of token ids, or with the likeliest tokens at each place, is the server's: it alone knows
        what its tokens are.
        """
        if not self.echo or self.logprobs:
            return ""
        text = self.prompts[prompt]
        return text if isinstance(text, str) else ""


class EmbeddingRequest(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Body of ``POST /v1/embeddings``."""

    model: Annotated[str, msgspec.Meta(min_length=1)]
    input: Texts
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] | None = None

    @property
    def inputs(self) -> list[str | list[int]]:
        """The texts to embed."""
        return _each(self.input)


_MAX_STOPS = 4
_MAX_INPUTS = 2048
# OpenAI's default for the older completions endpoint; clients of it rely on short answers.
_COMPLETION_TOKENS = 16


def check(request: ChatRequest) -> None:
    """Check what types cannot say of a chat; raises a 400 that names the field at fault."""
    _check_sampling(request)
    _check_output(request)
    _check_tools(request)


def _check_completion(request: CompletionRequest) -> None:
    _check_sampling(request)
    if request.max_tokens == 0 and not request.echo:
        raise errors.invalid(
            "Invalid value for 'max_tokens': 0 leaves nothing to answer unless 'echo' is true.",
            param="max_tokens",
            code="invalid_value",
        )
    _check_texts("prompt", request.prompt, request.prompts)


def _check_embedding(request: EmbeddingRequest) -> None:
    _check_texts("input", request.input, request.inputs)


def _check_sampling(request: Sampling) -> None:
    if isinstance(request.stop, list) and len(request.stop) > _MAX_STOPS:
        raise errors.invalid(f"At most {_MAX_STOPS} stop sequences are allowed.", param="stop")


def _check_output(request: ChatRequest) -> None:
    if request.modalities is not None and request.modalities != ["text"]:
        raise errors.unsupported("modalities", "Models here answer in text only.")
    if request.top_logprobs is not None and not request.logprobs:
        raise errors.invalid(
            "The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled.", param="top_logprobs"
        )
    if (
        isinstance(request.response_format, JsonSchemaFormat)
        and request.response_format.json_schema.schema is None
    ):
        raise errors.invalid(
            "Missing required parameter: 'response_format.json_schema.schema'.",
            param="response_format.json_schema.schema",
            code="missing_required_parameter",
        )


def _check_tools(request: ChatRequest) -> None:
    if request.functions and request.function_call != "none":
        raise errors.unsupported("functions", "OpenAI has replaced it by tools; send these.")
    if request.tools and any(isinstance(tool, CustomTool) for tool in request.tools):
        raise errors.unsupported("tools", "Only tools of type 'function' can be called here.")
    choice = request.tool_choice
    if choice is None:
        return
    if isinstance(choice, CustomChoice):
        raise errors.unsupported("tool_choice", "Only tools of type 'function' can be called here.")
    if isinstance(choice, str) and choice not in {"none", "auto", "required"}:
        raise errors.invalid(
            "Invalid value for 'tool_choice': expected 'none', 'auto', 'required' or an object.",
            param="tool_choice",
            code="invalid_value",
        )
    if choice in ("none", "auto"):
        return
    if not request.tools:
        raise errors.invalid("'tool_choice' is only allowed when 'tools' are specified.", param="tool_choice")
    known = {tool.function.name for tool in request.tools if isinstance(tool, FunctionTool)}
    for name in chosen_functions(choice):
        if name not in known:
            raise errors.invalid(f"Tool choice '{name}' is not among 'tools'.", param="tool_choice")


def chosen_functions(choice: ToolChoice | None) -> list[str]:
    """Return the functions that a tool choice names; empty for one that names none."""
    if isinstance(choice, FunctionChoice):
        return [choice.function.name]
    if isinstance(choice, AllowedToolsChoice):
        return [tool.function.name for tool in choice.allowed_tools.tools]
    return []


def _each(given: Texts) -> list[str | list[int]]:
    """Return the texts one by one; a list of nothing but ids is one."""
    if isinstance(given, str):
        return [given]
    if given and isinstance(given[0], int):
        return [cast("list[int]", given)]
    return cast("list[str | list[int]]", given)


def _check_texts(param: str, given: Texts, texts: list[str | list[int]]) -> None:
    if not texts:
        raise errors.invalid(f"'{param}' must not be an empty list.", param=param)
    if len(texts) > _MAX_INPUTS:
        raise errors.invalid(f"'{param}' must have at most {_MAX_INPUTS} items.", param=param)
    kinds = set(map(type, given))
    if int in kinds and len(kinds) > 1:
        raise errors.invalid(
            f"'{param}' must be texts or the token ids of one.", param=param, code="invalid_value"
        )
    if any(not text for text in texts):
        raise errors.invalid(f"'{param}' must not hold an empty string.", param=param)


def texts(request: ChatRequest) -> Iterator[str]:
    """Yield the roles and the words of a conversation, in order; what is no text is left out."""
    for message in request.messages:
        yield type(message).__name__
        if isinstance(message.content, str):
            yield message.content
        else:
            yield from (part.text for part in message.content or () if isinstance(part, TextPart))


def beginning(request: CompletionRequest) -> Iterator[str]:
    """Yield the first of the prompts, its tokens one by one where it has such."""
    first = request.prompts[0]
    return iter([first]) if isinstance(first, str) else map(str, first)


chat = reading.Reader(ChatRequest, "messages", Message, check)
completion = reading.Reader(CompletionRequest, "prompt", str | int | list[int], _check_completion)
embedding = reading.Reader(EmbeddingRequest, "input", str | int | list[int], _check_embedding)
