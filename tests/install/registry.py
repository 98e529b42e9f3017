"""A registry that this machine may push to, and that nodes pull from on kind's network."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import httpx

from stack import cluster, images, models, multiarch
from stack.step import output, succeeds
from tests.e2e.support.waiting import until

NAME = f"{cluster.NAME}-registry"
PORT = 5000
START_SECONDS = 30
# The image is that of the stack's model registry; this one begins empty, and lets everybody in.
_SETTINGS = {
    "REGISTRY_HTTP_ADDR": f":{PORT}",
    "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY": "/tmp/registry",  # noqa: S108 - in its container
}
_SERVE = ["registry", "serve", "/etc/model-registry/registry.yml"]
# Nodes have it by its name on their network, without a certificate.
_HOSTS = f'[host."http://{NAME}:{PORT}"]\ncapabilities = ["pull", "resolve"]\n'


@dataclass(frozen=True)
class Registry:
    """A registry by its address on this machine, as the engine and helm reach it."""

    address: str

    def push(self, image: str, name: str) -> str:
        """Put an image of this machine under a name and tag in the registry; its digest there."""
        return multiarch.pushed(image, f"{self.address}/{name}").rpartition("@")[2]

    def mirror(self, image: str, public: str) -> None:
        """Have nodes find an image of this machine under the name that it has in public."""
        host, _, path = images.full_name(public).partition("/")
        self.push(image, path)
        _reached_from_nodes(host)


@contextlib.contextmanager
def serving(network: str = "kind") -> Iterator[Registry]:
    """A registry while the body runs, which the nodes of the cluster reach by its address here."""
    settings = [argument for name, value in _SETTINGS.items() for argument in ("--env", f"{name}={value}")]
    where = ["--name", NAME, "--network", network, "--publish", f"127.0.0.1::{PORT}"]
    succeeds(["docker", "rm", "--force", "--volumes", NAME])  # one that was left behind
    output(["docker", "run", "--detach", *where, *settings, models.registry_image(), *_SERVE])
    try:
        address = output(["docker", "port", NAME, f"{PORT}/tcp"]).splitlines()[0]
        until(lambda: _answers(address), bool, seconds=START_SECONDS, what=f"a registry at {address}")
        _reached_from_nodes(address)
        yield Registry(address)
    finally:
        output(["docker", "rm", "--force", "--volumes", NAME])


def _answers(address: str) -> bool:
    try:
        return httpx.get(f"http://{address}/v2/").is_success
    except httpx.TransportError:
        return False


def _reached_from_nodes(host: str) -> None:
    """Have all nodes ask this registry for what is at a host by its name."""
    script = 'mkdir -p "$0" && cat > "$0/hosts.toml"'
    for node in cluster.nodes():
        command = ["docker", "exec", "-i", node, "sh", "-c", script, f"{cluster.REGISTRIES}/{host}"]
        output(command, data=_HOSTS.encode())
