"""From Anthropic's requests to chats, which every engine answers."""

import contextlib
from collections.abc import Iterator

import msgspec

from modelset_proxy.openai import errors, requests, steps
from modelset_proxy.openai.anthropic import bodies

# So many messages are translated in a step: a few milliseconds.
_AT_ONCE = 1_000
# What an effort is worth in tokens of thought; above the last it is high.
_BUDGETS: tuple[tuple[int, requests.Effort], ...] = ((4_096, "low"), (16_384, "medium"))
_NAMES = {"response_format": "output_config.format", "tools.function.parameters": "tools.input_schema"}


class Chat(msgspec.Struct):
    """A chat, and what its fields are called in the request that it was made of.

    ``names`` are by the beginning of a field's name in the chat.
    """

    request: requests.ChatRequest
    names: dict[str, str]

    @contextlib.contextmanager
    def own_names(self) -> Iterator[None]:
        """Have errors name the fields that the client sent."""
        try:
            yield
        except errors.ApiError as error:
            given = error.param or ""
            # Of beginnings of one text the longest is the greatest.
            if known := max(filter(given.startswith, self.names), default=""):
                error.param = self.names[known] + given.removeprefix(known)
                error.message = error.message.replace(f"'{given}'", f"'{error.param}'")
            raise


def chat(request: bodies.MessagesRequest, *, can_think: bool) -> steps.Steps[Chat]:
    """Translate a request, in steps; raises a 400 that names the field at fault."""
    conversation = _Conversation()
    if request.system:
        conversation.system(request.system)
    for number, message in enumerate(request.messages):
        if number % _AT_ONCE == _AT_ONCE - 1:
            yield
        conversation.add(message, f"messages[{number}]")
    choice = request.tool_choice
    translated = requests.ChatRequest(
        model=request.model,
        messages=conversation.messages,
        stream=request.stream,
        max_tokens=request.max_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=request.top_k,
        stop=request.stop_sequences,
        tools=[_tool(tool) for tool in request.tools or ()] or None,
        tool_choice=_tool_choice(choice),
        parallel_tool_calls=False if choice and choice.disable_parallel_tool_use else None,
        response_format=_format(request.output_config),
        reasoning_effort=_effort(request, can_think=can_think),
    )
    return Chat(translated, {**_NAMES, **conversation.names})


class _Conversation:
    """Collects the messages of a chat, and where what they hold came from."""

    def __init__(self) -> None:
        self.messages: list[requests.Message] = []
        self.names: dict[str, str] = {}
        self._calls: set[str] = set()

    def system(self, content: str | list[bodies.Text]) -> None:
        """Add instructions."""
        given = content if isinstance(content, str) else [requests.TextPart(text.text) for text in content]
        self.messages.append(requests.SystemMessage(given))

    def add(self, message: bodies.Message, where: str) -> None:
        """Add a message."""
        if isinstance(message, bodies.SystemMessage):
            self.system(message.content)
        elif isinstance(message, bodies.AssistantMessage):
            self._assistant(message)
        elif isinstance(message.content, str):
            self.messages.append(requests.UserMessage(message.content))
        else:
            self._user(message.content, f"{where}.content")

    def _assistant(self, message: bodies.AssistantMessage) -> None:
        if isinstance(message.content, str):
            self.messages.append(requests.AssistantMessage(message.content))
            return
        said: list[requests.TextPart | requests.RefusalPart] = []
        thoughts: list[str] = []
        calls: list[requests.FunctionCall | requests.CustomCall] = []
        for block in message.content:
            if isinstance(block, bodies.Text):
                said.append(requests.TextPart(block.text))
            elif isinstance(block, bodies.Thinking):
                thoughts.append(block.thinking)
            elif isinstance(block, bodies.ToolUse):
                self._calls.add(block.id)
                arguments = msgspec.json.encode(block.input).decode()
                calls.append(requests.FunctionCall(block.id, requests.CalledFunction(block.name, arguments)))
        self.messages.append(
            requests.AssistantMessage(
                said or None, tool_calls=calls or None, reasoning_content="\n\n".join(thoughts) or None
            )
        )

    def _user(self, content: list[bodies.UserBlock], where: str) -> None:
        """Add what tools answered, which follows their calls, and then all else, with the images of both."""
        parts = _Parts()
        for number, block in enumerate(content):
            at = f"{where}[{number}]"
            if isinstance(block, bodies.ToolResult):
                self.messages.append(self._result(block, at, parts))
            else:
                parts.add(block, at)
        if parts.parts:
            index = len(self.messages)
            self.names |= {f"messages[{index}].{part}": own for part, own in parts.names.items()}
            self.messages.append(requests.UserMessage(parts.parts))

    def _result(self, result: bodies.ToolResult, where: str, images: "_Parts") -> requests.ToolMessage:
        if result.tool_use_id not in self._calls:
            param = f"{where}.tool_use_id"
            raise errors.invalid(f"'{param}' is not the id of an earlier 'tool_use' block.", param=param)
        texts: list[str] = []
        if isinstance(result.content, str):
            texts.append(result.content)
        else:
            for number, block in enumerate(result.content or ()):
                if isinstance(block, bodies.Text):
                    texts.append(block.text)
                else:
                    images.add(block, f"{where}.content[{number}]")
        text = "\n\n".join(texts)
        return requests.ToolMessage(f"Error: {text}" if result.is_error else text, result.tool_use_id)


class _Parts:
    """Collects the parts of a user's message, and where they came from."""

    def __init__(self) -> None:
        self.parts: list[
            requests.TextPart
            | requests.ImagePart
            | requests.AudioPart
            | requests.FilePart
            | requests.RefusalPart
        ] = []
        self.names: dict[str, str] = {}

    def add(
        self,
        block: bodies.Text | bodies.Image | bodies.Document | bodies.SearchResult,
        where: str,
    ) -> None:
        """Add what a block holds; raises a 400 for one that no chat can hold."""
        part = f"content[{len(self.parts)}]"
        if isinstance(block, bodies.Text):
            self.parts.append(requests.TextPart(block.text))
        elif isinstance(block, bodies.Image):
            url, field = _image(block.source, f"{where}.source")
            self.names |= {part: where, f"{part}.image_url.url": field}
            self.parts.append(requests.ImagePart(requests.ImageUrl(url)))
        else:
            kind = block.__struct_config__.tag
            raise errors.unsupported(where, f"Content of type '{kind}' cannot be read by models here.")


def _image(source: bodies.Base64Source | bodies.UrlSource | bodies.FileSource, where: str) -> tuple[str, str]:
    """Return the URL of an image, and the field that holds what is in it."""
    if isinstance(source, bodies.Base64Source):
        return f"data:{source.media_type};base64,{source.data}", f"{where}.data"
    if isinstance(source, bodies.UrlSource):
        return source.url, f"{where}.url"
    raise errors.unsupported(where, "No files are kept here. Send the image itself, in base64.")


def _tool(tool: bodies.Tool) -> requests.FunctionTool | requests.CustomTool:
    return requests.FunctionTool(
        requests.Function(tool.name, tool.description, tool.input_schema, tool.strict)
    )


def _tool_choice(choice: bodies.Choice | None) -> requests.ToolChoice | None:
    match choice:
        case bodies.AnyChoice():
            return "required"
        case bodies.NoChoice():
            return "none"
        case bodies.ToolChoice():
            return requests.FunctionChoice(requests.NamedFunction(choice.name))
    return None


def _format(config: bodies.OutputConfig | None) -> requests.JsonSchemaFormat | None:
    if config is None or config.format is None:
        return None
    return requests.JsonSchemaFormat(requests.JsonSchema("answer", schema=config.format.schema))


def _effort(request: bodies.MessagesRequest, *, can_think: bool) -> requests.Effort | None:
    """Return how much the model is to think; None leaves it to the model.

    Some clients ask every model for thoughts, and a model without any keeps within every budget.
    """
    if isinstance(request.thinking, bodies.DisabledThinking):
        return "none"
    if not can_think:
        return None
    if request.output_config and request.output_config.effort:
        return request.output_config.effort
    if not isinstance(request.thinking, bodies.EnabledThinking):
        return None
    budget = request.thinking.budget_tokens
    return next((effort for limit, effort in _BUDGETS if budget < limit), "high")
