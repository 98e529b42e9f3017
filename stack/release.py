"""A release: images, chart, signatures, notes; and the same without any of it being seen (`DRY_RUN=1`).

make release DRY_RUN=1                 into a registry of this machine's own
make release DRY_RUN=1 REGISTRY=...    into another one; nothing is signed or announced
make release REGISTRY=...              by the workflow that a tag starts
make images-push REGISTRY=...          images and chart alone, for a cluster of one's own
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from stack import bake, cache, changelog, charts, components, engine, oci, published, signing, versions
from stack.published import Published
from stack.step import StepFailed, output, run, say, step


def run_release() -> None:
    """Everything that a tag makes."""
    environment = os.environ
    dry = environment.get("DRY_RUN", "") not in {"", "0"}
    tag = environment.get("GITHUB_REF_NAME", "") if environment.get("GITHUB_REF_TYPE") == "tag" else ""
    version = versions.ensure(tag)
    source = source_of(environment)
    text = changelog.notes((cache.REPOSITORY / "CHANGELOG.md").read_text(), version, or_unreleased=dry)
    if not dry:
        signing.identity(environment)  # before anything is pushed
    engine.ensure()
    platforms = chosen(
        environment.get("PLATFORMS", ""), bake.PLATFORMS, buildx=bake.available(), must=not dry
    )
    with _registry(dry) as registry:
        names = Published(registry, version)
        folder = _folder(version)
        images = _images(names, platforms, source, attest=True)
        archive = charts.package(names, folder, source)
        chart = charts.push(archive, names)
        references = [published.pinned(names.images[name], digest) for name, digest in images.items()]
        references.append(f"{names.chart.removeprefix('oci://')}@{chart}")
        notes = folder / "notes.md"
        notes.write_text(announcement(text, names, references, source, f"v{version}"))
        if dry:
            say("• neither signed nor announced (DRY_RUN)")
        else:
            signing.sign(references)
            _announce(f"v{version}", notes, archive)
        print("\n".join([*references, str(archive), str(notes)]), flush=True)


def push() -> None:
    """Images and chart into $REGISTRY, for $PLATFORMS or that of this engine; then what to do with them."""
    names = published.named(versions.ensure())
    engine.ensure()
    platforms = chosen(os.environ.get("PLATFORMS", ""), (), buildx=bake.available(), must=False)
    _images(names, platforms, "", attest=False)
    charts.push(charts.package(names, _folder(names.version)), names)
    print(
        f"Next:\n\n  helm upgrade --install {charts.RELEASE} {names.chart} --version {names.version} \\\n"
        f"    --namespace {charts.NAMESPACE} --create-namespace",
        flush=True,
    )


def install() -> None:
    """Install from $REGISTRY on the cluster that kubectl is set to."""
    charts.install(published.named(versions.ensure()))


def chosen(given: str, otherwise: tuple[str, ...], *, buildx: bool, must: bool) -> tuple[str, ...]:
    """The platforms to build for; () is the engine's own, without SBOM and provenance.

    That is all that can be had without buildx, and StepFailed where more was asked for, or is a must.
    """
    platforms = tuple(given.split(",")) if given else otherwise
    if platforms and not buildx:
        if given or must:
            raise StepFailed(f"for {', '.join(platforms)} Docker needs its plugin buildx")
        say(f"• no buildx: neither {', '.join(platforms)} nor SBOMs, but this machine's architecture alone")
        return ()
    return platforms


def source_of(environment: Mapping[str, str]) -> str:
    """The address of the repository whose workflow this is; "" elsewhere."""
    server, repository = environment.get("GITHUB_SERVER_URL"), environment.get("GITHUB_REPOSITORY")
    return f"{server}/{repository}" if server and repository else ""


def announcement(notes: str, names: Published, references: list[str], source: str, tag: str) -> str:
    """The text of a release: how to install it, what has changed, and what exactly it is."""
    install = f"helm install {charts.RELEASE} {names.chart} --version {names.version}"
    if source:
        notes = changelog.linked(notes, source, tag)
    return "\n".join(
        [
            f"```console\n$ {install} --namespace {charts.NAMESPACE} --create-namespace\n```\n",
            notes,
            "\n### Images and chart\n",
            *(f"- `{reference}`" for reference in references),
            "",
        ]
    )


@contextlib.contextmanager
def _registry(dry: bool) -> Iterator[str]:
    """Where to: $REGISTRY, or a registry of our own where nobody is to see it."""
    if dry and not os.environ.get("REGISTRY"):
        with oci.serving(cache.root() / "release-registry") as address:
            yield address
    else:
        yield published.named("").registry


def _folder(version: str) -> Path:
    """Where archive and notes are left."""
    folder = cache.root() / "release" / version
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _images(names: Published, platforms: tuple[str, ...], source: str, *, attest: bool) -> dict[str, str]:
    """Build and push our images, for the engine's own architecture where no other is given; their digests."""
    if not platforms:
        return {name: pushed(components.ensure(name), tag) for name, tag in names.images.items()}
    labels = {"org.opencontainers.image.version": names.version}
    if source:
        labels["org.opencontainers.image.source"] = source
    with tempfile.TemporaryDirectory() as folder:
        return bake.push(names, platforms, Path(folder), attest=attest, labels=labels)


def pushed(built: str, tag: str) -> str:
    """Push an image of the engine under a name; its digest there."""
    with step(f"push {tag}"):
        log = cache.log("push")
        run(["docker", "tag", built, tag], log=log)
        run(["docker", "push", tag], log=log)
        known = json.loads(output(["docker", "image", "inspect", "--format", "{{json .RepoDigests}}", tag]))
        run(["docker", "image", "rm", tag], log=log)  # the name, which `make clean` would not know
    return digest_at(known, tag)


def digest_at(known: list[str], tag: str) -> str:
    """The digest that an image has in the repository of a tag; engines know one a repository."""
    repository = tag.rpartition(":")[0]
    found = [digest for name, _, digest in (one.partition("@") for one in known) if name == repository]
    if len(found) != 1:
        raise StepFailed(f"the engine knows {len(found)} digests of {repository}")
    return found[0]


def _announce(tag: str, notes: Path, archive: Path) -> None:
    with step(f"announce {tag}"):
        what = ["--verify-tag", "--title", tag, "--notes-file", str(notes), str(archive)]
        run(["gh", "release", "create", tag, *what], log=cache.log("gh"), cwd=cache.REPOSITORY)
