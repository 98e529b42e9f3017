"""From what servers of OpenAI's API answer to neutral pieces. Pure."""

import itertools

import msgspec

from modelset_proxy.engines import decoders, port
from modelset_proxy.engines.compatible import complaints
from modelset_proxy.openai import pieces

_DATA = b"data:"
_DONE = b"[DONE]"


class Function(msgspec.Struct):
    """What a call says of its function, or adds to it."""

    name: str | None = None
    arguments: str | None = None


class Call(msgspec.Struct):
    """A tool call, or a part of one; ``index`` tells which, where parts come."""

    index: int | None = None
    id: str | None = None
    function: Function = msgspec.field(default_factory=Function)


class Said(msgspec.Struct):
    """What the model said, or added; thoughts come under either of two names in use."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[Call] | None = None


class Token(msgspec.Struct):
    """A token with its natural-log probability."""

    token: str
    logprob: float | None = None
    bytes: list[int] | None = None
    top_logprobs: list["Token"] | None = None


class Logprobs(msgspec.Struct):
    """Log probabilities: a chat's, or the columns of a completion."""

    content: list[Token] | None = None
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None


class Choice(msgspec.Struct):
    """One answer, or a part of it: a chat's ``delta`` or ``message``, or a completion's ``text``."""

    delta: Said | None = None
    message: Said | None = None
    text: str | None = None
    logprobs: Logprobs | None = None
    finish_reason: str | None = None


class Usage(msgspec.Struct):
    """The tokens that an answer took."""

    prompt_tokens: int = 0
    completion_tokens: int | None = None


class Answer(msgspec.Struct):
    """A chat or a completion, whole or a chunk of it."""

    choices: list[Choice] | None = None
    usage: Usage | None = None
    error: complaints.Error | str | None = None


class Vector(msgspec.Struct):
    """One embedding, with the number of its vector in the place of that."""

    embedding: int
    index: int = 0


class Vectors(msgspec.Struct):
    """The answer of ``/v1/embeddings``."""

    data: list[Vector]
    usage: Usage = msgspec.field(default_factory=Usage)


class Model(msgspec.Struct):
    """One entry of ``/v1/models``; ``created`` is in Unix seconds."""

    id: str
    created: int | float | None = None


class Models(msgspec.Struct):
    """The answer of ``/v1/models``; some servers say null for an empty list."""

    data: list[Model] | None


_answer = msgspec.json.Decoder(Answer)
_vectors = msgspec.json.Decoder(Vectors)


class _Call:
    """A tool call whose parts are still coming."""

    def __init__(self, part: Call) -> None:
        self.index = part.index
        self.id = part.id or ""
        self._name = ""
        self._arguments: list[str] = []

    def add(self, function: Function) -> None:
        self._name = self._name or function.name or ""
        self._arguments.append(function.arguments or "")

    def whole(self) -> pieces.ToolCall:
        return pieces.ToolCall(self.id or pieces.call_id(), self._name, "".join(self._arguments) or "{}")


class Reader:
    """Turns one answer into pieces, in order; implements ``decoders.Reader`` for streams."""

    def __init__(self, *, single_call: bool = False) -> None:
        self._single_call = single_call
        self._calls: list[_Call] = []
        self._reason: str | None = None
        self._usage = Usage()
        self._ended = False
        self.outcome = port.Outcome()

    def read(self, line: bytes) -> pieces.Piece | None:
        """Return what a line of a stream adds; comments and names of events add nothing."""
        if not line.startswith(_DATA):
            return None
        data = line[len(_DATA) :]
        if data.strip() == _DONE:
            self._reason = self._reason or "stop"
            return self.finish()
        return self._add(data)

    def finish(self) -> pieces.Piece | None:
        """Return the end; the tokens are told after the finish reason, if at all."""
        if self._ended:
            return None
        if self._reason is None:
            raise decoders.BrokenAnswerError("the answer ended before it was done")
        self._ended = True
        taken = self._usage.prompt_tokens, self._usage.completion_tokens or 0
        self.outcome = port.Outcome(prompt_tokens=taken[0], answer_tokens=taken[1])
        calls = [call.whole() for call in self._calls[: 1 if self._single_call else None]]
        return pieces.Piece(tool_calls=calls, end=pieces.End(self._reason, *taken))

    def whole(self, attempt: port.Attempt, body: bytes) -> list[pieces.Piece]:
        """Return the pieces of an answer that is not streamed."""
        read = [self._add(body), self.finish()]
        attempt.outcome = self.outcome
        return [piece for piece in read if piece is not None]

    def _add(self, data: bytes) -> pieces.Piece | None:
        try:
            answer = _answer.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as problem:
            raise decoders.BrokenAnswerError(f"not an answer of OpenAI's API: {problem}") from None
        if answer.error is not None:
            raise complaints.within(answer.error)
        self._usage = answer.usage or self._usage
        if not answer.choices:
            return None
        choice = answer.choices[0]
        self._reason = choice.finish_reason or self._reason
        said = choice.delta or choice.message
        if said is None:
            piece = pieces.Piece(choice.text or "")
        else:
            piece = pieces.Piece(said.content or "", said.reasoning_content or said.reasoning or "")
            for part in said.tool_calls or ():
                self._call(part, fresh=choice.delta is None).add(part.function)
        # OpenAI gives none of thoughts, and some servers do.
        if choice.logprobs is not None and (piece.content or not piece.reasoning):
            piece.logprobs = _logprobs(choice.logprobs)
        return piece if piece.content or piece.reasoning or piece.logprobs else None

    def _call(self, part: Call, *, fresh: bool) -> _Call:
        """Return the call that a part belongs to. Another id is another call, also where the index is not."""
        for call in () if fresh else reversed(self._calls):
            if part.index in (None, call.index):
                if part.id and part.id != call.id:
                    break
                return call
        self._calls.append(_Call(part))
        return self._calls[-1]


def embeddings(wanted: int, body: bytes) -> tuple[list[int], port.Outcome]:
    """Read the answer of ``/v1/embeddings`` to so many texts, of which ``vectors.Vectors`` has taken out the
    vectors; return their numbers in the order of the texts.
    """
    try:
        answer = _vectors.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        raise decoders.BrokenAnswerError(f"not an answer of /v1/embeddings: {problem}") from None
    if len(answer.data) != wanted:
        raise decoders.BrokenAnswerError(f"{len(answer.data)} vectors for {wanted} texts")
    ordered = sorted(answer.data, key=lambda vector: vector.index)
    return [vector.embedding for vector in ordered], port.Outcome(prompt_tokens=answer.usage.prompt_tokens)


def _logprobs(given: Logprobs) -> list[pieces.Logprob]:
    if given.content is not None:
        return [
            pieces.Logprob(
                entry.token,
                entry.logprob,
                entry.bytes,
                [pieces.TokenLogprob(top.token, top.logprob, top.bytes) for top in entry.top_logprobs or ()],
            )
            for entry in given.content
        ]
    tops = itertools.chain(given.top_logprobs or (), itertools.repeat(None))
    return [
        pieces.Logprob(token, logprob, None, [pieces.TokenLogprob(*other) for other in (top or {}).items()])
        for token, logprob, top in zip(given.tokens or (), given.token_logprobs or (), tops, strict=False)
    ]
