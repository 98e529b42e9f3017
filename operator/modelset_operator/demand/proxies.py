"""Proxies as they are asked over HTTP: `GET /demand` (serve_app, web/demand.py)."""

import asyncio
import json

import httpx

from modelset_operator import bodies
from modelset_operator.demand import feed

# What an answer may take beyond what it waits for.
_SPARE_SECONDS = 10.0
# A thousand models are a tenth of it.
_MOST_BYTES = 1024 * 1024


class Proxies:
    """Implements `feed.Port`."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def ask(self, source: feed.Source, version: str, wait_seconds: float) -> feed.Answer:
        """See `feed.Port`."""
        try:
            async with asyncio.timeout(wait_seconds + _SPARE_SECONDS):
                return _answer(await self._get(source, version, wait_seconds))
        except httpx.HTTPError as error:
            raise feed.UnreachableError(str(error) or type(error).__name__) from error
        except bodies.TooLargeError as error:
            raise feed.UnreachableError("its answer does not end") from error
        except TimeoutError as error:
            raise feed.UnreachableError("it does not answer in time") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise feed.UnreachableError(f"it answers with something else: {error}") from error

    async def _get(self, source: feed.Source, version: str, wait_seconds: float) -> bytes:
        query = {"version": version, "wait": str(wait_seconds)}
        # A connection that is kept stays with one proxy pod, also when the Service has left that for another.
        headers = {"Authorization": f"Bearer {source.token}", "Connection": "close"}
        timeout = httpx.Timeout(_SPARE_SECONDS, read=wait_seconds + _SPARE_SECONDS)
        async with self._http.stream(
            "GET", source.url, params=query, headers=headers, timeout=timeout
        ) as response:
            if response.status_code != httpx.codes.OK:
                raise feed.UnreachableError(f"HTTP {response.status_code}")
            return await bodies.read(response, _MOST_BYTES)


def _answer(body: bytes) -> feed.Answer:
    told = json.loads(body)
    models = list(told["models"].values())
    return feed.Answer(
        version=str(told["version"]),
        in_flight=sum(int(one["inFlight"]) for one in models),
        queued=sum(int(one["queued"]) for one in models),
        idle_seconds=min((float(one["idleSeconds"]) for one in models), default=None),
    )
