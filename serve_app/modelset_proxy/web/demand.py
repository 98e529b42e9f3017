"""What is asked of the models, for whoever decides how many servers there are."""

import hashlib
import hmac
import time
import urllib.parse
import zlib

import msgspec

from modelset_proxy.dispatch import dispatcher, facts
from modelset_proxy.openai import errors
from modelset_proxy.web import exchange

PATH = "/demand"
_LONGEST_SECONDS = 60.0
# Under load everything changes all the time; nobody decides more often than this.
_SPACING_SECONDS = 0.2


class Demand:
    """``GET /demand?version=V&wait=SECONDS``: of all proxies that share their slots, with a version.

    Where that is V, the reply waits until it is another, for so long at most.

    Only who has the token whose hash is ``token_sha256`` is answered: else, and where there is none, the path
    is as unknown as others.
    """

    def __init__(self, dispatch: dispatcher.Dispatcher) -> None:
        self._dispatch = dispatch
        self.token_sha256: str | None = None

    async def get(self, web: exchange.Exchange) -> None:
        """Answer one request."""
        self._check(web)
        version, wait = _asked(web.query)
        began = time.monotonic()
        while True:
            feed = self._dispatch.feed_of_all()
            now = _version(feed)
            left = began + wait - time.monotonic()
            if now != version or left <= 0:
                break
            await self._dispatch.change(min(left, _SPACING_SECONDS))
        await web.reply(200, msgspec.json.encode({"version": now, "models": feed.models, "sick": feed.sick}))

    def _check(self, web: exchange.Exchange) -> None:
        given = web.headers.get(b"authorization", b"").removeprefix(b"Bearer ")
        digest = hashlib.sha256(given).hexdigest()
        if self.token_sha256 is None or not hmac.compare_digest(digest, self.token_sha256):
            raise errors.ApiError(404, f"Invalid URL ({web.method} {web.path})", code="unknown_url")


def _asked(query: str) -> tuple[str, float]:
    given = dict(urllib.parse.parse_qsl(query))
    try:
        wait = float(given.get("wait", "0"))
    except ValueError:
        raise errors.invalid("'wait' must be a number of seconds.", param="wait") from None
    return given.get("version", ""), min(max(wait, 0.0), _LONGEST_SECONDS)


def _version(feed: facts.Feed) -> str:
    """Return a name for what is asked; how long has passed is not a part of it."""
    counts = {name: (one.in_flight, one.queued) for name, one in sorted(feed.models.items())}
    return f"{zlib.crc32(msgspec.json.encode([counts, sorted(feed.sick.items())])):08x}"
