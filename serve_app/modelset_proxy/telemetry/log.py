"""Structured logging: one JSON object a line, with facts and never with what users wrote or their keys."""

import asyncio
import functools
import logging
import sys
import time
from collections.abc import Mapping

import msgspec

ROOT = "modelset_proxy"
_HOLD_SECONDS = 0.2


class JsonFormatter(logging.Formatter):
    """Formats a record as JSON: time (UTC), level, logger, message, and the facts given to ``fact``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = _line(record.created, record.levelno, record.getMessage(), getattr(record, "facts", {}))
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


class RequestLog:
    """The access log: lines like those of ``JsonFormatter``, written together a few times a second.

    The standard library's way through records and handlers, with a write for each line, took a tenth of the
    CPU of a request.
    """

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self._logger = logging.getLogger(ROOT)

    def write(self, level: int, **values: object) -> None:
        """Log one request; to be called in an event loop."""
        if not self._logger.isEnabledFor(level):
            return
        line = _line(time.time(), level, "request", _known(values))
        if not self._lines:
            asyncio.get_running_loop().call_later(_HOLD_SECONDS, self.flush)
        self._lines.append(msgspec.json.encode(line))

    def flush(self) -> None:
        """Write what was held back."""
        lines, self._lines = self._lines, []
        if lines and sys.__stderr__ is not None:
            sys.__stderr__.write(b"\n".join([*lines, b""]).decode())
            sys.__stderr__.flush()


def _line(seconds: float, level: int, message: str, known: Mapping[str, object]) -> dict[str, object]:
    return {"time": _utc(seconds), "level": _level(level), "message": message, **known}


def _known(values: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in values.items() if value not in (None, "")}


@functools.cache
def _level(number: int) -> str:
    return logging.getLevelName(number).lower()


def _utc(seconds: float) -> str:
    whole, fraction = divmod(seconds, 1)
    return f"{_utc_second(int(whole))}.{int(fraction * 1000):03d}Z"


@functools.lru_cache(maxsize=2)
def _utc_second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def setup(level: str) -> None:
    """Send the package's log to standard error, once; handlers that a host has set up stay."""
    logger = logging.getLogger(ROOT)
    logger.setLevel(level)
    if not logger.handlers:
        # Not sys.stderr: Serve puts a slow, buffered stand-in there, which keeps lines back by the thousand.
        handler = logging.StreamHandler(sys.__stderr__)
        handler.setFormatter(JsonFormatter())
        logger.addHandler(handler)
        logger.propagate = False


def facts(**values: object) -> dict[str, dict[str, object]]:
    """Return the ``extra`` of a log call; facts that are None or empty are left out."""
    return {"facts": _known(values)}
