"""A release: images, chart, signatures, notes; and the same where nobody sees it (`DRY_RUN=1`).

make release DRY_RUN=1                 into a registry of this machine's own, signed by a key made for it
make release DRY_RUN=1 REGISTRY=...    into another one; nothing is announced
make release REGISTRY=...              by the workflow that a tag starts
make images-push REGISTRY=...          images and chart alone, for a cluster of one's own
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from stack import (
    bake,
    cache,
    changelog,
    charts,
    engine,
    multiarch,
    oci,
    proof,
    published,
    remote,
    sbom,
    signing,
    versions,
)
from stack.published import Published
from stack.signing import Signer
from stack.step import StepFailed, run, say, step


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
    platforms = chosen(environment.get("PLATFORMS", ""), bake.PLATFORMS)
    if not dry and not bake.available():
        raise StepFailed("a release has provenance, for which Docker needs its plugin buildx")
    with _registry(dry) as registry, _signer(dry) as signer:
        names = Published(registry, version)
        folder = _folder(version)
        images = _images(names, platforms, source, provenance=True)
        archive = charts.package(names, folder, source)
        chart = f"{names.chart.removeprefix('oci://')}@{charts.push(archive, names)}"
        references = [*_pinned(names, images), chart]
        for reference in references:
            signer.sign(reference)
        boms = _boms(names, images, folder, signer)
        proof.check(names, images, platforms, signer)
        signer.verify(chart)
        notes = folder / "notes.md"
        notes.write_text(announcement(text, names, references, source, f"v{version}"))
        if dry:
            proof.check_refusal(names, images, signer)
            say("• not announced, and signed by a key that is gone (DRY_RUN)")
        else:
            _announce(f"v{version}", notes, [archive, *boms])
        print("\n".join([*references, *map(str, [*boms, archive, notes])]), flush=True)


def push() -> None:
    """Images and chart into $REGISTRY, for $PLATFORMS or that of this engine; then what to do with them."""
    names = published.named(versions.ensure())
    engine.ensure()
    if platforms := chosen(os.environ.get("PLATFORMS", ""), ()):
        _images(names, platforms, "", provenance=False)
    else:
        multiarch.push(names, (engine.platform(),), {})  # what `make up` runs, if that has been built
    charts.push(charts.package(names, _folder(names.version)), names)
    print(
        f"Next:\n\n  helm upgrade --install {charts.RELEASE} {names.chart} --version {names.version} \\\n"
        f"    --namespace {charts.NAMESPACE} --create-namespace",
        flush=True,
    )


def install() -> None:
    """Install from $REGISTRY on the cluster that kubectl is set to."""
    charts.install(published.named(versions.ensure()))


def chosen(given: str, otherwise: Sequence[str]) -> tuple[str, ...]:
    """The platforms to build for: those of a list with commas, else the others."""
    return tuple(one.strip() for one in given.split(",")) if given else tuple(otherwise)


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


@contextlib.contextmanager
def _signer(dry: bool) -> Iterator[Signer]:
    """Who signs: the workflow that runs, or a key of which nothing is left afterwards."""
    if dry:
        with tempfile.TemporaryDirectory() as folder:
            yield signing.throw_away(Path(folder))
    else:
        yield signing.keyless(os.environ)


def _folder(version: str) -> Path:
    """Where archive and notes are left."""
    folder = cache.root() / "release" / version
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _images(names: Published, platforms: Sequence[str], source: str, *, provenance: bool) -> dict[str, str]:
    """Build and push our images, by buildx where the engine has it; the digests of their indexes."""
    labels = {"org.opencontainers.image.version": names.version}
    if source:
        labels["org.opencontainers.image.source"] = source
    if not bake.available():
        return multiarch.push(names, platforms, labels)
    with tempfile.TemporaryDirectory() as folder:
        return bake.push(names, platforms, Path(folder), provenance=provenance, labels=labels)


def _pinned(names: Published, images: Mapping[str, str]) -> list[str]:
    return [published.pinned(names.images[name], digest) for name, digest in images.items()]


def _boms(names: Published, images: Mapping[str, str], folder: Path, signer: Signer) -> list[Path]:
    """List what is in each image of each platform, and attach that to it; the files."""
    written: list[Path] = []
    for name, reference in zip(images, _pinned(names, images), strict=True):
        for platform, digest in remote.members(reference).items():
            member = published.pinned(names.images[name], digest)
            file = folder / f"modelset-{name}-{platform.replace('/', '-')}.spdx.json"
            sbom.write(member, file, plain_http=names.plain_http)
            signer.attest(member, file)
            written.append(file)
    return written


def _announce(tag: str, notes: Path, files: Sequence[Path]) -> None:
    with step(f"announce {tag}"):
        what: list[str | Path] = ["--verify-tag", "--title", tag, "--notes-file", notes, *files]
        run(["gh", "release", "create", tag, *what], log=cache.log("gh"), cwd=cache.REPOSITORY)
