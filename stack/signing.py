"""Signatures by cosign.

A workflow signs without a key, as itself, which Sigstore's log says for ever; a rehearsal signs by a key
that is thrown away.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stack import cache, golang
from stack.step import StepFailed, output, run, step

ISSUER = "https://token.actions.githubusercontent.com"
SBOM_TYPE = "spdxjson"


@dataclasses.dataclass(frozen=True)
class Signer:
    """Who signs: the flags by which cosign does it, and those by which it is verified."""

    signs: tuple[str, ...]
    verifies: tuple[str, ...]

    def sign(self, reference: str) -> None:
        """Sign an image or a chart, by its digest."""
        with step(f"sign {reference}"):
            _cosign("sign", *self.signs, reference)

    def attest(self, reference: str, sbom: Path) -> None:
        """Attach an SBOM to an image of one platform, signed."""
        with step(f"attach the SBOM to {reference}"):
            _cosign("attest", *self.signs, "--type", SBOM_TYPE, "--predicate", str(sbom), reference)

    def verify(self, reference: str) -> None:
        """StepFailed where nothing that this signer signed is attached to exactly this digest."""
        output([_binary(), "verify", *self.verifies, reference])

    def attested(self, reference: str) -> dict[str, Any]:
        """The SBOM that this signer attached to a digest; StepFailed where there is none."""
        found = output([_binary(), "verify-attestation", *self.verifies, "--type", SBOM_TYPE, reference])
        return predicate(found)


def keyless(environment: Mapping[str, str]) -> Signer:
    """A workflow on GitHub: whoever it is, it signs as itself and not as another one."""
    who = ("--certificate-identity", identity(environment), "--certificate-oidc-issuer", ISSUER)
    return Signer(("--yes",), who)


def throw_away(folder: Path) -> Signer:
    """A key pair of its own, made in a folder that is not to stay; no log hears of it."""
    prefix = folder / "rehearsal"
    _cosign("generate-key-pair", "--output-key-prefix", str(prefix))
    # Without a signing configuration: the one that cosign would fetch names the public logs.
    unlogged = ("--use-signing-config=false", "--tlog-upload=false")
    return Signer(
        signs=("--yes", "--key", f"{prefix}.key", *unlogged),
        verifies=("--key", f"{prefix}.pub", "--insecure-ignore-tlog"),
    )


def identity(environment: Mapping[str, str]) -> str:
    """Who a workflow on GitHub signs as: the address of its file at the tag that it runs for."""
    server, workflow = environment.get("GITHUB_SERVER_URL"), environment.get("GITHUB_WORKFLOW_REF")
    if not server or not workflow:
        raise StepFailed("only a workflow on GitHub can sign without a key, as DRY_RUN=1 need not")
    return f"{server}/{workflow}"


def predicate(envelope: str) -> dict[str, Any]:
    """What an attestation says, out of the envelopes that cosign prints; the newest of several."""
    statement = json.loads(base64.b64decode(json.loads(envelope.splitlines()[-1])["payload"]))
    stated: dict[str, Any] = statement["predicate"]
    return stated


def _cosign(*arguments: str) -> None:
    # The password of a key that is thrown away: it is asked for where none is set.
    env = {"COSIGN_PASSWORD": os.environ.get("COSIGN_PASSWORD", "")}
    run([_binary(), *arguments], log=cache.log("cosign"), env=env)


def _binary() -> Path:
    return golang.tool("cosign")
