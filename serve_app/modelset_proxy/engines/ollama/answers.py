"""From what Ollama's native API answers to neutral pieces and OpenAI errors (Ollama: api/types.go,
server/routes.go).
"""

import bisect
import datetime
import itertools
import re

import msgspec

from modelset_proxy.engines import asking, decoders, port, refusals
from modelset_proxy.engines.ollama import native
from modelset_proxy.openai import errors, pieces

_TOO_LONG = re.compile(r"exceed\w* (maximum |the |available )*context", re.IGNORECASE)
# The process of the model died of this request, and on another server it would die again.
_RUNNER_DIED = re.compile(r"runner (process )?has (unexpectedly )?(terminated|stopped)", re.IGNORECASE)
_TOO_LARGE = re.compile(r"requires more system memory|unable to load full model on GPU", re.IGNORECASE)
_BAD_FORMAT = re.compile(
    r"invalid JSON schema in format|invalid format|failed to parse grammar", re.IGNORECASE
)
_FOUND_SECONDS = 0.1
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}".encode()
_ASCII_ELSE_FF = bytes(range(128)) + b"\xff" * 128
_GO_TYPE = re.compile(r"cannot unmarshal .* into Go struct field \w+\.(\S+) of type")
_NO_ROUTE = "404 page not found"


class NativeFunction(msgspec.Struct):
    """The function of a tool call; arguments stay the JSON that they are."""

    name: str
    arguments: msgspec.Raw = msgspec.Raw(b"{}")


class NativeCall(msgspec.Struct):
    """A tool call by the model."""

    function: NativeFunction
    id: str = ""


class NativeMessage(msgspec.Struct):
    """What the model added."""

    content: str = ""
    thinking: str = ""
    tool_calls: list[NativeCall] | None = None


class NativeTokenLogprob(msgspec.Struct):
    """A token with its natural-log probability."""

    token: str
    logprob: float
    bytes: list[int] | None = None


class NativeLogprob(NativeTokenLogprob):
    """The chosen token and the likeliest ones."""

    top_logprobs: list[NativeTokenLogprob] | None = None


class Line(msgspec.Struct):
    """One line of ``/api/chat`` or ``/api/generate``, or their whole answer when not streamed.

    Counts are absent when zero. Durations are in nanoseconds.
    """

    message: NativeMessage | None = None
    response: str = ""
    thinking: str = ""
    done: bool = False
    done_reason: str = ""
    prompt_eval_count: int = 0
    eval_count: int = 0
    load_duration: int = 0
    prompt_eval_duration: int = 0
    logprobs: list[NativeLogprob] | None = None
    error: str | None = None

    def outcome(self) -> port.Outcome:
        """Return how the answer went."""
        return port.Outcome(
            _load_seconds(self.load_duration),
            self.prompt_eval_duration / 1e9,
            self.prompt_eval_count,
            self.eval_count,
        )


class EmbedAnswer(msgspec.Struct):
    """The answer of ``/api/embed``, with the number of each vector in its place."""

    embeddings: list[int]
    prompt_eval_count: int = 0
    load_duration: int = 0


class HeldModel(msgspec.Struct):
    """One entry of ``/api/tags``: a model on disk."""

    name: str
    digest: str = ""
    modified_at: str = ""
    size: int = 0

    @property
    def changed(self) -> int:
        """Unix seconds of Ollama's RFC 3339 time, which has up to nine digits of fraction; 0 without one."""
        try:
            return int(datetime.datetime.fromisoformat(self.modified_at).timestamp())
        except ValueError:
            return 0


class LoadedModel(msgspec.Struct):
    """One entry of ``/api/ps``: a model in memory."""

    name: str
    size: int = 0
    context_length: int = 0


class Tags(msgspec.Struct):
    """The answer of ``/api/tags``."""

    models: list[HeldModel] = []


class Processes(msgspec.Struct):
    """The answer of ``/api/ps``."""

    models: list[LoadedModel] = []


class Show(msgspec.Struct):
    """The part of ``/api/show`` that matters here."""

    capabilities: list[str] = []
    modelfile: str = ""
    parameters: str = ""
    model_info: dict[str, msgspec.Raw] = {}

    @property
    def longest_context(self) -> int:
        """How many tokens the model was made for; 0 where it does not say."""
        for name, value in self.model_info.items():
            if name.endswith(".context_length") and bytes(value).isdigit():
                return int(bytes(value))
        return 0


class Progress(msgspec.Struct):
    """One line of ``/api/pull``; sizes in bytes."""

    status: str = ""
    digest: str = ""
    total: int = 0
    completed: int = 0
    error: str | None = None


class ErrorObject(msgspec.Struct):
    """The error of Ollama's own OpenAI routes."""

    message: str = ""


class ErrorBody(msgspec.Struct):
    """How every endpoint says no."""

    error: str | ErrorObject = ""


_line = msgspec.json.Decoder(Line)
_embed = msgspec.json.Decoder(EmbedAnswer)
_error = msgspec.json.Decoder(ErrorBody)


class Reader:
    """Turns the lines of one answer into pieces, in order."""

    def __init__(self, forced: native.Forced | None = None, *, single_call: bool = False) -> None:
        self._forced = forced
        self._single_call = single_call
        self._attempts = 0
        self._held_back: list[str] = []
        self._unplaced: list[NativeLogprob] = []
        self.outcome = port.Outcome()
        self._done = False

    def read(self, line: bytes) -> pieces.Piece:
        """Return what a line adds; raises ApiError for an in-band error, BrokenAnswerError for no answer."""
        try:
            native = _line.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as problem:
            raise decoders.BrokenAnswerError(f"not a line of Ollama's: {problem}") from None
        if native.error is not None:
            raise error(500, native.error)
        message = native.message
        if message is None:
            piece = pieces.Piece(native.response, native.thinking)
        else:
            piece = pieces.Piece(message.content, message.thinking)
            if message.tool_calls:
                piece.tool_calls = self._tool_calls(message.tool_calls)
        if self._forced is not None:
            self._held_back.append(piece.content)
            piece.content = ""
        elif native.logprobs:
            piece.logprobs = self._logprobs(native.logprobs, piece, whole=native.done)
        if native.done:
            self._finish(native, piece)
        return piece

    def finish(self) -> None:
        """Raise BrokenAnswerError where the answer has not said that it is done."""
        if not self._done:
            raise decoders.BrokenAnswerError(
                "the answer ended before it was done",
                hint="Ollama does so when a model repeats itself without end.",
            )

    def _finish(self, native: Line, piece: pieces.Piece) -> None:
        self._done = True
        self.outcome = native.outcome()
        reason = "length" if native.done_reason == "length" else "stop"
        if self._forced is not None:
            if self._attempts == 0:
                piece.tool_calls = _forced_calls(self._forced, "".join(self._held_back).strip(), reason)
            # OpenAI ends a call that was asked for by name with "stop".
            if reason == "stop" and not self._forced.named:
                reason = "tool_calls"
        elif self._attempts and reason == "stop":
            reason = "tool_calls"
        piece.end = pieces.End(reason, native.prompt_eval_count, native.eval_count)

    def _logprobs(
        self, entries: list[NativeLogprob], piece: pieces.Piece, *, whole: bool
    ) -> list[pieces.Logprob]:
        """Return those of the tokens in the content, as OpenAI does.

        Ollama gives them of all that the model said: of thoughts, tags and calls, and early of what it holds
        back until it knows which of these it is.
        """
        if whole or piece.reasoning or piece.tool_calls or self._unplaced or not piece.content:
            entries = self._unplaced + entries
            self._unplaced = [] if piece.content or piece.reasoning else entries
            entries = _within(piece.content, entries)
        return [_logprob(entry) for entry in entries]

    def _tool_calls(self, calls: list[NativeCall]) -> list[pieces.ToolCall]:
        if self._single_call:
            calls = calls[: max(0, 1 - self._attempts)]
        self._attempts += len(calls)
        return [
            pieces.ToolCall(
                call.id or pieces.call_id(), call.function.name, bytes(call.function.arguments).decode()
            )
            for call in calls
        ]


def _forced_calls(forced: native.Forced, content: str, reason: str) -> list[pieces.ToolCall]:
    """Make the call; an answer that was cut off before its call has none, as at OpenAI."""
    if content:
        return [_forced_call(forced, content)]
    if reason == "length":
        return []
    raise errors.upstream_failed(
        "The model ended its answer without calling a function. It may do better without reasoning.",
        code="incomplete_answer",
    )


def _forced_call(forced: native.Forced, content: str) -> pieces.ToolCall:
    """Make a tool call of an answer that a grammar held to the call's shape."""
    if len(forced.names) == 1:
        return pieces.ToolCall(pieces.call_id(), forced.names[0], content)
    try:
        chosen = msgspec.json.decode(content, type=NativeFunction)
    except msgspec.DecodeError:
        # Cut off by the token limit: hand over what there is, as OpenAI does with cut-off arguments.
        found = re.match(
            r'\s*\{\s*"name"\s*:\s*"([^"]*)"(?:\s*,\s*"arguments"\s*:\s*)?(.*)', content, re.DOTALL
        )
        name, arguments = (found[1], found[2]) if found else (forced.names[0], content)
        return pieces.ToolCall(pieces.call_id(), name, arguments)
    return pieces.ToolCall(pieces.call_id(), chosen.name, bytes(chosen.arguments).decode())


def _within(content: str, entries: list[NativeLogprob]) -> list[NativeLogprob]:
    """Return the entries of the tokens that make up the content, the last of those that would.

    The content may begin within a token, whose white space was cut off, and end within one, at a stop
    sequence.
    """
    if not content:
        return []
    text = _outline(content.encode())
    tokens = [
        _outline(entry.token.encode() if entry.bytes is None else bytes(entry.bytes)) for entry in entries
    ]
    begin = b"".join(tokens).rfind(text)
    if begin < 0:
        return entries
    ends = list(itertools.accumulate(map(len, tokens)))
    first = bisect.bisect_right(ends, begin)
    last = bisect.bisect_left(ends, begin + len(text))
    return entries[first : last + 1]


def _outline(text: bytes) -> bytes:
    """Make all bytes alike that may be of a letter that was cut into tokens: Ollama gives a replacement
    character for each of its bytes.
    """
    return text.replace(_REPLACEMENT, b"\xff").translate(_ASCII_ELSE_FF)


def _logprob(entry: NativeLogprob) -> pieces.Logprob:
    top = [pieces.TokenLogprob(other.token, other.logprob, other.bytes) for other in entry.top_logprobs or ()]
    return pieces.Logprob(entry.token, entry.logprob, entry.bytes, top)


def _load_seconds(nanoseconds: int) -> float:
    """Return what a load took; less is what Ollama takes to find a model that is loaded."""
    seconds = nanoseconds / 1e9
    return seconds if seconds > _FOUND_SECONDS else 0.0


def embeddings(body: bytes) -> tuple[list[int], port.Outcome]:
    """Read the answer of ``/api/embed``, of which ``vectors.Vectors`` has taken out the vectors; return their
    numbers in the order of the texts.
    """
    try:
        answer = _embed.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        raise decoders.BrokenAnswerError(f"not an answer of /api/embed: {problem}") from None
    return answer.embeddings, port.Outcome(
        _load_seconds(answer.load_duration), prompt_tokens=answer.prompt_eval_count
    )


def error_text(body: bytes) -> str:
    """Return the message of an error body, or what there is of it."""
    try:
        error = _error.decode(body).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        return body[:200].decode("utf-8", "replace")
    return error if isinstance(error, str) else error.message


def refusal(status: int, body: bytes, question: asking.Question) -> refusals.Refusal:
    """Return what a status but 200 means."""
    text = error_text(body)
    if _TOO_LARGE.search(text):
        # The server is well, but cannot have the model now.
        return refusals.Refusal(_too_large(text), text, absent=True)
    if status == 404:
        return refusals.no_such_route(text) if text.startswith(_NO_ROUTE) else refusals.absent(text)
    return refusals.Refusal(error(status, text, param=question.param, schema=question.schema), text)


def error(
    status: int, text: str, *, param: str = "messages", schema: str = "response_format"
) -> errors.ApiError:
    """Return the OpenAI error for one of Ollama's; ``param`` is the field that holds the prompt, ``schema``
    the one that holds what the answer is to follow.
    """
    if _TOO_LONG.search(text):
        return errors.context_length_exceeded(param)
    if _BAD_FORMAT.search(text):
        return errors.invalid(
            "The JSON schema cannot be turned into a grammar by the model server.",
            param=schema,
            code="invalid_value",
        )
    if found := _GO_TYPE.search(text):
        # Ollama reads schemas of tools into structs, which take less than JSON schema allows.
        return errors.invalid(
            f"The model server cannot take the value of '{found[1]}'.", param=found[1], code="invalid_value"
        )
    if _RUNNER_DIED.search(text):
        return errors.upstream_failed(
            "The model's process ended while answering. The same request would end it again.", may_retry=False
        )
    return refusals.by_status(status, text)


def _too_large(text: str) -> errors.ApiError:
    message = refusals.public(text, "The model needs more memory than its servers have free.")
    return errors.unavailable(message, code="model_too_large")
