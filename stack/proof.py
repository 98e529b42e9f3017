"""Whether a release is what it says, as its registry has it: platforms, programs, SBOMs, signatures."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from stack import components, pins, remote, sbom
from stack.published import Published, pinned
from stack.signing import Signer
from stack.step import StepFailed, say, step

# The package of each image that its SBOM has to name, at the pinned version, and the Python that runs it.
WITNESSES = {"operator": "kopf", "proxy": "ray"}
INTERPRETER = "deb/python3"


def check(published: Published, digests: Mapping[str, str], platforms: Sequence[str], signer: Signer) -> None:
    """StepFailed unless each image has all platforms, each with its own programs and a signed SBOM."""
    for name, digest in digests.items():
        image = published.images[name]
        with step(f"check {pinned(image, digest)}"):
            signer.verify(pinned(image, digest))
            members = remote.members(pinned(image, digest))
            ensure_same(f"the platforms of {image}", sorted(members), sorted(platforms))
            for platform, member in members.items():
                _check_member(name, pinned(image, member), platform, signer)


def check_refusal(published: Published, digests: Mapping[str, str], signer: Signer) -> None:
    """StepFailed where an image that was altered after it was signed would be taken for the same one.

    It leaves the altered image in the registry, under a tag that says so.
    """
    for name, digest in digests.items():
        image = published.images[name]
        member = next(iter(remote.members(pinned(image, digest)).values()))
        tag = f"{image}-altered"
        with step(f"check that {tag} is refused"):
            altered = pinned(image, remote.altered(pinned(image, member), tag))
            try:
                signer.verify(altered)
            except StepFailed as refused:
                ensure_refused(altered, str(refused))
            else:
                raise StepFailed(f"{altered} was altered, and verified all the same")


def ensure_refused(reference: str, said: str) -> None:
    """StepFailed where cosign failed for another reason than that nothing was signed."""
    if "no signatures found" not in said:
        raise StepFailed(f"{reference} could not be verified, but not for its signature: {said}")


def _check_member(name: str, reference: str, platform: str, signer: Signer) -> None:
    ensure_same(f"the platform of {reference}", remote.configured(reference), platform)
    compiled = f"{platform.partition('/')[0]}/{remote.machine(reference)}"
    ensure_same(f"what Python of {reference} is compiled for", compiled, platform)
    found = listed(signer.attested(reference), name)
    say(f"  {platform}: its Python is {compiled}; signed SBOM with {', '.join(found)}")


def listed(document: Mapping[str, Any], name: str) -> list[str]:
    """What an SBOM says of the packages that it must name; StepFailed where that is not what is pinned."""
    versions = sbom.versions(document)
    witness = WITNESSES[name]
    ensure_same(f"{witness} in the SBOM of {name}", versions.get(f"pypi/{witness}"), pinned_version(name))
    if INTERPRETER not in versions:
        raise StepFailed(f"the SBOM of {name} names no {INTERPRETER}")
    told = [f"{witness} {versions[f'pypi/{witness}']}", f"python3 {versions[INTERPRETER]}"]
    return [*told, f"{len(versions)} packages in all"]


def pinned_version(name: str) -> str:
    """The version that pins/ has of the package that an image's SBOM must name."""
    requirements = (pins.FOLDER / f"{components.OURS[name][1]}.txt").read_text()
    found = re.search(rf"^{WITNESSES[name]}(?:\[.*\])?==(\S+)", requirements, re.MULTILINE)
    if found is None:
        raise StepFailed(f"pins/ has no {WITNESSES[name]} for {name}")
    return found[1]


def ensure_same(what: str, found: object, expected: object) -> None:
    """StepFailed where two differ."""
    if found != expected:
        raise StepFailed(f"{what}: {found}, instead of {expected}")
