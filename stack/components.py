"""Every container image of the stack by its name. Ours are always built."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

from stack import cache, golang, images, kindnode, pins

_OPERATOR, _SERVE_APP = cache.REPOSITORY / "operator", cache.REPOSITORY / "serve_app"
# Ours by name: the packages that go into it, and the requirement file in pins/ of its environment.
OURS = {
    "operator": ((_OPERATOR / "modelset_operator", _OPERATOR / "modelset_cache"), "operator"),
    "proxy": ((_SERVE_APP / "modelset_proxy",), "serve-app"),
}


def ensure(name: str) -> str:
    """The tag of an image, after it was pulled or built where it was missing."""
    makers: dict[str, Callable[[], str]] = {
        "base": images.base,
        "kuberay": _kuberay,
        "metrics-server": _metrics_server,
        "ollama": _ollama,
        "kind-node": kindnode.ensure,
        "operator": functools.partial(built, "operator"),
        "proxy": functools.partial(built, "proxy"),
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


def ours(name: str) -> dict[str, tuple[str, images.Context]]:
    """What one of our images and its `venv-<name>` are built of: a folder in images/, and what joins it."""
    packages, requirements = OURS[name]
    return {
        f"venv-{name}": ("venv", {"requirements.txt": pins.FOLDER / f"{requirements}.txt"}),
        name: (name, {package.name: package for package in packages}),
    }


def built(name: str, platform: str = "", labels: Mapping[str, str] | None = None) -> str:
    """One of our images, for this machine or a platform; its environment is installed once a change of it."""
    (_, environment), (_, context) = ours(name).values()
    venv = images.build("venv", OURS[name][1], environment, platform=platform)
    version, arguments = pins.load().version, {"VENV": venv}
    return images.build(name, version, context, arguments, platform=platform, labels=labels)
