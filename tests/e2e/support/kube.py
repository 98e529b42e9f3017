"""kubectl, bound to the test cluster and a namespace."""

from __future__ import annotations

import json
import subprocess
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from stack import cluster

Manifest = dict[str, Any]


class Refused(Exception):
    """kubectl ended with an error; the text is what it told the user."""


@dataclass(frozen=True)
class Kube:
    """kubectl in one namespace of the test cluster."""

    namespace: str

    def run(self, *arguments: str, stdin: str = "") -> str:
        command = cluster.kubectl_command("--namespace", self.namespace, *arguments)
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Refused(done.stderr.strip())
        return done.stdout

    def apply(self, manifest: Manifest) -> str:
        return self.run("apply", "--filename", "-", stdin=json.dumps(manifest))

    def get(self, kind: str, name: str) -> Manifest:
        return dict(json.loads(self.run("get", kind, name, "--output", "json")))

    def find(self, kind: str, selector: str = "") -> list[Manifest]:
        arguments = [
            "get",
            kind,
            "--output",
            "json",
            "--show-managed-fields",
            *([f"--selector={selector}"] if selector else []),
        ]
        return list(json.loads(self.run(*arguments))["items"])

    def events(self, name: str) -> list[Manifest]:
        """Events about the set `name`, oldest first."""
        listed = self.run(
            "get",
            "events",
            "--output",
            "json",
            f"--field-selector=involvedObject.name={name}",
            "--sort-by=.lastTimestamp",
        )
        return list(json.loads(listed)["items"])

    def forward(self, target: str, port: int) -> AbstractContextManager[int]:
        """A local port that reaches `port` of a service or pod while the body runs."""
        return cluster.forwarded(self.namespace, target, port)
