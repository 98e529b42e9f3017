"""Signatures by cosign without keys: the workflow that runs signs, which Sigstore's log says for ever."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from stack import cache
from stack.step import StepFailed, run, step

ISSUER = "https://token.actions.githubusercontent.com"


def identity(environment: Mapping[str, str]) -> str:
    """Who a workflow on GitHub signs as: the address of its file at the tag that it runs for."""
    server, workflow = environment.get("GITHUB_SERVER_URL"), environment.get("GITHUB_WORKFLOW_REF")
    if not server or not workflow:
        raise StepFailed("only a workflow on GitHub can sign without a key; DRY_RUN=1 signs nothing")
    return f"{server}/{workflow}"


def commands(reference: str, signer: str) -> list[list[str]]:
    """How an image or a chart is signed, by its digest, and the signature verified."""
    who = ["--certificate-identity", signer, "--certificate-oidc-issuer", ISSUER]
    return [["cosign", "sign", "--yes", reference], ["cosign", "verify", *who, reference]]


def sign(references: Sequence[str]) -> None:
    """Sign and verify each."""
    signer, log = identity(os.environ), cache.log("cosign")
    for reference in references:
        with step(f"sign {reference}"):
            for command in commands(reference, signer):
                run(command, log=log)
