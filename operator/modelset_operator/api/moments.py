"""Times as the API server, annotations and Ollama write them, and durations such as `1h30m`. Pure."""

import datetime
import re

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")


def parse(text: str) -> float | None:
    """Return an RFC 3339 time in Unix seconds, None for what is none; one without a zone is in UTC."""
    try:
        found = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=datetime.UTC)).timestamp()


def written(seconds: float) -> str:
    """Return Unix seconds as an RFC 3339 time in UTC, to the second."""
    return datetime.datetime.fromtimestamp(int(seconds), datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def duration(text: str) -> float:
    """Return a duration in seconds. Raises ValueError."""
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is no duration, such as 1h or 1h30m")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)
