"""Namespaces that live as long as a fixture does, and which of them do, for a failed test's diagnostics."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.support.kube import Kube

LIVE: pytest.StashKey[list[str]] = pytest.StashKey()


def fresh(name: str, config: pytest.Config) -> Iterator[Kube]:
    """A namespace that enforces Pod Security "restricted"; for `yield from` in a fixture."""
    kube = Kube(name)
    kube.run("delete", "namespace", name, "--ignore-not-found", "--wait")
    kube.apply(
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
        }
    )
    config.stash.setdefault(LIVE, []).append(name)
    yield kube
    config.stash[LIVE].remove(name)
    kube.run("delete", "namespace", name, "--wait")
