"""Who may make sets may not read Secrets by it: a set names only what its maker could read anyway."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.support import making
from tests.e2e.support import modelset as ms
from tests.e2e.support.kube import Kube, Refused

pytestmark = pytest.mark.compat


def _keys(secret: str) -> dict[str, Any]:
    return {"auth": {"apiKeysSecret": {"name": secret}}}


def test_who_names_credentials_must_be_allowed_to_read_them(kube: Kube) -> None:
    making.may(kube, "make-sets", "modelset.dev", "ollamamodelsets")
    named = {"credentialsSecret": {"name": "login"}, "cache": {}}
    with pytest.raises(Refused, match="may not get Secret login"):
        making.attempt(kube, making.manifest("another", registry=named))

    kube.apply(making.manifest("made", registry=named))
    making.attempt(kube, making.manifest("made", [ms.CHAT], registry=named))
    with pytest.raises(Refused, match="may not get Secret login"):
        making.attempt(kube, making.manifest("made", registry={**named, "host": "else.example:5000"}))

    making.may(kube, "read-login", "", "secrets", "login")
    making.attempt(kube, making.manifest("another", registry=named))


def test_who_names_a_secret_must_be_allowed_to_read_it(kube: Kube) -> None:
    making.may(kube, "make-sets", "modelset.dev", "ollamamodelsets")
    kube.apply(making.manifest("made", proxy=_keys("api-keys")))

    making.attempt(kube, making.manifest("another"))
    with pytest.raises(Refused, match="may not get Secret database"):
        making.attempt(kube, making.manifest("another", proxy=_keys("database")))

    making.attempt(kube, making.manifest("made", [ms.CHAT], proxy=_keys("api-keys")))
    with pytest.raises(Refused, match="may not get Secret database"):
        making.attempt(kube, making.manifest("made", proxy=_keys("database")))
    with pytest.raises(Refused, match="may not get Secret api-keys"):
        making.attempt(kube, making.manifest("made", proxy=_keys("api-keys") | {"image": "reads/secrets:1"}))

    making.may(kube, "read-keys", "", "secrets", "api-keys")
    making.attempt(kube, making.manifest("another", proxy=_keys("api-keys")))
    with pytest.raises(Refused, match="may not get Secret database"):
        making.attempt(kube, making.manifest("another", proxy=_keys("database")))
