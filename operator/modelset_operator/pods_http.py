"""What pods are asked with: each request has a connection of its own, to the pod's own address."""

import ssl

import httpx

_KEEP_NONE = httpx.Limits(max_keepalive_connections=0)


class PodsTransport(httpx.AsyncBaseTransport):
    """Opens a connection for a request, and closes it with the answer.

    In a pool of all pods' connections each request looks through all that are open (httpcore): a thousand
    pods, of which something is asked all the time, took a processor by that alone. So no request waits for
    another one's connection either, and downloads keep no look waiting.
    """

    def __init__(self) -> None:
        # Pods are asked in the clear; made for each request, it would take longer than most answers.
        self._unused = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """See `httpx.AsyncBaseTransport`."""
        return await httpx.AsyncHTTPTransport(verify=self._unused, limits=_KEEP_NONE).handle_async_request(
            request
        )


def client() -> httpx.AsyncClient:
    """Return a client for pods. With a transport of its own it asks no proxy of the environment.

    How many are asked at once is bounded for each set, so that no set keeps others waiting.
    """
    return httpx.AsyncClient(transport=PodsTransport())
