"""What README.md and docs/install.md tell to type leads from an empty cluster to an answer, and back again.

The commands are read out of the documents and run as they are, but for what a machine without internet has to
type otherwise: where KubeRay's chart is, which registry our images are in, and where the models come from.
"""

from __future__ import annotations

import json

import pytest

from stack import cache
from stack.step import StepFailed
from tests.e2e.support import inventory
from tests.e2e.support.waiting import until
from tests.install import documents
from tests.install.registry import Registry
from tests.install.terminal import Terminal

README, INSTALL = cache.REPOSITORY / "README.md", cache.REPOSITORY / "docs" / "install.md"
# Ray's pods take most of a minute to end, and volumes go after their pods.
GONE_SECONDS = 240


def _as_here(commands: list[str], differences: dict[str, str]) -> list[str]:
    """The commands with each difference made, which is in exactly one of them."""
    for written, here in differences.items():
        assert sum(written in command for command in commands) == 1, f"{written} is no longer in the document"
        commands = [command.replace(written, here) for command in commands]
    return commands


def _different(before: set[str]) -> set[str]:
    """What there is now and was not before, or the other way round."""
    try:
        return inventory.everything() ^ before
    except StepFailed as lost:  # a kind that has just gone was still listed
        return {str(lost)}


@pytest.mark.timeout(2400)
def test_they_lead_to_an_answer_and_back(typing: Terminal, images: Registry, kuberay_repository: str) -> None:
    install = _as_here(
        documents.read(INSTALL, "KubeRay", "Images", "The operator"),
        {
            # Its name, which is to be put in.
            "REGISTRY=registry.example/team": f"REGISTRY={images.address}/team",
            # KubeRay's chart from this machine; its manifests are KubeRay's.
            "https://ray-project.github.io/kuberay-helm": kuberay_repository,
        },
    )
    # The same set, with models from the cluster's own registry.
    use = _as_here(
        documents.read(README, "Use it"), {"examples/modelset.yaml": "examples/modelset-airgapped.yaml"}
    )
    remove = documents.read(INSTALL, "Removing all of it")
    before = inventory.everything()

    said = {command: typing.run(command) for command in [*install, *use]}
    [tested] = [text for command, text in said.items() if command.startswith("helm test")]
    assert tested.count("Succeeded") == 3
    [forwarded] = [text for command, text in said.items() if "port-forward" in command]
    assert forwarded.startswith("Forwarding from")
    [answer] = [json.loads(text) for command, text in said.items() if command.startswith("curl")]
    assert answer["choices"][0]["message"]["content"]
    [client] = [text for command, text in said.items() if command.startswith("python")]
    assert "smollm2: " in client
    assert inventory.everything() > before

    for command in remove:
        typing.run(command)
    until(
        lambda: _different(before),
        lambda different: not different,
        seconds=GONE_SECONDS,
        what="the cluster is as it was before",
    )
