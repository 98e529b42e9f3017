"""Loopback ports, and asking whether somebody answers there."""

from __future__ import annotations

import http.client
import socket
from urllib.parse import urlsplit


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def get(url: str, *, seconds: float = 5.0) -> bytes | None:
    """Return the body of a successful answer, else None."""
    answer = _answer(url, seconds)
    return answer[1] if answer is not None else None


def header(url: str, name: str, *, seconds: float = 5.0) -> str | None:
    """Return a header of a successful answer, else None."""
    answer = _answer(url, seconds)
    return answer[0].getheader(name) if answer is not None else None


def _answer(url: str, seconds: float) -> tuple[http.client.HTTPResponse, bytes] | None:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=seconds)
    try:
        connection.request("GET", parts.path)
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return (answer, body) if answer.status == http.HTTPStatus.OK else None
