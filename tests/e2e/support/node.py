"""Commands on the first node of the test cluster, which kind has as a container."""

from __future__ import annotations

from stack import cluster
from stack.step import output

NAME = f"{cluster.NAME}-control-plane"


def run(*command: str) -> str:
    """Run a command as root of the node; return what it says."""
    return output(["docker", "exec", NAME, *command])
