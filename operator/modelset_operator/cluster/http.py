"""Requests to the API server through the official asyncio client; objects are plain dictionaries."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import aiohttp
from kubernetes.aio import client

from modelset_operator import metrics
from modelset_operator.cluster import kinds

REQUEST_SECONDS = 20
# So many objects of a list come at a time: as they come they take many times what is kept of them.
_PAGE = 100
# The first of a watch, before any event: the API server has taken it.
BEGUN = "BEGUN"
# How long the API server may be silent beyond what a watch lasts, before the connection counts as dead.
_SPARE_SECONDS = 20


class KindMissingError(Exception):
    """The API server does not know the kind: its CustomResourceDefinition is not installed."""


class UnreachableError(Exception):
    """The API server did not answer."""


class RefusedError(Exception):
    """The API server refused a request; the message is its own, `status` the HTTP status.

    `retry_after` are the seconds after which it asks to be asked again, None where it does not say.
    """

    def __init__(self, status: int, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after

    @property
    def passing(self) -> bool:
        """Whether another look may help: too many requests, a conflict, a failure of the server.

        What another object of the name has taken the place of is a conflict too: 422 for its uid.
        """
        another = self.status == 422 and "metadata.uid" in str(self)
        return another or self.status in (408, 409, 429) or self.status >= 500


class ExpiredError(Exception):
    """What a watch asked for is too old: everything has to be listed again."""


class Http:
    """The API server. All requests raise RefusedError, KindMissingError or UnreachableError."""

    def __init__(self, api: client.ApiClient) -> None:
        self._api = api

    async def ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | Sequence[Any] | None = None,
        content_type: str = "application/json",
    ) -> dict[str, Any]:
        """Send one request and return what came back."""
        timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS)
        try:
            response = await self._send(method, path, query, body, content_type, timeout)
            data = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _unreachable(error) from error
        if 200 <= response.status <= 299:
            result: dict[str, Any] = json.loads(data)
            return result
        raise _error(response.status, response.headers, path, data)

    async def list(
        self, kind: kinds.Kind, namespace: str, labels: str
    ) -> AsyncIterator[tuple[list[dict[str, Any]], str]]:
        """Yield all objects of a kind that have these labels, some at a time, and from where on to watch."""
        query = {"limit": str(_PAGE), **({"labelSelector": labels} if labels else {})}
        while True:
            page = await self.ask("GET", kind.path(namespace), query=query)
            metadata = page.get("metadata") or {}
            yield page.get("items") or [], str(metadata.get("resourceVersion", ""))
            if not metadata.get("continue"):
                return
            query["continue"] = metadata["continue"]

    async def watch(
        self, kind: kinds.Kind, namespace: str, labels: str, since: str, seconds: int
    ) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """Yield BEGUN, then events (ADDED, MODIFIED, DELETED, BOOKMARK) and their objects, for so long.

        Raises ExpiredError where the API server does not go back as far as `since`.
        """
        query = {"watch": "1", "resourceVersion": since, "allowWatchBookmarks": "true"}
        query |= {"timeoutSeconds": str(seconds), **({"labelSelector": labels} if labels else {})}
        timeout = aiohttp.ClientTimeout(
            total=seconds + _SPARE_SECONDS, sock_connect=REQUEST_SECONDS, sock_read=seconds + _SPARE_SECONDS
        )
        path = kind.path(namespace)
        try:
            response = await self._send("GET", path, query, None, "application/json", timeout)
            try:
                if response.status != 200:
                    raise _error(response.status, response.headers, path, await response.read())
                yield BEGUN, {}
                while line := await response.content.readline():
                    event = json.loads(line)
                    kind_of_event, found = event["type"], event["object"]
                    if kind_of_event == "ERROR":
                        raise _error(int(found.get("code", 500)), {}, path, json.dumps(found))
                    yield kind_of_event, found
            finally:
                response.close()
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError) as error:
            # A line that is no event is one that was cut off.
            raise _unreachable(error) from error

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Mapping[str, Any] | Sequence[Any] | None,
        content_type: str,
        within: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        request = await self._api.param_serialize(
            method,
            path,
            query_params=list((query or {}).items()),
            header_params={"Accept": "application/json", "Content-Type": content_type},
            body=body,
            auth_settings=["BearerToken"],
        )
        what = _described(method, path, query or {}, content_type)
        try:
            response = await self._api.call_api(*request, _request_timeout=within)
        except (aiohttp.ClientError, TimeoutError):
            metrics.requested(*what, None)
            raise
        sent: aiohttp.ClientResponse = response.response
        metrics.requested(*what, sent.status)
        return sent


_VERBS = {"POST": "create", "PUT": "update", "DELETE": "delete"}


def _described(method: str, path: str, query: Mapping[str, str], content_type: str) -> tuple[str, str]:
    """Return a request's verb and resource, as RBAC names them, but for apply, which is a patch there."""
    _, *parts = path.removeprefix("/").split("/")
    rest = parts[1 if path.startswith("/api/") else 2 :]
    resource, *below = rest[2:] if rest[0] == "namespaces" and len(rest) > 2 else rest
    if method == "GET":
        verb = "watch" if "watch" in query else "get" if below else "list"
    elif method == "PATCH":
        verb = "apply" if "apply" in content_type else "patch"
    else:
        verb = _VERBS[method]
    return verb, "/".join([resource, *below[1:]])


def _unreachable(error: Exception) -> UnreachableError:
    return UnreachableError(f"the API server does not answer ({str(error) or type(error).__name__})")


def _error(status: int, headers: Mapping[str, str], path: str, data: bytes | str) -> Exception:
    """Tell an object that is not there from a kind that is not there: only the first gets a Status object."""
    if status == 410:
        return ExpiredError(path)
    try:
        message = str(json.loads(data)["message"])
    except (ValueError, KeyError, TypeError):
        if status == 404:
            return KindMissingError(f"the API server has nothing at {path}")
        text = (data if isinstance(data, str) else data.decode(errors="replace")).strip()
        message = f"HTTP {status}: {text[:200]}"
    return RefusedError(status, message, _seconds(headers.get("Retry-After", "")))


def _seconds(text: str) -> float | None:
    return float(text) if text.isdigit() else None
