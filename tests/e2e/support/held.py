"""What an Ollama pod holds, as its own client lists it."""

from __future__ import annotations

from tests.e2e.support.kube import Kube


def models(kube: Kube, pod: str) -> list[str]:
    """Return the names of the models, as Ollama spells them."""
    lines = kube.run("exec", pod, "--", "ollama", "list").splitlines()[1:]
    return [line.split()[0] for line in lines]
