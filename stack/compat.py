"""`make compat`: a core of the end-to-end tests on other versions than the pinned ones, a kind cluster each.

Each folder of pins/compat is a combination of versions. One that fails keeps no other from being tried.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence

from stack import cache, cluster, engine, golang, images, models, pins
from stack.step import StepFailed, output, say

# Whose versions are told: the image that is pulled, or the group below pins/go and the module that is built.
BUILT = {
    "Kubernetes": ("kind-node", "kubernetes", "k8s.io/kubernetes"),
    "KubeRay": ("kuberay", "kuberay", "github.com/ray-project/kuberay/ray-operator"),
    "Ollama": ("ollama", "ollama", "github.com/ollama/ollama"),
}


def run(names: Sequence[str]) -> None:
    """Try combinations, or all there are; raise StepFailed with those that failed."""
    engine.ensure()
    combinations = {name: _versions_of(name) for name in names or pins.combinations()}
    models.registry_image()  # Else the first combination's Ollama would make the models for all others too.
    outcomes = {name: _tried(name) for name in combinations}
    for name, versions in combinations.items():
        print(f"{name}: {versions}: {'passed' if outcomes[name] else 'failed'}", flush=True)
    if failed := [name for name, passed in outcomes.items() if not passed]:
        raise StepFailed(f"with other versions the tests fail: {', '.join(failed)}")


def versions() -> dict[str, str]:
    """What is pulled or built, under COMPAT in its versions."""
    pulls = images.source() == "pull"
    found = {
        component: tagged(pins.load().pulled[image]) if pulls else golang.module_version(group, module)
        for component, (image, group, module) in BUILT.items()
    }
    (found["Ray"],) = re.findall(
        r"^ray(?:\[\w+\])?==(\S+)", (pins.FOLDER / "serve-app.txt").read_text(), re.MULTILINE
    )
    return {component: version.removeprefix("v") for component, version in found.items()}


def tagged(image: str) -> str:
    """The tag in an image's name."""
    return image.partition("@")[0].rpartition(":")[2]


def print_versions() -> None:
    """One line."""
    print(", ".join(f"{component} {version}" for component, version in versions().items()))


def _versions_of(name: str) -> str:
    return output([sys.executable, "-m", "stack", "versions"], env={"COMPAT": name}).strip()


def _tried(name: str) -> bool:
    """Whether the core passes on a new cluster, which goes afterwards."""
    say(f"• {name}")
    try:
        return _make(name, "chart-test", "e2e", "E2E=-m compat")
    finally:
        _make(name, "down")


def _make(name: str, *arguments: str) -> bool:
    """Run make with what a command line says over what the environment and the calling make say."""
    said = [f"COMPAT={name}", f"CLUSTER={cluster.NAME}-compat-{name}"]
    return subprocess.run(["make", *said, *arguments], cwd=cache.REPOSITORY, check=False).returncode == 0
