"""`make audit`: what is known to be wrong with what others get from here, and is not in pins/audit.toml yet.

PyPI tells of the Python packages in our images, Go's vulnerability database of the programs in the images
of others that chart and documents name. The stack builds the same versions.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import tomllib
from collections.abc import Iterator
from typing import Any

from stack import components, golang, pins, python
from stack.step import Command, StepFailed, say, step

KNOWN = pins.FOLDER / "audit.toml"
# Groups below pins/go. Ours have no Go in them; all else that is built runs where it is developed and tested.
GO = ("kuberay", "ollama")


@dataclasses.dataclass(frozen=True, order=True)
class Finding:
    """A vulnerability of what is in an image: where, which, of what, and where it is fixed ("": nowhere)."""

    where: str
    identifier: str
    what: str
    fixed: str

    def __str__(self) -> str:
        remedy = f"fixed in {self.fixed}" if self.fixed else "no version is without it"
        return f"{self.where}: {self.what} has {self.identifier}, {remedy}"


def run() -> None:
    """Ask both; raise StepFailed when there is something new, or one of them did not answer."""
    known = {
        (entry["where"], identifier)
        for entry in tomllib.loads(KNOWN.read_text())["known"]
        for identifier in entry["ids"]
    }
    found: set[Finding] = set()
    silent: list[str] = []
    for ask, names in ((_python, [name for _, name in components.OURS.values()]), (_go, list(GO))):
        for name in names:
            try:
                with step(f"audit {name}"):
                    found.update(ask(name))
            except StepFailed as problem:
                silent.append(str(problem))
    new = sorted(one for one in found if (one.where, one.identifier) not in known)
    gone = known - {(one.where, one.identifier) for one in found}
    for one in new:
        print(one)
    if gone and not silent:
        listed = ", ".join(f"{where} {identifier}" for where, identifier in sorted(gone))
        say(f"• no longer found, so take it out of {KNOWN.name}: {listed}")
    say(f"• {len(new)} new, {len(found) - len(new)} known ({KNOWN.name} says what was made of them)")
    if silent:
        raise StepFailed("not all was asked, so this says nothing of the rest:\n" + "\n".join(silent))
    if new:
        raise StepFailed(
            f"upgrade what has a fixed version, or write down in pins/{KNOWN.name} why it may stay"
        )


def _python(name: str) -> Iterator[Finding]:
    """What PyPI knows of the packages of pins/<name>.txt."""
    requirements = pins.FOLDER / f"{name}.txt"
    pip_audit = python.environment("audit") / "bin" / "pip-audit"
    said, complaint = _said(
        [pip_audit, "--requirement", requirements, "--disable-pip", "--require-hashes", "--format", "json"]
    )
    return python_findings(name, said, complaint)


def python_findings(where: str, said: str, complaint: str) -> Iterator[Finding]:
    """Read pip-audit's report; raise StepFailed when PyPI did not say anything of a package."""
    if not said:
        raise StepFailed(f"PyPI cannot be asked about pins/{where}.txt: {complaint}")
    packages = json.loads(said)["dependencies"]
    if unknown := [package["name"] for package in packages if "skip_reason" in package]:
        raise StepFailed(
            f"PyPI does not tell of {len(unknown)} packages in pins/{where}.txt, {unknown[0]} first"
        )
    for package in packages:
        for known in package["vulns"]:
            fixed = ", ".join(known["fix_versions"])
            yield Finding(where, known["id"], f"{package['name']} {package['version']}", fixed)


def _go(name: str) -> Iterator[Finding]:
    """What Go's database knows of what is in the programs of a group; VULNDB names another place of it."""
    govulncheck = golang.tool("govulncheck")
    database = ["-db", where] if (where := os.environ.get("VULNDB")) else []
    for program in sorted(golang.binaries(name).iterdir()):
        if program.name.startswith("."):
            continue
        said, complaint = _said([govulncheck, *database, "-mode", "binary", "-format", "json", program])
        yield from go_findings(name, said, complaint)


def go_findings(where: str, said: str, complaint: str) -> Iterator[Finding]:
    """Read govulncheck's report: of each vulnerability whose code is in the program, once."""
    if complaint:
        raise StepFailed(
            f"Go's vulnerability database cannot be asked about {where}: {complaint}"
            " (VULNDB=file:///… names a copy of it)"
        )
    yielded: set[str] = set()
    for message in _messages(said):
        finding = message.get("finding")
        if finding is None or "function" not in finding["trace"][0] or finding["osv"] in yielded:
            continue
        yielded.add(finding["osv"])
        affected = finding["trace"][0]
        what = f"{affected['module']} {affected['version']}"
        yield Finding(where, finding["osv"], what, finding.get("fixed_version", ""))


def _messages(said: str) -> Iterator[dict[str, Any]]:
    decoder, at = json.JSONDecoder(), 0
    while said[at:].strip():
        message, at = decoder.raw_decode(said, at + len(said[at:]) - len(said[at:].lstrip()))
        yield message


def _said(command: Command) -> tuple[str, str]:
    """What a command printed, and the last line of its complaint where it ended badly."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = done.stderr.strip().splitlines()
    return done.stdout, lines[-1] if done.returncode and lines else ""
