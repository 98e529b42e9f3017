"""The engine that is any server of OpenAI's API: requests go on nearly as they came."""

import functools
import time
from collections.abc import AsyncGenerator

from modelset_proxy.engines import asking, decoders, http, pauses, port, relay, vectors
from modelset_proxy.engines.compatible import answers, bodies, complaints
from modelset_proxy.openai import catalog, passthrough, pieces, requests


class Compatible:
    """Implements ``port.Engine``. Nothing that asks a server may be called before ``start``.

    Such servers do not load or let go of models when they are told to: what they list counts as loaded.
    """

    def __init__(self) -> None:
        self._http = http.Connections(complaints.refusal)

    async def start(self) -> None:
        """Get ready in the event loop that serves."""
        await self._http.start()

    async def close(self) -> None:
        """Close all connections."""
        await self._http.close()

    def key(self, name: str) -> str:
        """Return the name: a model has one spelling."""
        return name

    async def look(self, url: str) -> port.Sight:
        """Ask a server for its ``/v1/models``; raises UnreachableError."""
        began = time.monotonic()
        models = (await self._http.look(url, "/v1/models", answers.Models)).data or []
        return port.Sight(
            began=began,
            held={model.id: port.Held(model.id, changed=int(model.created or 0)) for model in models},
            loaded={model.id: 0 for model in models},
        )

    async def load(self, url: str, model: catalog.Model) -> bool:  # noqa: ARG002
        """Do nothing: the server has loaded what it lists, or does so when it is asked for it."""
        return True

    async def replies(self, url: str, model: catalog.Model) -> bool:
        """Ask for one token, or one vector; tell whether it came."""
        for path, body in bodies.shortest(model):
            if await self._http.touch(url, path, body):
                return True
        return False

    async def unload(self, url: str, name: str) -> None:
        """Do nothing: the server decides what it keeps."""

    async def chat(self, request: requests.ChatRequest, model: catalog.Model) -> port.Job[list[pieces.Piece]]:
        """Pass on a chat."""
        return _Chat(self._http, request, await pauses.between(bodies.chat(request, model)))

    async def complete(
        self, request: requests.CompletionRequest, model: catalog.Model
    ) -> port.Job[list[pieces.Piece]]:
        """Pass on a completion."""
        return _Completion(self._http, request, model)

    async def embed(
        self, request: requests.EmbeddingRequest, model: catalog.Model
    ) -> port.Job[pieces.Embeddings]:
        """Pass on an embedding."""
        return _Embedding(self._http, request, model)

    def relay(self, path: str, request: passthrough.Passed, model: catalog.Model) -> port.Job[bytes]:
        """Pass on what no engine translates."""
        return relay.Relay(self._http, path, request, model)


class _Job:
    """What the jobs have in common: an answer that was begun ends with its server."""

    streams = False

    def __init__(self, connections: http.Connections) -> None:
        self._http = connections

    async def check(self) -> None:
        pass

    def goes_on(self, _: port.Told) -> bool:
        return False


class _Chat(_Job):
    """A chat; its units are its choices."""

    def __init__(
        self, connections: http.Connections, request: requests.ChatRequest, translated: bodies.Body
    ) -> None:
        super().__init__(connections)
        self._body = translated
        self.streams = bool(request.stream)
        self._single_call = request.parallel_tool_calls is False

    def ask(self, url: str, unit: int, attempt: port.Attempt) -> AsyncGenerator[list[pieces.Piece], None]:
        body = self._body.of(unit)
        question = asking.Question("/v1/chat/completions", body, "messages", streams=self.streams)
        reader = answers.Reader(single_call=self._single_call)
        return self._http.ask(url, question, _decoder(question, reader, attempt), attempt)


class _Completion(_Job):
    """A completion; its units are the choices of each prompt."""

    def __init__(
        self, connections: http.Connections, request: requests.CompletionRequest, model: catalog.Model
    ) -> None:
        super().__init__(connections)
        self.streams = bool(request.stream)
        self._request = request
        self._model = model
        # One prompt is as good as another to find out what cannot be honoured; the last is made already.
        self._prompt, self._body = 0, bodies.completion(request, 0, model)

    def ask(self, url: str, unit: int, attempt: port.Attempt) -> AsyncGenerator[list[pieces.Piece], None]:
        prompt, choice = divmod(unit, self._request.choices)
        if prompt != self._prompt:
            self._prompt, self._body = prompt, bodies.completion(self._request, prompt, self._model)
        body = self._body.of(choice)
        question = asking.Question("/v1/completions", body, "prompt", streams=self.streams)
        return self._http.ask(url, question, _decoder(question, answers.Reader(), attempt), attempt)


class _Embedding(_Job):
    """An embedding of one or more texts, in one unit."""

    def __init__(
        self, connections: http.Connections, request: requests.EmbeddingRequest, model: catalog.Model
    ) -> None:
        super().__init__(connections)
        self._body = bodies.embedding(request, model)
        self._wanted = len(request.inputs)

    def ask(self, url: str, _unit: int, attempt: port.Attempt) -> AsyncGenerator[pieces.Embeddings, None]:
        question = asking.Question("/v1/embeddings", self._body, "input", streams=True)
        read = functools.partial(answers.embeddings, self._wanted)
        return self._http.ask(url, question, vectors.Vectors(read, attempt), attempt)


def _decoder(
    question: asking.Question, reader: answers.Reader, attempt: port.Attempt
) -> decoders.Decoder[list[pieces.Piece]]:
    if question.streams:
        return decoders.Pieces(reader, attempt)
    return decoders.Whole(functools.partial(reader.whole, attempt), attempt)
