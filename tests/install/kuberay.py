"""KubeRay's chart in a Helm repository of this machine, for where its own cannot be reached.

The objects are KubeRay's, of the version that is pinned, as its own chart makes them; values there are none.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from stack import cluster, golang
from stack.step import output

NAME = "kuberay-operator"


def chart(manifest: str, version: str, folder: Path) -> Path:
    """A chart of a manifest, with its CRDs in `crds`, as in KubeRay's own: `helm uninstall` leaves them."""
    documents = manifest.split("\n---\n")
    made = folder / NAME
    for place, defines in (("crds", True), ("templates", False)):
        (made / place).mkdir(parents=True)
        chosen = [text for text in documents if ("kind: CustomResourceDefinition\n" in text) is defines]
        (made / place / "kuberay.yaml").write_text("\n---\n".join(chosen))
    (made / "Chart.yaml").write_text(f"apiVersion: v2\nname: {NAME}\nversion: {version}\n")
    return made


@contextlib.contextmanager
def repository(image: str, folder: Path) -> Iterator[str]:
    """The address of a repository with the chart, while the body runs."""
    version = golang.module_version("kuberay", "github.com/ray-project/kuberay/ray-operator").removeprefix(
        "v"
    )
    helm = golang.tool("helm")
    made = chart(cluster.kuberay_manifest(image), version, folder / "sources")
    served = folder / "repository"
    output([helm, "package", made, "--destination", served])
    output([helm, "repo", "index", served])
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(served))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
