"""What keeps foreign web pages out where no key does.

A browser sends what any page asks it to, from the machine and the network of who looks at the page. CORS only
keeps the answer from the page, and a page whose own name leads here in the end counts as ours.
"""

import ipaddress
from collections.abc import Iterable, Mapping

from modelset_proxy.openai import errors
from modelset_proxy.web import cors

_ANY = "*"


class Guard:
    """Refuses requests of pages that ``origins`` does not allow, and those for names that are not ours.

    Ours are addresses, names without a dot, which only the own network resolves, those below localhost, and
    ``hosts``.
    """

    def __init__(self, origins: cors.Cors, hosts: Iterable[str]) -> None:
        self._origins = origins
        self._hosts = {host.lower() for host in hosts}

    def check(self, headers: Mapping[bytes, bytes]) -> None:
        """Raise a 403 for a request that a foreign page may be behind."""
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if not self._is_ours(_name(host)):
            raise errors.ApiError(
                403,
                "This server is not known by the name that the request gives it. If it should be, set "
                "PROXY_ALLOWED_HOSTS to that name, or to * for any.",
                code="host_not_allowed",
            )
        origin = headers.get(b"origin")
        if origin is None:
            is_foreign = headers.get(b"sec-fetch-site") == b"cross-site"
        else:
            is_own = origin.decode("latin-1").lower() in (f"http://{host}", f"https://{host}")
            is_foreign = not is_own and not self._origins.allows(origin)
        if is_foreign:
            raise errors.ApiError(
                403,
                "Web pages of this origin may not call this server. If they should, add the origin to "
                "PROXY_CORS_ORIGINS.",
                code="origin_not_allowed",
            )

    def _is_ours(self, name: str) -> bool:
        if "." not in name or name.endswith(".localhost") or name in self._hosts or _ANY in self._hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def _name(host: str) -> str:
    """Return a Host header without its port; an address of IPv6 has colons of its own, and brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].rstrip(".")
