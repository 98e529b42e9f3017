"""Requests that the servers' own routes answer, of any engine."""

from collections.abc import AsyncGenerator

from modelset_proxy.engines import asking, decoders, http, port
from modelset_proxy.openai import catalog, passthrough


class Relay:
    """Implements ``port.Job``: hands on a request, under the server's name of the model, in one unit."""

    def __init__(
        self, connections: http.Connections, path: str, request: passthrough.Passed, model: catalog.Model
    ) -> None:
        self.streams = request.stream
        self._connections = connections
        content_type, body = request.rename(model.name)
        self._question = asking.Question(
            path, body, "input", streams=request.stream, content_type=content_type.decode("latin-1")
        )

    async def check(self) -> None:
        """See ``port.Job``."""

    def ask(self, url: str, _unit: int, attempt: port.Attempt) -> AsyncGenerator[bytes, None]:
        """See ``port.Job``."""
        return self._connections.ask(url, self._question, decoders.Raw(), attempt)

    def goes_on(self, _: port.Told) -> bool:
        """See ``port.Job``: nobody knows what was told."""
        return False
