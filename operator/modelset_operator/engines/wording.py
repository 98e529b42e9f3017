"""Errors in words that stay the same while the trouble does. Pure."""

import re

# What Go says of a connection begins with the port that was ours: "read tcp 10.0.0.7:51234->1.2.3.4:443".
_OURS = re.compile(r"\b(tcp|udp)([46]?) \S+:\d+->")


def lasting(text: str) -> str:
    """Return an error without the address and port from which a connection was made."""
    return _OURS.sub(r"\1\2 ", text)
