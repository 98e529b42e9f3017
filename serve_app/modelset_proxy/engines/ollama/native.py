"""From OpenAI's requests to the bodies of Ollama's native API (Ollama: api/types.go, server/routes.go).

The native API and not Ollama's own ``/v1``, because the latter overrides the Modelfile's sampling, drops
``max_completion_tokens``, ignores ``tool_choice`` and cuts long prompts in silence.
"""

from typing import Any

import msgspec

from modelset_proxy.engines import encoding
from modelset_proxy.engines.ollama import limits
from modelset_proxy.openai import catalog, errors, requests, steps

_MESSAGES_A_STEP = 256
# They are taken apart, which a text of any other kind is not.
_MOST_ARGUMENTS = 512 * 1024

_LEVELS = {
    "none": "low",
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "high",
    "max": "high",
}


class Forced(msgspec.Struct, frozen=True):
    """The functions of which one must be called; with one, the answer is its arguments, else name and
    arguments. ``named`` is whether the client chose the one, and not only that there be one.
    """

    names: tuple[str, ...]
    named: bool = False


class Body:
    """The body of a native request, made when it is needed: its choices differ in the seed alone.

    ``bulk`` is the field that may be large.
    """

    def __init__(self, fields: dict[str, Any], bulk: str) -> None:
        self._first = encoding.body(fields, bulk)
        self._fields = fields
        self._bulk = bulk

    def of(self, choice: int) -> bytes | encoding.Parts:
        """Return the body for one of the answers to a request."""
        fields = self.fields(choice)
        return self._first if fields is self._fields else encoding.body(fields, self._bulk)

    def fields(self, choice: int) -> dict[str, Any]:
        """Return what is in the body for one of the answers."""
        options: dict[str, Any] = self._fields.get("options", {})
        if not choice or "seed" not in options:
            return self._fields
        return {**self._fields, "options": {**options, "seed": options["seed"] + choice}}


class Chat(msgspec.Struct, frozen=True):
    """The body of ``POST /api/chat``, and how its answer is to be read.

    ``plain`` tells that the answer is what the model writes, word for word; ``images`` are those in the body:
    where each came from, and its base64. They are to be looked at before it is sent.
    """

    body: Body
    forced: Forced | None = None
    single_call: bool = False
    plain: bool = False
    images: list[tuple[str, str]] = []


def chat(
    request: requests.ChatRequest, model: catalog.Model, context: int | None = None
) -> steps.Steps[Chat]:
    """Translate a chat completion for a model that takes so many tokens, as far as that is known."""
    limits.check_sampling(request)
    images: list[tuple[str, str]] = []
    limits.check_fit("messages", context, messages=len(request.messages))
    messages = yield from _messages(request.messages, model, images)
    tools, forced = _tools(request)
    written = yield from _sizes(messages, calls=model.can("tools"))
    described = sum(limits.size(tool["function"].get("description", "")) for tool in tools)
    limits.check_fit("messages", context, size=written + described)
    body: dict[str, Any] = {
        "model": model.name,
        "messages": messages,
        "stream": bool(request.stream),
        # Refused rather than cut: a shortened conversation is a wrong answer that nobody notices.
        "truncate": False,
        "shift": False,
    }
    _add_common(body, model, _options(request, request.limit, model))
    response_format = request.response_format
    if forced is not None:
        body["format"] = _forced_schema(tools)
        messages.append({"role": "user", "content": _forced_instruction(tools)})
    else:
        if tools:
            _require(model, "tools", "tools")
            body["tools"] = tools
        if isinstance(response_format, requests.JsonObjectFormat):
            body["format"] = "json"
        elif isinstance(response_format, requests.JsonSchemaFormat):
            body["format"] = response_format.json_schema.schema
    effort = request.reasoning_effort
    if effort is None and forced is not None:
        # Only what comes after the thoughts is held to a format, and a model may end with its thoughts.
        effort = "none"
    if effort is not None:
        think = _think(effort, model)
        if think is not None:
            body["think"] = think
    if request.logprobs:
        body["logprobs"] = True
        body["top_logprobs"] = request.top_logprobs or 0
    return Chat(
        Body(body, "messages"),
        forced,
        single_call=request.parallel_tool_calls is False,
        plain=_is_plain(body, model),
        images=images,
    )


def _is_plain(body: dict[str, Any], model: catalog.Model) -> bool:
    """Ollama takes thoughts and calls out of what a model writes, and images are not part of any text."""
    if "tools" in body or "format" in body or any("images" in message for message in body["messages"]):
        return False
    return body.get("think") is False or not model.can("thinking")


def completion(request: requests.CompletionRequest, prompt: str, model: catalog.Model) -> Body:
    """Return the body of ``POST /api/generate`` that continues one text.

    The prompt goes in raw, as OpenAI's endpoint continues a text and does not converse. With a suffix the
    model's own template for filling in the middle is needed, and so a model that has one.
    """
    body: dict[str, Any] = {
        "model": model.name,
        "prompt": prompt,
        "stream": bool(request.stream),
        "truncate": False,
        "shift": False,
        # Left out, a thinking model would look for its tags in text that has no template around it.
        "think": False,
    }
    if request.suffix:
        _require(model, "insert", "suffix")
        body["suffix"] = request.suffix
    else:
        body["raw"] = True
    _add_common(body, model, _options(request, request.limit, model))
    if request.logprobs is not None:
        body["logprobs"] = True
        body["top_logprobs"] = request.logprobs
    return Body(body, "prompt")


def embedding(
    request: requests.EmbeddingRequest, model: catalog.Model, context: int | None = None
) -> bytes | encoding.Parts:
    """Return the body of ``POST /api/embed`` for a model that takes so many tokens, as far as is known."""
    texts = limits.words("input", request.inputs)
    limits.check_texts("input", context, texts)
    body: dict[str, Any] = {"model": model.name, "input": texts, "truncate": False}
    if request.dimensions is not None:
        body["dimensions"] = request.dimensions
    _add_common(body, model, {} if model.context_length is None else {"num_ctx": model.context_length})
    return encoding.body(body, "input")


def load(model: catalog.Model) -> tuple[str, bytes]:
    """Return path and body of a request that asks for nothing but to have the model in memory.

    Options that are given when a model is loaded are those of its other requests, or they would load it anew.
    """
    body: dict[str, Any] = {"model": model.name}
    _add_common(body, model, {} if model.context_length is None else {"num_ctx": model.context_length})
    if model.kind == catalog.EMBEDDING:
        return "/api/embed", msgspec.json.encode({**body, "input": []})
    return "/api/generate", msgspec.json.encode(body)


def shortest(model: catalog.Model) -> tuple[str, bytes]:
    """Return path and body of a request for the least that a model can answer."""
    options: dict[str, Any] = {} if model.context_length is None else {"num_ctx": model.context_length}
    body: dict[str, Any] = {"model": model.name}
    if model.kind == catalog.EMBEDDING:
        _add_common(body, model, options)
        return "/api/embed", msgspec.json.encode({**body, "input": ["a"]})
    _add_common(body, model, {**options, "num_predict": 1})
    return "/api/generate", msgspec.json.encode({**body, "prompt": "a", "raw": True, "stream": False})


def unload(model: str) -> tuple[str, bytes]:
    """Return path and body of a request to let go of a model, of either kind."""
    return "/api/generate", msgspec.json.encode({"model": model, "keep_alive": 0})


def keep_alive(text: str) -> int | str:
    """Return Ollama's ``keep_alive``: whole seconds as a number, since "-1" in quotes is refused; else a
    duration.
    """
    try:
        return int(text)
    except ValueError:
        return text


def _add_common(body: dict[str, Any], model: catalog.Model, options: dict[str, Any]) -> None:
    if options:
        body["options"] = options
    if model.keep_alive is not None:
        body["keep_alive"] = keep_alive(model.keep_alive)


def _options(request: requests.Sampling, limit: int | None, model: catalog.Model) -> dict[str, Any]:
    """Only what the client said: what it left out is the Modelfile's to say."""
    options = {
        "num_ctx": model.context_length,
        "num_predict": limit,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "top_k": request.top_k,
        "min_p": request.min_p,
        "presence_penalty": request.presence_penalty,
        "frequency_penalty": request.frequency_penalty,
        "repeat_penalty": request.repeat_penalty,
        "seed": request.seed,
        "stop": request.stops or None,
    }
    return {name: value for name, value in options.items() if value is not None}


def _require(model: catalog.Model, capability: str, param: str) -> None:
    if not model.can(capability):
        raise errors.unsupported(param, f"This model does not support {capability}.")


def _think(effort: str, model: catalog.Model) -> bool | str | None:
    """Ollama takes a level for gpt-oss only, which cannot but think; other models think or do not."""
    if effort != "none":
        _require(model, "thinking", "reasoning_effort")
    if "gpt-oss" in model.name:
        return _LEVELS[effort]
    if effort == "none":
        return False if model.can("thinking") else None
    return True


def _sizes(messages: list[dict[str, Any]], *, calls: bool) -> steps.Steps[int]:
    """Return how many bytes of text a model reads at least: templates leave out earlier thoughts, and calls
    where they know nothing of tools.
    """
    size = 0
    for index, message in enumerate(messages):
        if index and not index % _MESSAGES_A_STEP:
            yield
        size += limits.size(message["content"])
        if calls and "tool_calls" in message:
            made = (call["function"]["arguments"] for call in message["tool_calls"])
            size += sum(len(msgspec.json.encode(arguments)) for arguments in made)
    return size


def _messages(
    messages: list[requests.Message], model: catalog.Model, images: list[tuple[str, str]]
) -> steps.Steps[list[dict[str, Any]]]:
    native: list[dict[str, Any]] = []
    calls: dict[str, str] = {}
    for index, message in enumerate(messages):
        if index and not index % _MESSAGES_A_STEP:
            yield
        where = f"messages[{index}]"
        if isinstance(message, requests.SystemMessage | requests.DeveloperMessage):
            native.append({"role": "system", "content": _text(message.content)})
        elif isinstance(message, requests.UserMessage):
            native.append(_user(message, model, where, images))
        elif isinstance(message, requests.AssistantMessage):
            native.append(_assistant(message, calls, where))
        elif isinstance(message, requests.ToolMessage):
            if message.tool_call_id not in calls:
                raise errors.invalid(
                    "Messages with role 'tool' must answer a call in 'tool_calls' of an earlier message.",
                    param=f"{where}.tool_call_id",
                )
            native.append(
                {
                    "role": "tool",
                    "content": _text(message.content),
                    "tool_call_id": message.tool_call_id,
                    "tool_name": calls[message.tool_call_id],
                }
            )
        else:
            native.append({"role": "tool", "content": message.content or "", "tool_name": message.name})
    return native


def _text(content: str | list[Any] | None) -> str:
    """Join the text of a message's parts, as Ollama itself joins what it keeps apart."""
    if content is None or isinstance(content, str):
        return content or ""
    return "\n\n".join(part.text if isinstance(part, requests.TextPart) else part.refusal for part in content)


def _user(
    message: requests.UserMessage, model: catalog.Model, where: str, images: list[tuple[str, str]]
) -> dict[str, Any]:
    if isinstance(message.content, str):
        return {"role": "user", "content": message.content}
    texts: list[Any] = []
    encoded: list[str] = []
    for number, part in enumerate(message.content):
        at = f"{where}.content[{number}]"
        if isinstance(part, requests.ImagePart):
            if not model.can("vision"):
                raise errors.invalid(
                    "This model does not take images.",
                    param=at,
                    code="unsupported_value",
                )
            param = f"{at}.image_url.url"
            encoded.append(_image(part.image_url.url, param))
            images.append((param, encoded[-1]))
        elif isinstance(part, requests.AudioPart | requests.FilePart):
            kind = "input_audio" if isinstance(part, requests.AudioPart) else "file"
            raise errors.unsupported(at, f"Content of type '{kind}' cannot be read by models here.")
        else:
            texts.append(part)
    native: dict[str, Any] = {"role": "user", "content": _text(texts)}
    if encoded:
        native["images"] = encoded
    return native


def _image(url: str, param: str) -> str:
    """Return the base64 payload of a data: URL. Other URLs are refused: fetching them is a way into the
    network.
    """
    if not url.startswith("data:"):
        raise errors.invalid(
            "Remote images are not fetched. Send the image itself, in base64 (as a URL: "
            "data:image/png;base64,...).",
            param=param,
            code="unsupported_value",
        )
    head, comma, payload = url.partition(",")
    if not comma or not head.startswith("data:image/") or not head.endswith(";base64"):
        raise errors.invalid(
            "An image must be a data: URL of the form data:image/png;base64,...",
            param=param,
            code="invalid_value",
        )
    return payload


def _assistant(message: requests.AssistantMessage, calls: dict[str, str], where: str) -> dict[str, Any]:
    native: dict[str, Any] = {"role": "assistant", "content": _text(message.content) or message.refusal or ""}
    thinking = message.reasoning_content or message.reasoning
    if thinking:
        native["thinking"] = thinking
    made: list[dict[str, Any]] = []
    for number, call in enumerate(message.tool_calls or []):
        at = f"{where}.tool_calls[{number}]"
        if isinstance(call, requests.CustomCall):
            raise errors.unsupported(at, "Only calls of type 'function' can be replayed here.")
        calls[call.id] = call.function.name
        made.append({"id": call.id, "function": _called(call.function, number, at)})
    if message.function_call is not None:
        made.append({"function": _called(message.function_call, len(made), f"{where}.function_call")})
    if made:
        native["tool_calls"] = made
    return native


def _called(function: requests.CalledFunction, index: int, where: str) -> dict[str, Any]:
    """OpenAI carries arguments as a JSON text, Ollama as an object."""
    param = f"{where}.function.arguments"
    if len(function.arguments) > _MOST_ARGUMENTS:
        raise errors.invalid(
            f"Arguments of a tool call must have at most {_MOST_ARGUMENTS} characters.",
            param=param,
            code="string_above_max_length",
        )
    try:
        arguments = msgspec.json.decode(function.arguments or "{}", type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        raise errors.invalid("Arguments of a tool call must be a JSON object.", param=param) from None
    return {"index": index, "name": function.name, "arguments": arguments}


def _tools(request: requests.ChatRequest) -> tuple[list[dict[str, Any]], Forced | None]:
    """Return the tools the model may see, and which of them it must call: Ollama has no tool_choice."""
    choice = request.tool_choice
    if not request.tools or choice == "none":
        return [], None
    named = requests.chosen_functions(choice)
    tools: list[dict[str, Any]] = [
        {"type": "function", "function": _function(tool.function)}
        for tool in request.tools
        if isinstance(tool, requests.FunctionTool) and (not named or tool.function.name in named)
    ]
    must = (
        choice == "required"
        or isinstance(choice, requests.FunctionChoice)
        or (isinstance(choice, requests.AllowedToolsChoice) and choice.allowed_tools.mode == "required")
    )
    if not must:
        return tools, None
    names = tuple(tool["function"]["name"] for tool in tools)
    return tools, Forced(names, named=isinstance(choice, requests.FunctionChoice))


def _function(function: requests.Function) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {}, **(function.parameters or {})}
    properties = parameters["properties"]
    if isinstance(properties, dict):
        # Ollama decodes each property into a struct; JSON schema also allows plain true.
        parameters["properties"] = {
            name: {} if isinstance(schema, bool) else schema for name, schema in properties.items()
        }
    native: dict[str, Any] = {"name": function.name, "parameters": parameters}
    if function.description:
        native["description"] = function.description
    return native


def _forced_schema(tools: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the schema of a call; references within a tool's own schema go on meaning the same."""
    if len(tools) == 1:
        parameters: dict[str, Any] = tools[0]["function"]["parameters"]
        return parameters
    calls = []
    definitions: dict[str, Any] = {}
    for number, tool in enumerate(tools):
        arguments = tool["function"]["parameters"]
        root = f"#/$defs/call_{number}"
        moved = _moved(arguments, root)
        if moved != arguments:
            definitions[f"call_{number}"] = moved
            arguments = {"$ref": root}
        calls.append(
            {
                "type": "object",
                "properties": {"name": {"const": tool["function"]["name"]}, "arguments": arguments},
                "required": ["name", "arguments"],
            }
        )
    return {"anyOf": calls, "$defs": definitions} if definitions else {"anyOf": calls}


def _moved(schema: Any, root: str) -> Any:
    """Return a schema whose references to its own root go to ``root``, where it is put."""
    if isinstance(schema, list):
        return [_moved(item, root) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: root + value[1:]
        if name == "$ref" and isinstance(value, str) and value.startswith("#")
        else _moved(value, root)
        for name, value in schema.items()
    }


def _forced_instruction(tools: list[dict[str, Any]]) -> str:
    """Say what the grammar enforces, so that the model fills it with sense.

    It is a user message since a system message may replace the one of the Modelfile, and works with models
    whose template knows nothing of tools.
    """
    described = msgspec.json.encode([tool["function"] for tool in tools]).decode()
    if len(tools) == 1:
        name = tools[0]["function"]["name"]
        return (
            f"Call the function {name} now. It is: {described}\n"
            "Reply with its arguments as JSON and nothing else."
        )
    return (
        f"Call one of these functions now: {described}\n"
        'Reply with JSON of the form {"name": ..., "arguments": {...}} and nothing else.'
    )
