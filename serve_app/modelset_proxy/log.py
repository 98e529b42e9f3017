"""Structured logging: one JSON object a line, with facts and never with what users wrote or their keys."""

import logging
import sys
import time

import msgspec

ROOT = "modelset_proxy"


class JsonFormatter(logging.Formatter):
    """Formats a record as JSON: time (UTC), level, logger, message, and the facts given to ``fact``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        whole, fraction = divmod(record.created, 1)
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{int(fraction * 1000):03d}Z",
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


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
    return {"facts": {name: value for name, value in values.items() if value not in (None, "")}}
