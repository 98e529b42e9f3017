"""The servers behind a URL: all addresses of its name, of one family."""

import asyncio
import logging
import socket
from urllib.parse import urlsplit

from modelset_proxy.telemetry import log

_logger = logging.getLogger(__name__)
_RESOLVE_SECONDS = 5.0
_NO_SUCH_NAME = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}


class Name:
    """One URL, and what its name stood for when it was last looked up.

    A pod of a cluster with two families has an address of each. They are one server, so only one family
    counts; the other one is taken when nothing answers at the first.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._parts = urlsplit(url)
        self._families: dict[int, tuple[str, ...]] = {}
        self._family: int | None = None
        self._complained = False
        # HTTPS keeps its name, which the certificate is for.
        self._fixed = (url,) if self._parts.scheme == "https" else None

    @property
    def servers(self) -> tuple[str, ...]:
        """The URLs of the servers, one each, in a stable order."""
        if self._fixed is not None:
            return self._fixed
        return () if self._family is None else self._families[self._family]

    async def resolve(self) -> None:
        """Look the name up again. Where that cannot be done, what is known stays."""
        if self._fixed is not None:
            return
        host = self._parts.hostname or ""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_RESOLVE_SECONDS):
                found = await loop.getaddrinfo(host, self._parts.port, type=socket.SOCK_STREAM)
        except socket.gaierror as problem:
            # A headless Service without ready pods has no addresses. A DNS server that does not answer says
            # nothing about the pods, so those known stay.
            if problem.errno in _NO_SUCH_NAME:
                self._families, self._family = {}, None
            self._complain(host, problem.strerror or "")
            return
        except TimeoutError:
            self._complain(host, "timed out")
            return
        self._complained = False
        addresses: dict[int, set[str]] = {}
        for family, _, _, _, address in found:
            addresses.setdefault(family, set()).add(str(address[0]))
        self._families = {
            family: tuple(self._server(address) for address in sorted(those))
            for family, those in addresses.items()
        }
        if self._family not in self._families:
            self._family = next(iter(self._families), None)

    def try_other_family(self) -> bool:
        """Go to the servers' addresses of another family; tell whether there are any."""
        others = [family for family in self._families if family != self._family]
        if not others:
            return False
        self._family = others[0]
        return True

    def _server(self, address: str) -> str:
        host = f"[{address}]" if ":" in address else address
        return f"http://{host}:{self._parts.port}{self._parts.path}"

    def _complain(self, host: str, reason: str) -> None:
        """Say so once, not every few seconds."""
        if not self._complained:
            self._complained = True
            _logger.warning("cannot resolve", extra=log.facts(host=host, reason=reason))


def base_url(text: str, default_port: int) -> str:
    """Complete a URL to scheme, host and port; raises ValueError for what is no URL."""
    parts = urlsplit(text if "://" in text else f"http://{text}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"not an http(s) URL: {text!r}")
    port = parts.port or (443 if parts.scheme == "https" else 80 if "://" in text else default_port)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}:{port}{parts.path.rstrip('/')}"
