"""Bodies of requests: how fast they must come, and how much of them a process holds at once."""

import asyncio
import codecs
import io
from collections.abc import Awaitable, Callable

from modelset_proxy.openai import errors

# So far apart may two parts be, and so long may the whole take: some time, and more with what has come.
_GAP_SECONDS = 10.0
_START_SECONDS = 30.0
_BYTES_A_SECOND = 100_000
# While it is translated a body is there several times over, and a proxy's pod asks for 1 GiB by default.
_BUDGET_BYTES = 128 * 1024 * 1024

# Returns the next part of a body, and whether more follows.
NextPart = Callable[[], Awaitable[tuple[bytes, bool]]]


class Budget:
    """Bytes of bodies that all requests of a process hold together.

    Bytes count when they have come: a length that was only announced takes no room from others.
    """

    def __init__(self, size: int = _BUDGET_BYTES) -> None:
        self._size = size
        self.held = 0

    def check(self, count: int, limit: int) -> None:
        """Raise a 503 where so many more bytes do not fit; a body alone may always have ``limit`` bytes."""
        if self.held + count > max(self._size, limit):
            raise errors.unavailable(
                "Too much is being sent to the server at once. Try again shortly.", code="server_overloaded"
            )

    def take(self, count: int, limit: int) -> None:
        """Count bytes, or raise as ``check`` does."""
        self.check(count, limit)
        self.held += count

    def give_back(self, count: int) -> None:
        """Forget bytes."""
        self.held -= count


class Body:
    """The body of one request; what it holds is given back in the end, however that comes."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._held = 0

    async def read(self, next_part: NextPart, *, limit: int, declared: int, is_text: bool) -> bytes:
        """Read the whole; raises a 413 for more than ``limit`` bytes, a 503, and a 408 for a slow client.

        ``declared`` is how long the client says that it is, or 0. What ``is_text`` has to be UTF-8: decoders
        do not look at what they skip.
        """
        _check_size(declared, limit)
        self._budget.check(declared, limit)
        try:
            return await self._parts(next_part, limit, _Text() if is_text else None)
        except TimeoutError:
            raise errors.ApiError(
                408, "The request body did not come fast enough.", code="request_timeout"
            ) from None

    async def _parts(self, next_part: NextPart, limit: int, text: "_Text | None") -> bytes:
        # Grows without a second copy, and tiny parts cost no more than their bytes.
        body = io.BytesIO()
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.timeout_at(began + _GAP_SECONDS) as patience:
            while True:
                part, more = await next_part()
                _check_size(self._held + len(part), limit)
                self._budget.take(len(part), limit)
                self._held += len(part)
                if text is not None:
                    text.check(part, final=not more)
                body.write(part)
                if not more:
                    return body.getvalue()
                in_all = began + _START_SECONDS + self._held / _BYTES_A_SECOND
                patience.reschedule(min(loop.time() + _GAP_SECONDS, in_all))

    def let_go(self) -> None:
        """Give its bytes back; to be called once."""
        self._budget.give_back(self._held)


class _Text:
    """Looks whether a body is UTF-8, part by part, so that no look is long."""

    def __init__(self) -> None:
        self._decoder: codecs.IncrementalDecoder | None = None

    def check(self, part: bytes, *, final: bool) -> None:
        if self._decoder is None:
            if part.isascii():
                return
            self._decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            self._decoder.decode(part, final)
        except UnicodeDecodeError:
            raise errors.invalid(
                "The request body is not valid JSON: it is not UTF-8.", code="invalid_json"
            ) from None


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise errors.ApiError(
            413, f"The request body is larger than {limit} bytes.", code="request_too_large"
        )
