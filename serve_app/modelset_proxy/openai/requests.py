"""What clients send: OpenAI's request bodies, decoded and checked.

Shapes and limits are those of OpenAI's API reference for chat completions, completions and embeddings. Fields
not named here are ignored, as OpenAI's own clients expect of a server older than they are; fields that would
change the answer and cannot be honoured are named here and refused by ``check``.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from modelset_proxy.openai import errors

Temperature = Annotated[float, msgspec.Meta(ge=0, le=2)]
Probability = Annotated[float, msgspec.Meta(ge=0, le=1)]
Penalty = Annotated[float, msgspec.Meta(ge=-2, le=2)]
# Zero is no limit, as clients that always send the field mean it.
TokenLimit = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
Seed = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Count = Annotated[int, msgspec.Meta(ge=1, le=128)]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
ToolName = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]


class TextPart(msgspec.Struct, tag_field="type", tag="text"):
    """Text inside a message."""

    text: str


class RefusalPart(msgspec.Struct, tag_field="type", tag="refusal"):
    """An earlier refusal by an assistant; read as text."""

    refusal: str


class ImageUrl(msgspec.Struct):
    """Where an image is: a data: URL. ``detail`` has no counterpart here and is ignored."""

    url: str


class ImagePart(msgspec.Struct, tag_field="type", tag="image_url"):
    """An image inside a message."""

    image_url: ImageUrl


class AudioPart(msgspec.Struct, tag_field="type", tag="input_audio"):
    """Audio inside a message; refused."""


class FilePart(msgspec.Struct, tag_field="type", tag="file"):
    """A file inside a message; refused."""


TextContent = str | list[TextPart]
UserContent = str | list[TextPart | ImagePart | AudioPart | FilePart | RefusalPart]


class SystemMessage(msgspec.Struct, tag_field="role", tag="system"):
    """Instructions for the model."""

    content: TextContent


class DeveloperMessage(msgspec.Struct, tag_field="role", tag="developer"):
    """Instructions under the name that newer OpenAI models give them."""

    content: TextContent


class UserMessage(msgspec.Struct, tag_field="role", tag="user"):
    """What the user says."""

    content: UserContent


class CalledFunction(msgspec.Struct):
    """The function a model called, with its arguments as JSON text."""

    name: ToolName
    arguments: str = ""


class FunctionCall(msgspec.Struct, tag_field="type", tag="function"):
    """A call that an assistant made earlier."""

    id: str
    function: CalledFunction


class CustomCall(msgspec.Struct, tag_field="type", tag="custom"):
    """A call of a custom (grammar) tool; refused."""

    id: str


class AssistantMessage(msgspec.Struct, tag_field="role", tag="assistant"):
    """What the model said earlier. Its reasoning comes under either of two names in use."""

    content: str | list[TextPart | RefusalPart] | None = None
    refusal: str | None = None
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


class Function(msgspec.Struct):
    """A function the model may call; ``parameters`` is a JSON schema."""

    name: ToolName
    description: str | None = None
    parameters: dict[str, Any] | None = None


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


class JsonSchema(msgspec.Struct):
    """A schema that the answer follows. Ollama always follows it strictly."""

    name: str
    schema: dict[str, Any] | None = None


class JsonSchemaFormat(msgspec.Struct, tag_field="type", tag="json_schema"):
    """JSON that follows a schema."""

    json_schema: JsonSchema


class StreamOptions(msgspec.Struct):
    """What a stream carries besides the answer."""

    include_usage: bool | None = None


class Sampling(msgspec.Struct, kw_only=True):
    """What chat completions and completions have in common.

    ``top_k``, ``min_p`` and ``repeat_penalty`` are not OpenAI's; clients of Ollama and vLLM send them, and
    they mean the same here.
    """

    model: Annotated[str, msgspec.Meta(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: TokenLimit | None = None
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
    def wants_usage(self) -> bool:
        """Whether a stream ends with a chunk that counts the tokens."""
        return bool(self.stream_options and self.stream_options.include_usage)


class ChatRequest(Sampling, kw_only=True):
    """Body of ``POST /v1/chat/completions``."""

    messages: Annotated[list[Message], msgspec.Meta(min_length=1)]
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


class CompletionRequest(Sampling, kw_only=True):
    """Body of ``POST /v1/completions``; a prompt of token ids is refused."""

    prompt: str | list[str | int | list[int]]
    suffix: str | None = None
    echo: bool | None = None
    best_of: Annotated[int, msgspec.Meta(ge=0, le=20)] | None = None
    logprobs: Annotated[int, msgspec.Meta(ge=0, le=20)] | None = None

    @property
    def prompts(self) -> list[str]:
        """The texts to continue."""
        given = [self.prompt] if isinstance(self.prompt, str) else self.prompt
        return [text for text in given if isinstance(text, str)]


class EmbeddingRequest(msgspec.Struct, kw_only=True):
    """Body of ``POST /v1/embeddings``; input of token ids is refused."""

    model: Annotated[str, msgspec.Meta(min_length=1)]
    input: str | list[str | int | list[int]]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] | None = None

    @property
    def texts(self) -> list[str]:
        """The texts to embed."""
        given = [self.input] if isinstance(self.input, str) else self.input
        return [text for text in given if isinstance(text, str)]


_chat = msgspec.json.Decoder(ChatRequest)
_completion = msgspec.json.Decoder(CompletionRequest)
_embedding = msgspec.json.Decoder(EmbeddingRequest)

Body = TypeVar("Body")

_MAX_STOPS = 4
_MAX_INPUTS = 2048


def chat(body: bytes) -> ChatRequest:
    """Decode and check a chat completion; raises a 400 that names the field at fault."""
    request = _decode(_chat, body)
    _check_sampling(request)
    _check_output(request)
    _check_tools(request)
    return request


def completion(body: bytes) -> CompletionRequest:
    """Decode and check a completion; raises a 400 that names the field at fault."""
    request = _decode(_completion, body)
    _check_sampling(request)
    _check_texts("prompt", request.prompt, request.prompts)
    if request.best_of is not None and request.best_of > request.choices:
        raise errors.unsupported("best_of", "Candidates are not ranked here; use n and choose yourself.")
    if request.echo and request.logprobs:
        raise errors.unsupported("logprobs", "There are no log probabilities of the prompt; leave out echo.")
    return request


def embedding(body: bytes) -> EmbeddingRequest:
    """Decode and check an embedding request; raises a 400 that names the field at fault."""
    request = _decode(_embedding, body)
    _check_texts("input", request.input, request.texts)
    return request


def _decode(decoder: msgspec.json.Decoder[Body], body: bytes) -> Body:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as problem:
        text, _, path = str(problem).partition(" - at `$")
        if text.startswith("Object missing required field"):
            field = text.split("`")[1]
            param = f"{path.rstrip('`').lstrip('.')}.{field}".lstrip(".")
            raise errors.invalid(
                f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter"
            ) from None
        param = path.rstrip("`").lstrip(".")
        where = f"Invalid value for '{param}': " if param else "Invalid request body: "
        raise errors.invalid(where + text + ".", param=param or None, code="invalid_value") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise errors.invalid(f"The request body is not valid JSON: {problem}.", code="invalid_json") from None


def _check_sampling(request: Sampling) -> None:
    if isinstance(request.stop, list) and len(request.stop) > _MAX_STOPS:
        raise errors.invalid(f"At most {_MAX_STOPS} stop sequences are allowed.", param="stop")
    if request.logit_bias and any(request.logit_bias.values()):
        raise errors.unsupported("logit_bias", "Ollama cannot bias single tokens.")


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


def _check_texts(param: str, given: str | list[str | int | list[int]], texts: list[str]) -> None:
    wanted = 1 if isinstance(given, str) else len(given)
    if wanted == 0:
        raise errors.invalid(f"'{param}' must not be an empty list.", param=param)
    if wanted > _MAX_INPUTS:
        raise errors.invalid(f"'{param}' must have at most {_MAX_INPUTS} items.", param=param)
    if len(texts) != wanted:
        raise errors.invalid(
            f"'{param}' holds token ids. They belong to OpenAI's tokenizer and mean nothing to this model: "
            "send text (LangChain: check_embedding_ctx_length=False).",
            param=param,
            code="unsupported_value",
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
