"""The engine that is Ollama: OpenAI's requests as jobs in its native API, and looks at its servers."""

import contextlib
import time
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from modelset_proxy.engines import asking, decoders, encoding, pauses, port, relay, vectors
from modelset_proxy.engines.ollama import answers, going_on, http, images, limits, names, native, weights
from modelset_proxy.openai import catalog, passthrough, pieces, requests


class Ollama:
    """Implements ``port.Engine``. Nothing that asks a server may be called before ``start``."""

    def __init__(self) -> None:
        self._http = http.Http()
        # By server: how many tokens what it has loaded takes, by runner.
        self._contexts: dict[str, Mapping[str, int]] = {}
        self._runners: dict[str, weights.Runner] = {}
        self._images = images.Inspector()
        self._weights = weights.Weights(self._http)

    async def start(self) -> None:
        """Get ready in the event loop that serves."""
        await self._http.start()

    async def close(self) -> None:
        """Close all connections."""
        await self._weights.close()
        await self._http.close()

    def key(self, name: str) -> str:
        """Return the full spelling of a name."""
        return names.canonical(name)

    async def look(self, url: str) -> port.Sight:
        """Ask a server for its ``/api/tags`` and ``/api/ps``; raises UnreachableError."""
        began = time.monotonic()
        self._contexts.pop(url, None)
        tags = await self._http.tags(url)
        await self._weights.learn(url, tags.models)
        processes = await self._http.processes(url)
        self._runners |= {names.canonical(one.name): self._runner_of(one) for one in tags.models}
        self._contexts[url] = {
            self._runner(names.canonical(model.name)): model.context_length for model in processes.models
        }
        return port.Sight(
            began=began,
            held={names.canonical(model.name): self._held(model) for model in tags.models},
            loaded={names.canonical(model.name): model.size for model in processes.models},
        )

    async def load(self, url: str, model: catalog.Model) -> bool:
        """Ask for nothing, upon which Ollama loads the model; tell whether it did."""
        return await self._http.touch(url, *native.load(model))

    async def replies(self, url: str, model: catalog.Model) -> bool:
        """Ask for one token, or one vector; tell whether it came."""
        return await self._http.touch(url, *native.shortest(model))

    async def unload(self, url: str, name: str) -> None:
        """Ask for nothing and to keep the model for no time."""
        await self._http.touch(url, *native.unload(name))

    async def chat(self, request: requests.ChatRequest, model: catalog.Model) -> port.Job[list[pieces.Piece]]:
        """Translate a chat to ``/api/chat``."""
        translated = await pauses.between(native.chat(request, model, self._context(model)))
        return _Chat(self._http, self._images, translated, streams=bool(request.stream))

    async def complete(
        self, request: requests.CompletionRequest, model: catalog.Model
    ) -> port.Job[list[pieces.Piece]]:
        """Translate a completion to ``/api/generate``."""
        return _Completion(self._http, request, model, self._context(model))

    async def embed(
        self, request: requests.EmbeddingRequest, model: catalog.Model
    ) -> port.Job[pieces.Embeddings]:
        """Translate an embedding to ``/api/embed``."""
        return _Embedding(self._http, native.embedding(request, model, self._context(model)))

    def relay(self, path: str, request: passthrough.Passed, model: catalog.Model) -> port.Job[bytes]:
        """Pass on what Ollama's own routes answer."""
        return relay.Relay(self._http, path, request, model)

    async def capabilities(self, url: str, name: str) -> frozenset[str] | None:
        """Ask a server that holds a model what it can do; None when it does not tell."""
        return await self._http.capabilities(url, name)

    def _held(self, model: answers.HeldModel) -> port.Held:
        runner = self._runners[names.canonical(model.name)]
        return port.Held(
            model.name,
            model.digest,
            model.changed,
            model.size,
            runner.weights,
            runner.context_length,
            runner.file,
        )

    def _runner_of(self, model: answers.HeldModel) -> weights.Runner:
        """Return the runner of a model; one that was just made anew most likely has the one that it had.

        Otherwise a variant that is edited would be loaded in place of what its base has in memory.
        """
        before = self._runners.get(names.canonical(model.name), weights.UNKNOWN)
        return self._weights.of(model.digest, before)

    def pull(self, url: str, name: str, *, insecure: bool = False) -> AsyncGenerator[answers.Progress, None]:
        """Pull a model to one server, ``insecure``ly over plain HTTP; yield its progress.

        Raises ``http.PullFailedError``.
        """
        return self._http.pull(url, name, insecure=insecure)

    def _context(self, model: catalog.Model) -> int | None:
        """Return how many tokens a model takes at most; None where nobody has said so yet."""
        if model.context_length is not None:
            return model.context_length
        name = self.key(model.name)
        known = self._runners.get(name, weights.UNKNOWN)
        if known.context_length:
            return known.context_length
        runner = self._runner(name)
        loaded = max((those.get(runner, 0) for those in self._contexts.values()), default=0)
        return loaded or known.longest_context or None

    def _runner(self, name: str) -> str:
        """Return what is the same for models that Ollama runs in one runner, and lists under one name."""
        known = self._runners.get(name, weights.UNKNOWN)
        return f"{known.weights} {known.context_length}" if known.weights else name


class _Chat:
    """A chat; its units are its choices."""

    def __init__(
        self, connections: http.Http, inspector: images.Inspector, translated: native.Chat, *, streams: bool
    ) -> None:
        self._http = connections
        self._images = inspector
        self._chat = translated
        self.streams = streams

    async def check(self) -> None:
        await self._images.check(self._chat.images)

    def ask(self, url: str, unit: int, attempt: port.Attempt) -> AsyncGenerator[list[pieces.Piece], None]:
        if attempt.told.tokens:
            return self._go_on(url, self._chat.body.fields(unit), attempt)
        reader = answers.Reader(self._chat.forced, single_call=self._chat.single_call)
        question = asking.Question(
            "/api/chat",
            self._chat.body.of(unit),
            "messages",
            streams=self.streams,
            schema="response_format" if self._chat.forced is None else "tools",
        )
        return self._http.ask(url, question, decoders.Pieces(reader, attempt), attempt)

    def goes_on(self, told: port.Told) -> bool:
        return told.plain and self._chat.plain

    async def _go_on(
        self, url: str, fields: dict[str, Any], attempt: port.Attempt
    ) -> AsyncGenerator[list[pieces.Piece], None]:
        question = asking.Question("/api/chat", going_on.render(fields), "messages", streams=False)
        rendering = self._http.ask(url, question, decoders.Whole(going_on.rendered, attempt), attempt)
        [prompt] = [text async for text in rendering]
        async with contextlib.aclosing(_continued(self._http, url, fields, prompt, attempt)) as continued:
            async for read in continued:
                yield read


class _Completion:
    """A completion; its units are the choices of each prompt."""

    def __init__(
        self,
        connections: http.Http,
        request: requests.CompletionRequest,
        model: catalog.Model,
        context: int | None,
    ) -> None:
        self._http = connections
        self.streams = bool(request.stream)
        self._request = request
        self._model = model
        limits.check_completion(request)
        self._prompts = limits.words("prompt", request.prompts)
        limits.check_texts("prompt", context, self._prompts)
        # One prompt is as good as another to find out what cannot be honoured; the last is made already.
        self._prompt, self._body = 0, native.completion(request, self._prompts[0], model)

    async def check(self) -> None:
        pass

    def ask(self, url: str, unit: int, attempt: port.Attempt) -> AsyncGenerator[list[pieces.Piece], None]:
        prompt, choice = divmod(unit, self._request.choices)
        if prompt != self._prompt:
            text = self._prompts[prompt]
            self._prompt, self._body = prompt, native.completion(self._request, text, self._model)
        if attempt.told.tokens:
            return _continued(self._http, url, self._body.fields(choice), self._prompts[prompt], attempt)
        question = asking.Question("/api/generate", self._body.of(choice), "prompt", streams=self.streams)
        return self._http.ask(url, question, decoders.Pieces(answers.Reader(), attempt), attempt)

    def goes_on(self, told: port.Told) -> bool:
        return told.plain and not self._request.suffix


class _Embedding:
    """An embedding of one or more texts, in one unit."""

    streams = False

    def __init__(self, connections: http.Http, body: bytes | encoding.Parts) -> None:
        self._http = connections
        self._body = body

    async def check(self) -> None:
        pass

    def ask(self, url: str, _unit: int, attempt: port.Attempt) -> AsyncGenerator[pieces.Embeddings, None]:
        question = asking.Question("/api/embed", self._body, "input", streams=True)
        return self._http.ask(url, question, vectors.Vectors(answers.embeddings, attempt), attempt)

    def goes_on(self, _: port.Told) -> bool:
        return False


def _continued(
    connections: http.Http, url: str, fields: dict[str, Any], prompt: str, attempt: port.Attempt
) -> AsyncGenerator[list[pieces.Piece], None]:
    """Have a server go on with a prompt after what it was told; ``fields`` are those of the first asking."""
    told = attempt.told
    question = asking.Question("/api/generate", going_on.after(fields, prompt, told), "prompt", streams=True)
    decoder = decoders.Pieces(answers.Reader(), attempt, going_on.Seam(fields, told))
    return connections.ask(url, question, decoder, attempt)
