"""Who may make sets gets by that no more than pods of their kind: the rest takes the right to make pods."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.support import making
from tests.e2e.support.kube import Kube, Refused


def _mounts(claim: str) -> dict[str, Any]:
    volume = {"name": "data", "mountPath": "/data", "persistentVolumeClaim": {"claimName": claim}}
    return {"volumes": [volume]}


OF_OLLAMA = _mounts("data") | {"podLabels": {"app": "a"}}
OF_THE_PROXY: dict[str, Any] = {"podAnnotations": {"mesh.example/inject": "true"}}
OTHERS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (_mounts("database"), {}),
    ({"podLabels": {"app": "payments"}}, {}),
    ({"podAnnotations": {"vault.example/secret": "all"}}, {}),
    ({"image": "reads/volumes:1"}, {}),
    ({"env": [{"name": "LD_PRELOAD", "value": "/data/x.so"}]}, {}),
    ({}, {"podLabels": {"app": "payments"}}),
    ({}, {"podAnnotations": {"vault.example/secret": "all"}}),
    ({}, {"image": "stands/in:1"}),
]


def test_who_says_what_pods_are_must_be_allowed_to_make_them(kube: Kube) -> None:
    making.may(kube, "make-sets", "modelset.dev", "ollamamodelsets")
    kube.apply(making.manifest("made", ollama=OF_OLLAMA, proxy=OF_THE_PROXY))

    making.attempt(kube, making.manifest("another"))
    making.attempt(kube, making.manifest("made", ollama=OF_OLLAMA | {"parallel": 2}, proxy=OF_THE_PROXY))
    for ollama, proxy in OTHERS:
        changed = making.manifest("made", ollama=OF_OLLAMA | ollama, proxy=OF_THE_PROXY | proxy)
        with pytest.raises(Refused, match="must be allowed to make pods"):
            making.attempt(kube, changed)
    for another in (
        making.manifest("another", ollama=OF_OLLAMA),
        making.manifest("another", proxy=OF_THE_PROXY),
    ):
        with pytest.raises(Refused, match="must be allowed to make pods"):
            making.attempt(kube, another)

    making.may(kube, "make-pods", "", "pods")
    making.attempt(kube, making.manifest("another", ollama=OF_OLLAMA, proxy=OF_THE_PROXY))
