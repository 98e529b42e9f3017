"""kubectl, bound to the test cluster and a namespace."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from stack import cluster, golang

Manifest = dict[str, Any]


class Refused(Exception):
    """kubectl ended with an error; the text is what it told the user."""


@dataclass(frozen=True)
class Kube:
    """kubectl in one namespace of the test cluster."""

    namespace: str

    def command(self, *arguments: str) -> list[str]:
        return [
            str(golang.tool("kubectl")),
            f"--kubeconfig={cluster.kubeconfig()}",
            f"--context={cluster.CONTEXT}",
            f"--namespace={self.namespace}",
            *arguments,
        ]

    def run(self, *arguments: str, stdin: str = "") -> str:
        done = subprocess.run(
            self.command(*arguments), input=stdin, capture_output=True, text=True, check=False
        )
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

    @contextlib.contextmanager
    def forward(self, target: str, port: int) -> Iterator[int]:
        """A local port that reaches `port` of a service or pod while the body runs."""
        process = subprocess.Popen(
            self.command("port-forward", target, f":{port}"),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            assert process.stdout is not None
            first = process.stdout.readline()
            match = re.search(r"127\.0\.0\.1:(\d+)", first)
            assert match, f"kubectl port-forward {target}: {first}{process.communicate(timeout=10)[0]}"
            yield int(match[1])
        finally:
            process.terminate()
            process.communicate()
