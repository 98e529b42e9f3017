"""Our images for several architectures at once, by `docker buildx bake`, with provenance."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from stack import cache, components, engine, images
from stack.published import Published
from stack.step import StepFailed, run, step, succeeds

PLATFORMS = ("linux/amd64", "linux/arm64")
PROVENANCE = "type=provenance,mode=max"
LOCAL_BUILDER = "modelset-release"


def definition(
    tags: Mapping[str, str],
    contexts: Mapping[str, Path],
    platforms: Sequence[str],
    *,
    base: str,
    provenance: bool,
    secrets: Sequence[str] = (),
    labels: Mapping[str, str] | None = None,
) -> dict[str, object]:
    """A bake file: `tags` by the image's name in images/, `contexts` by that and by `venv-<name>`.

    The environment that an image copies is a target of its own: it is built with it and pushed nowhere.
    """
    shared = {"platforms": list(platforms), "args": {"BASE": base}, "secret": list(secrets)}
    targets: dict[str, object] = {}
    for name, tag in tags.items():
        environment = f"venv-{name}"
        targets[environment] = {**shared, "context": str(contexts[environment])}
        targets[name] = {
            **shared,
            "context": str(contexts[name]),
            "contexts": {environment: f"target:{environment}"},
            "args": {"BASE": base, "VENV": environment},
            "tags": [tag],
            "labels": dict(labels or {}),
            "attest": [PROVENANCE] if provenance else [],
        }
    return {"group": {"default": {"targets": list(tags)}}, "target": targets}


def digests(metadata: Mapping[str, Mapping[str, str]], names: Sequence[str]) -> dict[str, str]:
    """The digest of each image, from what bake tells of what it pushed."""
    found = {name: metadata.get(name, {}).get("containerimage.digest", "") for name in names}
    if missing := [name for name, digest in found.items() if not digest]:
        raise StepFailed(f"buildx told no digest of {', '.join(missing)}")
    return found


def available() -> bool:
    """Whether the engine's client has buildx."""
    return succeeds(["docker", "buildx", "version"])


@contextlib.contextmanager
def _builder(local: bool) -> Iterator[list[str]]:
    """Flags that say who builds: who is set up, or for a registry of this machine one on its network."""
    if not local:
        yield []
        return
    log = cache.log("buildx")
    options = ["--driver", "docker-container", "--driver-opt", "network=host"]
    run(["docker", "buildx", "create", "--name", LOCAL_BUILDER, *options], log=log)
    try:
        yield ["--builder", LOCAL_BUILDER]
    finally:
        run(["docker", "buildx", "rm", LOCAL_BUILDER], log=log)


def push(
    published: Published,
    platforms: Sequence[str],
    folder: Path,
    *,
    provenance: bool,
    labels: Mapping[str, str],
) -> dict[str, str]:
    """Build our images, push them, and return their digests; build contexts are left in `folder`."""
    tags = published.images
    contexts: dict[str, Path] = {}
    for name in tags:
        for target, (image, files) in components.ours(name).items():
            contexts[target] = folder / target
            images.stage(contexts[target], images.FOLDER / image)
            for file, content in files.items():
                images.stage(contexts[target] / file, content)
    bundle = engine.ca_bundle()
    described = definition(
        tags,
        contexts,
        platforms,
        base=images.pulled_as("base"),
        provenance=provenance,
        secrets=[f"id=ca,src={bundle}"] if bundle else [],
        labels=labels,
    )
    definitions, metadata = folder / "bake.json", folder / "metadata.json"
    definitions.write_text(json.dumps(described, indent=2))
    title = f"build and push {', '.join(tags.values())} for {', '.join(platforms)}"
    with step(title), _builder(published.plain_http) as builder:
        # The file is ours: it need not ask whether it may read the host's certificates.
        env = {"BUILDX_BAKE_ENTITLEMENTS_FS": "0"}
        command = ["docker", "buildx", "bake", *builder, "--file", str(definitions), "--push"]
        run([*command, "--metadata-file", metadata], log=cache.log("bake"), env=env)
    return digests(json.loads(metadata.read_text()), list(tags))
