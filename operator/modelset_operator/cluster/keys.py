"""What opens the demand feed of each set: made of one key that only the operator has."""

import base64
import hashlib
import hmac
import secrets

from modelset_operator.cluster import http, kinds

_FIELD = "key"


def token(key: bytes, uid: str) -> str:
    """Return the token of the set with this uid."""
    return hmac.digest(key, uid.encode(), "sha256").hex()


def token_hash(given: str) -> str:
    """Return what the proxy is told of a token."""
    return hashlib.sha256(given.encode()).hexdigest()


class Keys:
    """The key, in a Secret of the operator's namespace, which is made where it is missing."""

    def __init__(self, api: http.Http, namespace: str, instance: str) -> None:
        self._api = api
        self._namespace = namespace
        self.secret = f"{instance}-demand"
        self._key: bytes | None = None

    async def key(self) -> bytes:
        """Return it. Errors are those of `Http`."""
        if self._key is None:
            self._key = await self._get() or await self._create()
        return self._key

    async def _get(self) -> bytes | None:
        try:
            found = await self._api.ask("GET", kinds.SECRET.path(self._namespace, self.secret))
        except http.RefusedError as error:
            if error.status == 404:
                return None
            raise
        return base64.b64decode(found["data"][_FIELD])

    async def _create(self) -> bytes:
        key = secrets.token_bytes(32)
        body = {
            "apiVersion": kinds.SECRET.api_version,
            "kind": kinds.SECRET.kind,
            "metadata": {"name": self.secret, "namespace": self._namespace},
            "type": "Opaque",
            "data": {_FIELD: base64.b64encode(key).decode()},
        }
        await self._api.ask("POST", kinds.SECRET.path(self._namespace), body=body)
        return key
