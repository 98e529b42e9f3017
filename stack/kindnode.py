"""A kind node image from Go modules and Debian packages, with the images of Kubernetes' components in it."""

from __future__ import annotations

import contextlib
import re
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from string import Template

from stack import cache, engine, golang, images
from stack.step import StepFailed, output, run, step

CNI_MANIFEST = cache.REPOSITORY / "stack" / "manifests" / "default-cni.yaml"
STORAGE_SOURCE = Path("pkg/build/nodeimage/const_storage.go")
CONTROL_PLANE = ["kube-apiserver", "kube-controller-manager", "kube-scheduler"]

STATIC = 'ARG BASE\nFROM scratch\nCOPY binary /usr/local/bin/{name}\nENTRYPOINT ["/usr/local/bin/{name}"]\n'
NETWORK = """ARG BASE
FROM ${{BASE}}
RUN apt-get update -q && \\
    apt-get install -qy --no-install-recommends iptables nftables conntrack ipset iproute2 kmod && \\
    rm -rf /var/lib/apt/lists/*
COPY binary /usr/local/bin/{name}
ENTRYPOINT ["/usr/local/bin/{name}"]
"""
PAUSE = """ARG BASE
FROM ${BASE} AS build
RUN apt-get update -q && apt-get install -qy --no-install-recommends catatonit
FROM scratch
COPY --from=build /usr/bin/catatonit /pause
USER 65535:65535
ENTRYPOINT ["/pause", "-P"]
"""
HELPER = "ARG BASE\nFROM ${BASE}\n"
LABEL = "LABEL modelset.component=true\n"  # so that `make clean` knows them


def ensure() -> str:
    """The tag of the node image, built when it is missing."""
    version = golang.module_version("kubernetes", "k8s.io/kubernetes")
    kubernetes = golang.binaries("kubernetes")
    kind_files = golang.module_folder("kind", "sigs.k8s.io/kind") / "images" / "base" / "files"
    names = _component_names(kubernetes / "kubeadm", version)
    storage, storage_images = _storage()
    network = golang.module_version("kube-router", "github.com/k3s-io/kube-router/v2")
    names["kube-router"] = f"modelset/kube-router:{network}"
    components = _component_dockerfiles(kubernetes, names, storage_images)
    context: dict[str, Path | str] = {
        "kind-files": kind_files,
        "bin/kubeadm": kubernetes / "kubeadm",
        "bin/kubelet": kubernetes / "kubelet",
        "bin/kubectl": kubernetes / "kubectl",
        "manifests/default-storage.yaml": storage,
        "manifests/default-cni.yaml": Template(CNI_MANIFEST.read_text()).substitute(
            image=names["kube-router"]
        ),
        "version": version,
    }
    bare = images.build("kind-node", version, context, {"PAUSE_IMAGE": names["pause"]})
    parts = [part for component in components for part in component if part is not None]
    loaded = f"modelset/kind-node:loaded-{cache.key(bare, *parts, Path(__file__))}"
    if not engine.has_image(loaded):
        with step(f"load component images into {loaded}"):
            _load(bare, loaded, components)
    return loaded


def _component_names(kubeadm: Path, version: str) -> dict[str, str]:
    """Component -> image name, as kubeadm will ask for it."""
    listed = output([kubeadm, "config", "images", "list", "--kubernetes-version", version]).split()
    return {name.rsplit("/", 1)[1].split(":")[0]: name for name in listed}


def _storage() -> tuple[str, list[str]]:
    """kind's default storage manifest and the two images that it names, from kind's module."""
    text = (golang.module_folder("kind", "sigs.k8s.io/kind") / STORAGE_SOURCE).read_text()
    constants = dict(re.findall(r'^const (storage\w+Image) = "([^"]+)"', text, re.MULTILINE))
    manifest = re.search(r"const defaultStorageManifest = `\n(.*)`\n", text, re.DOTALL)
    if manifest is None or len(constants) != 2:
        raise StepFailed(f"kind's {STORAGE_SOURCE} no longer looks as expected: adapt stack/kindnode.py")
    filled = re.sub(r"` \+ (\w+) \+ `", lambda m: constants[m[1]], manifest[1])
    return filled, [constants["storageProvisionerImage"], constants["storageHelperImage"]]


def _component_dockerfiles(
    kubernetes: Path, names: dict[str, str], storage_images: list[str]
) -> list[tuple[str, str, Path | None]]:
    """(image name, Dockerfile, binary) for all that a node runs."""
    provisioner, helper = storage_images
    result: list[tuple[str, str, Path | None]] = [
        (names[name], STATIC.format(name=name), kubernetes / name) for name in CONTROL_PLANE
    ]
    result += [
        (names["kube-proxy"], NETWORK.format(name="kube-proxy"), kubernetes / "kube-proxy"),
        (
            names["kube-router"],
            NETWORK.format(name="kube-router"),
            golang.binaries("kube-router") / "kube-router",
        ),
        (names["etcd"], STATIC.format(name="etcd"), golang.binaries("etcd") / "server"),
        (names["coredns"], STATIC.format(name="coredns"), golang.binaries("coredns") / "coredns"),
        (names["pause"], PAUSE, None),
        (
            provisioner,
            STATIC.format(name="local-path-provisioner").replace("/usr/local/bin/", "/usr/bin/"),
            golang.binaries("local-path-provisioner") / "local-path-provisioner",
        ),
        (helper, HELPER, None),
    ]
    return result


def _load(bare: str, loaded: str, components: list[tuple[str, str, Path | None]]) -> None:
    log = cache.log("kind-node-load")
    base = images.base()
    with tempfile.TemporaryDirectory() as folder:
        for index, (name, dockerfile, binary) in enumerate(components):
            context = Path(folder) / str(index)
            images.stage(context / "Dockerfile", dockerfile + LABEL)
            if binary is not None:
                images.stage(context / "binary", binary)
            engine.build_image(name, context, log=log, arguments={"BASE": base})
        archive = Path(folder) / "images.tar"
        run(["docker", "save", "-o", archive, *(name for name, _, _ in components)], log=log)
        with _containerd(bare) as container:
            run(["docker", "cp", archive, f"{container}:/images.tar"], log=log)
            run(["docker", "exec", container, *IMPORT], log=log)
            run(["docker", "exec", container, "rm", "/images.tar"], log=log)
            run(
                [
                    "docker",
                    "exec",
                    container,
                    "sh",
                    "-c",
                    "pkill -x containerd; while pgrep -x containerd; do sleep 0.1; done",
                ],
                log=log,
            )
            entrypoint = '["/usr/local/bin/entrypoint", "/sbin/init"]'
            run(
                [
                    "docker",
                    "commit",
                    "--change",
                    f"ENTRYPOINT {entrypoint}",
                    "--change",
                    "CMD []",
                    container,
                    loaded,
                ],
                log=log,
            )


IMPORT = ["ctr", "--namespace", "k8s.io", "images", "import", "--no-unpack", "/images.tar"]


@contextlib.contextmanager
def _containerd(image: str) -> Iterator[str]:
    """A container of the node image in which only containerd runs, answering."""
    name = f"modelset-load-{uuid.uuid4().hex[:8]}"
    output(
        [
            "docker",
            "run",
            "--detach",
            "--privileged",
            "--name",
            name,
            "--entrypoint",
            "sleep",
            image,
            "infinity",
        ]
    )
    try:
        output(["docker", "exec", "--detach", name, "containerd"])
        output(
            [
                "docker",
                "exec",
                name,
                "sh",
                "-c",
                "for i in $(seq 300); do ctr version >/dev/null 2>&1 && exit; sleep 0.1; done; exit 1",
            ]
        )
        yield name
    finally:
        output(["docker", "rm", "--force", "--volumes", name])
