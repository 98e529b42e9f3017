"""The interface between the OpenAI side and whatever runs the models.

The OpenAI side hands over decoded OpenAI requests and gets neutral pieces of an answer back. A second
implementation beside Ollama needs this module and ``openai_requests`` only.
"""

from collections.abc import AsyncGenerator, Mapping
from typing import Protocol

import msgspec

from . import catalog, openai_requests


class TokenLogprob(msgspec.Struct, gc=False):
    """One token with its natural-log probability; ``raw`` are its UTF-8 bytes."""

    token: str
    logprob: float
    raw: list[int] | None = None


class Logprob(TokenLogprob, gc=False):
    """The token that was chosen, and the likeliest ones at its position."""

    top: list[TokenLogprob] = []


class ToolCall(msgspec.Struct):
    """One call of a tool by the model; ``arguments`` is a JSON text, as OpenAI sends it."""

    id: str
    name: str
    arguments: str


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


class Call(msgspec.Struct):
    """What travels with a request for routing and for the log; holds no contents.

    ``served`` is the model's first served name; ``affinity`` is equal for requests that probably share a
    prompt prefix. The implementation fills in ``upstream`` (which server answered), ``attempts`` (of the
    choice that took the most) and ``load_seconds`` (spent on loading the model).
    """

    request_id: str
    served: str = ""
    affinity: int | None = None
    upstream: str = ""
    attempts: int = 0
    load_seconds: float = 0.0


class Upstream(Protocol):
    """Something that runs models. All methods raise ``errors.ApiError`` and nothing else that is expected.

    Cancelling the task, or closing an iterator, stops the work behind it at once.
    """

    def chat(
        self, request: openai_requests.ChatRequest, model: catalog.Model, call: Call, *, choice: int
    ) -> AsyncGenerator[list[Piece], None]:
        """Answer a chat; each list is what arrived together. ``choice`` tells the n choices of a request
        apart.
        """

    def complete(
        self,
        request: openai_requests.CompletionRequest,
        prompt: str,
        model: catalog.Model,
        call: Call,
        *,
        choice: int,
    ) -> AsyncGenerator[list[Piece], None]:
        """Continue one text; as ``chat``."""

    async def embed(
        self, request: openai_requests.EmbeddingRequest, texts: list[str], model: catalog.Model, call: Call
    ) -> Embeddings:
        """Turn each text into a vector."""

    def relay(
        self, path: str, body: bytes, content_type: bytes, model: catalog.Model, call: Call, *, stream: bool
    ) -> AsyncGenerator[bytes, None]:
        """Pass a request on as it is to the upstream's own ``path`` and yield its answer."""

    def servers(self, model: catalog.Model) -> int:
        """Return how many servers can run a model now."""

    def state(self) -> Mapping[str, int]:
        """Return counts for the health page: servers known and servers usable."""
