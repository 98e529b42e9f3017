"""Namespaces that live as long as a fixture does, and which of them do, for a failed test's diagnostics."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.support.kube import Kube

LIVE: pytest.StashKey[list[str]] = pytest.StashKey()
LEAVING: pytest.StashKey[list[str]] = pytest.StashKey()
# Ray's pods take most of a minute to end.
GONE_SECONDS = 180


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
    # The next test need not wait for it.
    kube.run("delete", "namespace", name, "--wait=false")
    config.stash.setdefault(LEAVING, []).append(name)


def await_gone(config: pytest.Config) -> None:
    """Wait until every namespace that was used is gone; fails where something keeps one."""
    for name in config.stash.get(LEAVING, []):
        Kube(name).run("delete", "namespace", name, "--ignore-not-found", f"--timeout={GONE_SECONDS}s")
