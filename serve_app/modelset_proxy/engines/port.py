"""The port that every engine has: how one server is asked, and what it holds.

An engine translates OpenAI's requests to what its servers take, and their answers to neutral pieces. Which
server is asked, how many requests run at once and what happens when a server fails is ``dispatch``'s to
decide, and the same for all engines.
"""

from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Protocol, TypeVar

import msgspec

from modelset_proxy.openai import catalog, errors, passthrough, pieces, requests

Item_co = TypeVar("Item_co", covariant=True)


class Call(msgspec.Struct):
    """What travels with a request for choosing a server and for the log; holds no contents.

    ``served`` is the model's first served name; ``client`` whose API key came with it. Filled in on the way:
    ``server`` (which one answered), ``attempts`` (of the choice that took the most), ``load_seconds`` (spent
    on loading the model) and ``queued_seconds`` (the longest wait for a slot). ``drop`` treats the client as
    one that has left.
    """

    request_id: str
    served: str = ""
    client: str = ""
    server: str = ""
    attempts: int = 0
    load_seconds: float = 0.0
    queued_seconds: float = 0.0
    drop: Callable[[], None] = lambda: None


class Outcome(msgspec.Struct):
    """How an answer went: seconds of loading the model and of reading the prompt, tokens; 0 is unknown."""

    load_seconds: float = 0.0
    prompt_seconds: float = 0.0
    prompt_tokens: int = 0
    answer_tokens: int = 0


class Told(msgspec.Struct):
    """What has come of a unit's answer so far: ``texts`` joined are its text, one a token.

    ``plain`` is False where there was more than text.
    """

    texts: list[str] = []
    plain: bool = True

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self.texts)

    @property
    def tokens(self) -> int:
        """How many tokens that was. Where a character takes several, they count as one."""
        return len(self.texts)


class Attempt(msgspec.Struct):
    """One asking of one server; the engine fills in the ``outcome`` and adds to what was ``told``."""

    request_id: str
    server: str
    outcome: Outcome = msgspec.field(default_factory=Outcome)
    told: Told = msgspec.field(default_factory=Told)


class ServerFailure(Exception):
    """One server could not answer, and another one may; ``error`` is what the client gets if none does.

    ``lost`` tells that the connection failed or broke, ``absent`` that the server does not hold the model.
    """

    def __init__(self, error: errors.ApiError, why: str, *, lost: bool = False, absent: bool = False) -> None:
        super().__init__(why)
        self.error = error
        self.lost = lost
        self.absent = absent


class UnreachableError(Exception):
    """A server did not tell what it holds; the message says why."""


class Held(msgspec.Struct, frozen=True):
    """A model on a server's disk: the name the server gives it, its digest, Unix seconds of its last change,
    and its bytes there, 0 where the server does not tell.

    Those with the same ``weights`` share one place in memory where their lengths of context are the same too;
    ``context_length`` is the one it has where requests bring none. Empty, the model shares with none.
    Of those with the same ``file`` that share no place a server has one in memory at a time, whatever room
    there is.
    """

    name: str
    digest: str = ""
    changed: int = 0
    size: int = 0
    weights: str = ""
    context_length: int = 0
    file: str = ""


class Sight(msgspec.Struct, frozen=True):
    """What a look at a server found that ``began`` then (monotonic seconds): models by key, see
    ``Engine.key``, on its disk, and in its memory with the bytes they take there, 0 where it does not tell.
    """

    began: float
    held: Mapping[str, Held]
    loaded: Mapping[str, int]


class Job(Protocol[Item_co]):
    """A request in the engine's terms, checked as far as it can be without asking and at once.

    It has one unit for each answer wanted: a choice of a chat, a choice of a prompt of a completion. What a
    unit needs is made when its turn comes. ``streams`` tells whether an answer comes in parts.
    """

    streams: bool

    async def check(self) -> None:
        """Refuse what takes long to look at, and let others go on meanwhile; awaited once, before any ask."""

    def ask(self, url: str, unit: int, attempt: Attempt, /) -> AsyncGenerator[Item_co, None]:
        """Ask one server and yield its answer as it comes.

        Where something was ``told`` already, the answer goes on after it. Raises ServerFailure where another
        server may do better, ApiError where none will. Closing the iterator, or cancelling the task, stops
        the work behind it at once.
        """

    def goes_on(self, told: Told, /) -> bool:
        """Tell whether an answer of which so much was told can go on at another server."""


class Engine(Protocol):
    """Something that runs models on servers. Refusals are ``errors.ApiError``.

    A translation that takes long makes pauses: it holds up nobody for more than some milliseconds.
    """

    async def start(self) -> None:
        """Get ready in the event loop that serves."""

    async def close(self) -> None:
        """Close all connections."""

    def key(self, name: str) -> str:
        """Return the one spelling of a model's name, by which what servers hold is looked up."""

    async def look(self, url: str) -> Sight:
        """Ask a server what it holds; raises UnreachableError."""

    async def load(self, url: str, model: catalog.Model) -> bool:
        """Have a server load a model as requests for it would; tell whether it did."""

    async def replies(self, url: str, model: catalog.Model) -> bool:
        """Have a server answer the shortest of requests; tell whether it did."""

    async def unload(self, url: str, name: str) -> None:
        """Have a server let go of a model, served or not. Nothing comes of a failure."""

    async def chat(self, request: requests.ChatRequest, model: catalog.Model) -> Job[list[pieces.Piece]]:
        """Translate a chat; each list that its units yield is what arrived together."""

    async def complete(
        self, request: requests.CompletionRequest, model: catalog.Model
    ) -> Job[list[pieces.Piece]]:
        """Translate a completion, whose units are the choices of the first prompt, then of the next."""

    async def embed(self, request: requests.EmbeddingRequest, model: catalog.Model) -> Job[pieces.Embeddings]:
        """Translate an embedding, whose one unit yields one answer."""

    def relay(self, path: str, request: passthrough.Passed, model: catalog.Model) -> Job[bytes]:
        """Pass on what the servers' own ``path`` answers; its one unit yields the answer's bytes."""
