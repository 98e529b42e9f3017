"""An answer as any engine gives it: neutral pieces, which become OpenAI's shapes here."""

import secrets

import msgspec


class TokenLogprob(msgspec.Struct, gc=False):
    """One token with its natural-log probability, None where it has none; ``raw`` are its UTF-8 bytes."""

    token: str
    logprob: float | None
    raw: list[int] | None = None


class Logprob(TokenLogprob, gc=False):
    """The token that was chosen, and the likeliest ones at its position."""

    top: list[TokenLogprob] = []


class ToolCall(msgspec.Struct):
    """One call of a tool by the model; ``arguments`` is a JSON text, as OpenAI sends it."""

    id: str
    name: str
    arguments: str


def call_id() -> str:
    """Return an id for a call that the model server gave none."""
    return f"call_{secrets.token_hex(12)}"


class End(msgspec.Struct):
    """How an answer ended: OpenAI's finish reason, and the tokens it took."""

    reason: str
    prompt_tokens: int
    completion_tokens: int


class Piece(msgspec.Struct):
    """What one step of the model added to the answer; the last piece carries ``end``."""

    content: str = ""
    reasoning: str = ""
    tool_calls: list[ToolCall] = []
    logprobs: list[Logprob] = []
    end: End | None = None


class Embeddings(msgspec.Struct):
    """One vector an input in the order asked; each is raw JSON, so that a copy need not be decoded."""

    vectors: list[msgspec.Raw]
    prompt_tokens: int
