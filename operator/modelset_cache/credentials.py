"""Who the cache is to registries: a Secret of the type that image registries have, by host.

It is read anew for each registry that asks, so that a change is taken up without a restart. Nothing of it is
logged.
"""

import base64
import binascii
import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True, repr=False)
class Credentials:
    """What one registry knows us by: a name and a password, or a token that stands for both."""

    username: str = ""
    password: str = ""
    token: str = ""

    @property
    def basic(self) -> str:
        """The header Authorization for name and password, "" where there are none."""
        if not self.username:
            return ""
        pair = f"{self.username}:{self.password}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"


NOBODY = Credentials()


def read(path: pathlib.Path | None, host: str) -> Credentials:
    """Return what a `.dockerconfigjson` has for a host; NOBODY where it has nothing, or is not there."""
    if path is None:
        return NOBODY
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return NOBODY
    return of_host(found, host)


def of_host(config: Any, host: str) -> Credentials:
    """Return what the content of a `.dockerconfigjson` has for a host, NOBODY where it has nothing."""
    auths = config.get("auths") if isinstance(config, Mapping) else None
    if not isinstance(auths, Mapping):
        return NOBODY
    for name, entry in auths.items():
        if _host(str(name)) == host.lower() and isinstance(entry, Mapping):
            return _entry(entry)
    return NOBODY


def _host(name: str) -> str:
    """Return the host of a key, which may be a URL with a path."""
    return (name.partition("://")[2] or name).partition("/")[0].lower()


def _entry(entry: Mapping[str, Any]) -> Credentials:
    username, password = str(entry.get("username") or ""), str(entry.get("password") or "")
    if not username and entry.get("auth"):
        try:
            pair = base64.b64decode(str(entry["auth"]), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return NOBODY
        username, _, password = pair.partition(":")
    return Credentials(username, password, str(entry.get("registrytoken") or ""))
