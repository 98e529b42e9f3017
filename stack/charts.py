"""The chart as it is published: with the registry of our images in its values."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from stack import cache, golang
from stack.published import Published
from stack.step import StepFailed, output, run, step

CHART = cache.REPOSITORY / "charts" / "modelset-operator"
RELEASE, NAMESPACE = "modelset-operator", "modelset-system"
# The values that name the registry of our own images; Ollama's is where it always is.
_REGISTRIES = (
    r"^(image:\n(?:  .*\n)*?  registry: )\"\"$",
    r"^(  proxyImage:\n(?:    .*\n)*?    registry: )\"\"$",
)


def with_registry(values: str, registry: str) -> str:
    """The text of values.yaml with the registry of our images in it."""
    for pattern in _REGISTRIES:
        values, count = re.subn(pattern, rf'\g<1>"{registry}"', values, flags=re.MULTILINE)
        if count != 1:
            raise StepFailed(f"values.yaml has {count} places like {pattern}")
    return values


def with_source(description: str, source: str) -> str:
    """The text of Chart.yaml with the address of its source, "" for none."""
    return f"{description.rstrip()}\nhome: {source}\nsources: [{source}]\n" if source else description


def package(published: Published, folder: Path, source: str = "") -> Path:
    """The chart's archive, in a folder."""
    staged = folder / "chart" / CHART.name
    shutil.copytree(CHART, staged, ignore=shutil.ignore_patterns("tests"), dirs_exist_ok=True)
    values, description = staged / "values.yaml", staged / "Chart.yaml"
    values.write_text(with_registry((CHART / values.name).read_text(), published.registry))
    description.write_text(with_source((CHART / description.name).read_text(), source))
    helm, log = golang.tool("helm"), cache.log("helm-package")
    with step(f"package the chart {published.version}"):
        run([helm, "lint", "--strict", staged], log=log)
        run([helm, "package", staged, "--destination", folder], log=log)
    return folder / f"{CHART.name}-{published.version}.tgz"


def push(archive: Path, published: Published) -> str:
    """Put the archive into the registry; its digest there."""
    plain = ["--plain-http"] if published.plain_http else []
    with step(f"push {published.chart}:{published.version}"):
        # helm says it on standard error.
        said = output(
            ["sh", "-c", '"$@" 2>&1', "helm", golang.tool("helm"), "push", archive, published.charts, *plain]
        )
    return pushed_digest(said)


def pushed_digest(said: str) -> str:
    """The digest that `helm push` tells."""
    found = re.search(r"^Digest: (sha256:[0-9a-f]{64})$", said, re.MULTILINE)
    if found is None:
        raise StepFailed(f"helm push told no digest: {said.strip()}")
    return found[1]


def install(published: Published) -> None:
    """Install or upgrade the release from the registry, on the cluster that kubectl is set to."""
    helm: list[str | Path] = [golang.tool("helm"), "upgrade", "--install", RELEASE, published.chart]
    where = ["--version", published.version, "--namespace", NAMESPACE, "--create-namespace", "--wait"]
    plain = ["--plain-http"] if published.plain_http else []
    with step(f"install {published.chart} {published.version}"):
        run([*helm, *where, *plain], log=cache.log("install"))
