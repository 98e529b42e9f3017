"""HTTP with one Ollama server, beyond what is asked of all model servers."""

from collections.abc import AsyncGenerator

import aiohttp
import msgspec

from modelset_proxy.engines import decoders, http, port
from modelset_proxy.engines.ollama import answers

_SHOW_TIMEOUT = aiohttp.ClientTimeout(total=10, sock_connect=3)
_ERROR_BYTES = 64 * 1024


class PullFailedError(Exception):
    """A model could not be pulled; the message says why, in Ollama's words where it has any."""


class Http(http.Connections):
    """Connections to Ollama servers."""

    def __init__(self) -> None:
        super().__init__(answers.refusal)

    async def tags(self, url: str) -> answers.Tags:
        """Ask what is on disk; raises UnreachableError."""
        return await self.look(url, "/api/tags", answers.Tags)

    async def processes(self, url: str) -> answers.Processes:
        """Ask what is in memory; raises UnreachableError."""
        return await self.look(url, "/api/ps", answers.Processes)

    async def capabilities(self, url: str, name: str) -> frozenset[str] | None:
        """Ask what a model can do; None when the server does not tell."""
        try:
            shown = await self.show(url, name)
        except port.UnreachableError:
            return None
        return None if shown is None else frozenset(shown.capabilities)

    async def show(self, url: str, name: str) -> answers.Show | None:
        """Ask what a model is; None when the server does not know. Raises UnreachableError."""
        try:
            async with self.session.post(
                f"{url}/api/show", data=msgspec.json.encode({"model": name}), timeout=_SHOW_TIMEOUT
            ) as response:
                if response.status != 200:
                    return None
                return msgspec.json.decode(await response.read(), type=answers.Show)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        except (aiohttp.ClientError, TimeoutError) as problem:
            raise port.UnreachableError(http.why(problem)) from None

    async def pull(self, url: str, name: str, *, insecure: bool) -> AsyncGenerator[answers.Progress, None]:
        """Pull a model, ``insecure``ly over plain HTTP; yield its progress. Raises PullFailedError."""
        lines = decoders.Lines()
        try:
            body = msgspec.json.encode({"model": name, "insecure": insecure})
            async with self.session.post(f"{url}/api/pull", data=body) as response:
                if response.status != 200:
                    raise PullFailedError(answers.error_text(await response.content.read(_ERROR_BYTES)))
                while data := await response.content.readany():
                    for line in lines.feed(data):
                        yield msgspec.json.decode(line, type=answers.Progress)
        except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError, UnicodeDecodeError) as problem:
            raise PullFailedError(http.why(problem)) from None
