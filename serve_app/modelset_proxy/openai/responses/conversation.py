"""The items that a client sends, made into the messages of a chat.

An assistant's turn is several items and one message: what it thought, what it said, and what it called.
"""

from typing import Any, Literal

import msgspec

from modelset_proxy.openai import errors, reading, requests, steps
from modelset_proxy.openai.responses import names

# So many items are read in a step: a few milliseconds.
_AT_ONCE = 1_000
_NOT_STORED = "Nothing is stored here; send the item itself."


class InputText(msgspec.Struct, tag_field="type", tag="input_text"):
    """Text that was sent."""

    text: str


class OutputText(msgspec.Struct, tag_field="type", tag="output_text"):
    """Text that a model answered earlier."""

    text: str


class Refusal(msgspec.Struct, tag_field="type", tag="refusal"):
    """A model's earlier refusal."""

    refusal: str


class InputImage(msgspec.Struct, tag_field="type", tag="input_image"):
    """An image; one that was uploaded has no ``image_url``."""

    image_url: str | None = None
    detail: str | None = None


class InputFile(msgspec.Struct, tag_field="type", tag="input_file"):
    """A file; one that was uploaded, or is somewhere else, has no ``file_data``."""

    file_data: str | None = None
    filename: str | None = None


class InputAudio(msgspec.Struct, tag_field="type", tag="input_audio"):
    """Audio."""

    input_audio: Any = None


Part = InputText | OutputText | Refusal | InputImage | InputFile | InputAudio
Content = str | list[Part]


class Message(msgspec.Struct, tag_field="type", tag="message"):
    """What somebody said."""

    role: Literal["user", "assistant", "system", "developer"]
    content: Content


class FunctionCall(msgspec.Struct, tag_field="type", tag="function_call"):
    """A call that a model made earlier."""

    call_id: str
    name: requests.ToolName
    arguments: str


class FunctionCallOutput(msgspec.Struct, tag_field="type", tag="function_call_output"):
    """What came of a call."""

    call_id: str
    output: Content


class Thought(msgspec.Struct):
    """A part of what a model thought."""

    text: str


class Reasoning(msgspec.Struct, tag_field="type", tag="reasoning"):
    """What a model thought earlier, or what it came to."""

    content: list[Thought] | None = None
    summary: list[Thought] | None = None


Item = Message | FunctionCall | FunctionCallOutput | Reasoning
_KINDS = frozenset(str(kind.__struct_config__.tag) for kind in Item.__args__)


def messages(
    given: str | list[dict[str, Any]], instructions: str | None, own: names.Names
) -> steps.Steps[list[requests.Message]]:
    """Return the messages, and note in ``own`` which items they are made of; raises a 400."""
    chat = _Chat(own)
    if instructions is not None:
        chat.append("instructions", requests.SystemMessage(instructions))
    if isinstance(given, str):
        chat.append("input", requests.UserMessage(given))
        return chat.messages
    if not given:
        raise errors.invalid("'input' must not be an empty list.", param="input")
    for number, fields in enumerate(given):
        if number % _AT_ONCE == _AT_ONCE - 1:
            yield
        where = f"input[{number}]"
        chat.add(where, _item(fields, where))
    return chat.messages


def _item(fields: dict[str, Any], where: str) -> Item:
    kind = fields.get("type")
    if kind is None:
        fields["type"] = "message"
    elif not isinstance(kind, str) or kind not in _KINDS:
        why = _NOT_STORED if kind == "item_reference" else f"Send one of {', '.join(sorted(_KINDS))}."
        raise errors.unsupported(where, f"Items of type '{errors.shown(kind)}' cannot be read here. {why}")
    item: Item = reading.convert(fields, Item, where)
    return item


class _Chat:
    """A chat that grows by items."""

    def __init__(self, own: names.Names) -> None:
        self.messages: list[requests.Message] = []
        self._own = own
        self._called: set[str] = set()

    def append(self, where: str, message: requests.Message) -> None:
        self._own.messages.append(where)
        self.messages.append(message)

    def add(self, where: str, item: Item) -> None:
        if isinstance(item, Message):
            self._say(where, item)
        elif isinstance(item, Reasoning):
            if thoughts := _thoughts(item):
                self._turn(where, fresh=self._has_begun()).reasoning_content = thoughts
        elif isinstance(item, FunctionCall):
            self._call(where, item)
        elif item.call_id in self._called:
            words = _words(item.output, f"{where}.output")
            self.append(where, requests.ToolMessage(words, item.call_id))
        else:
            raise errors.invalid(
                "No earlier 'function_call' item has this 'call_id'.", param=f"{where}.call_id"
            )

    def _say(self, where: str, message: Message) -> None:
        content = f"{where}.content"
        if message.role == "user":
            self.append(where, requests.UserMessage(_shown(message.content, content)))
        elif message.role == "assistant":
            said = _said(message.content, content)
            self._turn(where, fresh=self._has_begun()).content = said
        elif message.role == "system":
            self.append(where, requests.SystemMessage(_words(message.content, content)))
        else:
            self.append(where, requests.DeveloperMessage(_words(message.content, content)))

    def _call(self, where: str, call: FunctionCall) -> None:
        turn = self._turn(where)
        turn.tool_calls = turn.tool_calls or []
        self._own.calls[len(self.messages) - 1, len(turn.tool_calls)] = where
        function = requests.CalledFunction(call.name, call.arguments)
        turn.tool_calls.append(requests.FunctionCall(call.call_id, function))
        self._called.add(call.call_id)

    def _has_begun(self) -> bool:
        """Whether an assistant has said or called something: what comes next is another turn's."""
        last = self.messages[-1] if self.messages else None
        return isinstance(last, requests.AssistantMessage) and bool(last.content or last.tool_calls)

    def _turn(self, where: str, *, fresh: bool = False) -> requests.AssistantMessage:
        """Return the message of an assistant's turn, which may be a ``fresh`` one."""
        last = self.messages[-1] if self.messages else None
        if isinstance(last, requests.AssistantMessage) and not fresh:
            return last
        turn = requests.AssistantMessage()
        self.append(where, turn)
        return turn


def _thoughts(item: Reasoning) -> str:
    return "\n\n".join(part.text for part in item.content or item.summary or ())


def _words(content: Content, where: str) -> str | list[requests.TextPart]:
    if isinstance(content, str):
        return content
    return [_word(part, f"{where}[{number}]") for number, part in enumerate(content)]


def _word(part: Part, where: str) -> requests.TextPart:
    if isinstance(part, InputText | OutputText):
        return requests.TextPart(part.text)
    kind = part.__struct_config__.tag
    raise errors.unsupported(where, f"Content of type '{kind}' is not read here; send it as the user's.")


def _said(content: Content, where: str) -> str | list[requests.TextPart | requests.RefusalPart]:
    if isinstance(content, str):
        return content
    return [
        requests.RefusalPart(part.refusal) if isinstance(part, Refusal) else _word(part, f"{where}[{number}]")
        for number, part in enumerate(content)
    ]


def _shown(content: Content, where: str) -> requests.UserContent:
    if isinstance(content, str):
        return content
    return [_seen(part, f"{where}[{number}]") for number, part in enumerate(content)]


def _seen(
    part: Part, where: str
) -> requests.TextPart | requests.ImagePart | requests.AudioPart | requests.FilePart | requests.RefusalPart:
    if isinstance(part, InputImage):
        if part.image_url is None:
            raise errors.unsupported(where, "No files are kept here; send the image itself, as 'image_url'.")
        return requests.ImagePart(requests.ImageUrl(part.image_url, part.detail))
    if isinstance(part, InputFile):
        if part.file_data is None:
            raise errors.unsupported(where, "No files are kept here; send the file itself, as 'file_data'.")
        return requests.FilePart({"file_data": part.file_data, "filename": part.filename})
    if isinstance(part, InputAudio):
        return requests.AudioPart(part.input_audio)
    if isinstance(part, Refusal):
        return requests.RefusalPart(part.refusal)
    return requests.TextPart(part.text)
