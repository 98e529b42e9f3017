"""Every container image of the stack by its name. Ours are always built."""

from __future__ import annotations

from stack import cache, golang, images, kindnode, pins


def ensure(name: str) -> str:
    """The tag of an image, after it was pulled or built where it was missing."""
    makers = {
        "base": images.base,
        "kuberay": _kuberay,
        "metrics-server": _metrics_server,
        "ollama": _ollama,
        "kind-node": kindnode.ensure,
        "operator": _operator,
        "proxy": _proxy,
    }
    return images.pulled(name) or makers[name]()


def _kuberay() -> str:
    version = golang.module_version("kuberay", "github.com/ray-project/kuberay/ray-operator")
    return images.build("kuberay", version, {"ray-operator": golang.binaries("kuberay") / "ray-operator"})


def _metrics_server() -> str:
    version = golang.module_version("metrics-server", "sigs.k8s.io/metrics-server")
    binary = golang.binaries("metrics-server") / "metrics-server"
    return images.build("metrics-server", version, {"metrics-server": binary})


def _ollama() -> str:
    version = golang.module_version("ollama", "github.com/ollama/ollama").removeprefix("v")
    return images.build("ollama", version, {"ollama": golang.binaries("ollama") / "ollama"})


def _operator() -> str:
    packages = ("modelset_operator", "modelset_cache")
    context = {package: cache.REPOSITORY / "operator" / package for package in packages}
    return images.build("operator", pins.load().version, context, {"VENV": _venv("operator")})


def _proxy() -> str:
    context = {"modelset_proxy": cache.REPOSITORY / "serve_app" / "modelset_proxy"}
    return images.build("proxy", pins.load().version, context, {"VENV": _venv("serve-app")})


def _venv(requirements: str) -> str:
    """A virtual environment of pins/<requirements>.txt, installed once a change of it."""
    return images.build("venv", requirements, {"requirements.txt": pins.FOLDER / f"{requirements}.txt"})
