"""Bodies of HTTP answers, of servers that may send without end."""

import httpx


class TooLargeError(Exception):
    """A body has more bytes than it may."""


async def read(response: httpx.Response, most: int) -> bytes:
    """Read a body whole, of so many bytes at most; raises TooLargeError as soon as there are more."""
    body = bytearray()
    async for part in response.aiter_bytes():
        body += part
        if len(body) > most:
            raise TooLargeError
    return bytes(body)
