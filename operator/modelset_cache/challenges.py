"""What a registry answers to whom it does not know: the header WWW-Authenticate (RFC 9110, 11.6.1). Pure."""

import dataclasses
import re
from collections.abc import Mapping

_PARAMETER = re.compile(r'([A-Za-z][A-Za-z0-9_-]*)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s",]+))')


@dataclasses.dataclass(frozen=True)
class Challenge:
    """How to say who asks: a `scheme` in lower case, and its parameters."""

    scheme: str
    parameters: Mapping[str, str]


def parse(header: str) -> Challenge:
    """Return the challenge in a header of one; what is none has the scheme ""."""
    scheme, _, rest = header.strip().partition(" ")
    found = {
        name.lower(): re.sub(r"\\(.)", r"\1", quoted) or plain
        for name, quoted, plain in _PARAMETER.findall(rest)
    }
    return Challenge(scheme.lower(), found)
