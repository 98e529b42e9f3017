"""API keys from a folder, such as a mounted Secret: one file a client, holding one key a line.

Several keys are valid at once, so that they can be changed one after the other. Only digests are kept.
"""

import asyncio
import hashlib
import hmac
import logging
import pathlib

from modelset_proxy.openai import errors
from modelset_proxy.telemetry import log

_logger = logging.getLogger(__name__)
_RELOAD_SECONDS = 2.0


class Keys:
    """Knows whose key it is. Without a folder everybody may call; with one that is empty or gone, nobody."""

    def __init__(self, folder: str | None) -> None:
        self._folder = pathlib.Path(folder) if folder else None
        self._clients: list[tuple[bytes, str]] = []
        self._known: dict[str, list[bytes]] | None = None
        self._complaints: dict[str, str | None] = {}
        self.reload()

    def reload(self) -> None:
        """Read the folder again."""
        if self._folder is None:
            return
        found: dict[str, list[bytes]] = {}
        try:
            # Kubernetes keeps its own bookkeeping beside the keys, under names that begin with two dots.
            paths = [path for path in sorted(self._folder.iterdir()) if not path.name.startswith(".")]
        except OSError as problem:
            self._complain("", problem)
            paths = []
        else:
            self._complaints.pop("", None)
        for path in paths:
            try:
                if path.is_file():
                    found[path.name] = _digests(path.read_bytes())
            except OSError as problem:
                # The keys of this client end here; those of the others are changed all the same.
                self._complain(path.name, problem)
            else:
                self._complaints.pop(path.name, None)
        if found == self._known:
            return
        self._known = found
        self._clients = [(digest, client) for client, digests in found.items() for digest in digests]
        _logger.info("API keys", extra=log.facts(clients=", ".join(sorted(found)) or "none: nobody may call"))

    def _complain(self, name: str, problem: OSError) -> None:
        """Say what is wrong once, not every few seconds."""
        if self._complaints.get(name) != problem.strerror:
            self._complaints[name] = problem.strerror
            _logger.warning("cannot read API keys", extra=log.facts(client=name, reason=problem.strerror))

    async def watch(self) -> None:
        """Read the folder every few seconds, for ever."""
        while self._folder is not None:
            await asyncio.sleep(_RELOAD_SECONDS)
            self.reload()

    def client(self, authorization: bytes, api_key: bytes) -> str:
        """Return who calls, or raise a 401. Takes equally long for every key that is wrong.

        ``authorization`` is OpenAI's header (``Bearer ...``), ``api_key`` the ``x-api-key`` of Anthropic's.
        """
        if self._folder is None:
            return ""
        scheme, _, token = authorization.partition(b" ")
        given = token.strip() if scheme.lower() == b"bearer" else api_key.strip()
        if not given:
            raise _unauthorized(
                "You did not provide an API key: "
                "send 'Authorization: Bearer YOUR_KEY' or 'x-api-key: YOUR_KEY'."
            )
        digest = hashlib.sha256(given).digest()
        found = ""
        for known, client in self._clients:
            if hmac.compare_digest(known, digest):
                found = client
        if not found:
            raise _unauthorized("Incorrect API key provided.")
        return found


def _digests(keys: bytes) -> list[bytes]:
    return [hashlib.sha256(key.strip()).digest() for key in keys.splitlines() if key.strip()]


def _unauthorized(message: str) -> errors.ApiError:
    return errors.ApiError(401, message, code="invalid_api_key")
