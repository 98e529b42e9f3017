"""Which web pages may call the API, by the Fetch standard's CORS protocol."""

import re
from collections.abc import Iterable

from modelset_proxy.web import exchange

_METHODS = b"GET, POST, HEAD, OPTIONS"
_EXPOSED = b"x-request-id, retry-after"
_MAX_AGE = b"600"


class Cors:
    """Answers preflights and adds the headers a browser looks for. No credentials: keys come in a header."""

    def __init__(self, origins: Iterable[str] = ()) -> None:
        origins = list(origins)
        self._any = "*" in origins
        patterns = ("[^/]*".join(map(re.escape, origin.split("*"))) for origin in origins)
        self._allowed = re.compile("|".join(patterns) or r"(?!)")

    def allows(self, origin: bytes) -> bool:
        """Tell whether pages of an origin may call."""
        return self._any or self._allowed.fullmatch(origin.decode("latin-1")) is not None

    def headers(self, origin: bytes | None) -> list[exchange.Header]:
        """Return the headers for a reply to a page of ``origin``; none for a page that may not call."""
        if self._any:
            return [(b"access-control-allow-origin", b"*"), (b"access-control-expose-headers", _EXPOSED)]
        # A cache must keep replies to different origins apart, also those to pages that may not read them.
        headers = [(b"vary", b"origin")]
        if origin is not None and self.allows(origin):
            headers.append((b"access-control-allow-origin", origin))
            headers.append((b"access-control-expose-headers", _EXPOSED))
        return headers

    def preflight(self, requested_headers: bytes) -> list[exchange.Header]:
        """Return what a preflight is told beyond ``headers``."""
        return [
            (b"access-control-allow-methods", _METHODS),
            (b"access-control-allow-headers", requested_headers or b"authorization, content-type"),
            (b"access-control-max-age", _MAX_AGE),
        ]
