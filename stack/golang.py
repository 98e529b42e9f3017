"""Go binaries built from the modules under pins/go: `go.mod` pins them and names their packages as tools.

Each group is a folder of its own; a combination of versions (`COMPAT`) has others in their place.
"""

from __future__ import annotations

import functools
import json
import platform
import re
import shutil
from pathlib import Path

from stack import cache, engine, pins, python
from stack.step import StepFailed, output, run, step, succeeds

TOOLS = {  # name -> group below pins/go, package
    "kind": ("kind", "sigs.k8s.io/kind"),
    "kubectl": ("kubernetes", "k8s.io/kubernetes/cmd/kubectl"),
    "helm": ("helm", "helm.sh/helm/v3/cmd/helm"),
    "helm-unittest": ("helm-unittest", "github.com/helm-unittest/helm-unittest/cmd/helm-unittest"),
    "kubeconform": ("kubeconform", "github.com/yannh/kubeconform/cmd/kubeconform"),
    "actionlint": ("actionlint", "github.com/rhysd/actionlint/cmd/actionlint"),
    "crane": ("crane", "github.com/google/go-containerregistry/cmd/crane"),
    "cosign": ("cosign", "github.com/sigstore/cosign/v3/cmd/cosign"),
    "syft": ("syft", "github.com/anchore/syft/cmd/syft"),
    "govulncheck": ("govulncheck", "golang.org/x/vuln/cmd/govulncheck"),
    "kube-score": ("kube-score", "github.com/zegl/kube-score/cmd/kube-score"),
}
SOURCES = {  # group below pins/go -> the module that it is made for
    "kubernetes": "k8s.io/kubernetes",
    "prometheus-operator": "github.com/prometheus-operator/prometheus-operator",
}


def group_folder(group: str) -> Path:
    """Where a group's go.mod lies."""
    return pins.at(f"go/{group}")


def module_version(group: str, module: str) -> str:
    """The version that a group's go.mod requires, or puts in another's place, e.g. `v1.34.4`."""
    line = rf"^\s*(?:require |replace \S+ => )?{re.escape(module)} (v\S+)"
    match = re.search(line, _go_mod(group), re.MULTILINE)
    if match is None:
        raise StepFailed(f"{group_folder(group)}/go.mod does not require {module}")
    return match[1]


def module_folder(group: str, module: str) -> Path:
    """Where the sources of a pinned module lie, fetched when they are not there yet."""
    listed = output([go(), "mod", "download", "-json", module], env=_env(), cwd=group_folder(group))
    return Path(json.loads(listed)["Dir"])


def binaries(group: str) -> Path:
    """The folder with all of a group's binaries, for Linux: they go into images."""
    return _build(group, group, _packages(group), "linux")


def tool(name: str) -> Path:
    """One binary to run on this machine: kind, kubectl, helm, ..."""
    group, package = TOOLS[name]
    return _build(name, group, [package], platform.system().lower()) / package.rsplit("/", 1)[1]


def _build(name: str, group: str, packages: list[str], system: str) -> Path:
    architecture = output([go(), "env", "GOARCH"]).strip()
    flags = _ldflags(group)
    c_flags = _c_flags() if group == "ollama" else ""
    module = group_folder(group)
    entry_key = cache.key(module, *packages, system, architecture, flags, c_flags, pins.load().go)

    def build(folder: Path) -> None:
        with step(f"build {name} {_headline(group)} from Go modules"):
            env = {**_env(), "GOOS": system, "CGO_ENABLED": "0"}
            if group == "ollama":
                env |= {"CGO_ENABLED": "1", "CGO_CFLAGS": c_flags, "CGO_CXXFLAGS": c_flags}
                env["CPATH"] = _ollama_headers()
            run(
                [
                    go(),
                    "build",
                    "-trimpath",
                    "-buildvcs=false",
                    "-ldflags",
                    flags,
                    "-o",
                    f"{folder}/",
                    *packages,
                ],
                log=cache.log(f"go-{name}"),
                env=env,
                cwd=module,
            )

    return cache.entry("go-bin", f"{name}-{system}-{architecture}", entry_key, build)


@functools.cache
def go() -> str:
    """A Go toolchain at least as new as the pin: the machine's own, else the one that PyPI carries."""
    wanted = pins.load().go
    if (own := shutil.which("go")) and succeeds([own, "version"]):
        found = re.search(r"go(\d+)\.(\d+)", output([own, "env", "GOVERSION"]))
        if found and (int(found[1]), int(found[2])) >= tuple(map(int, wanted.split(".")[:2])):
            return own

    return str(python.environment("go") / "bin" / "go")


def _env() -> dict[str, str]:
    go_cache = cache.root() / "go"
    return {
        "GOMODCACHE": str(go_cache / "mod"),
        "GOCACHE": str(go_cache / "build"),
        "GOFLAGS": "-mod=readonly",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
    }


def _go_mod(group: str) -> str:
    return (group_folder(group) / "go.mod").read_text()


def _packages(group: str) -> list[str]:
    """What to build: the packages named as tools, and the folder itself where it holds a main."""
    tools = re.search(r"^tool \(\n(.*?)^\)", _go_mod(group), re.MULTILINE | re.DOTALL)
    single = re.findall(r"^tool ([^\s(]+)$", _go_mod(group), re.MULTILINE)
    own = ["."] if (group_folder(group) / "main.go").exists() else []
    return own + single + (tools[1].split() if tools else [])


def _headline(group: str) -> str:
    match = re.search(r"^// pinned: (\S+)", _go_mod(group), re.MULTILINE)
    return module_version(group, match[1]) if match else ""


def _ldflags(group: str) -> str:
    flags = ["-s", "-w"]
    if group == "kubernetes":
        version = module_version(group, "k8s.io/kubernetes")
        major, minor, _ = version.removeprefix("v").split(".")
        # kubeadm and kubectl compare these with each other: without them their skew checks fail.
        values = {"gitVersion": version, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
        values["buildDate"] = "1970-01-01T00:00:00Z"
        for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version"):
            flags += [f"-X {package}.{name}={value}" for name, value in values.items()]
    if group == "ollama":
        version = module_version(group, "github.com/ollama/ollama").removeprefix("v")
        flags.append(f"-X github.com/ollama/ollama/version.Version={version}")
    if group == "helm":
        version = module_version(group, "helm.sh/helm/v3")
        flags.append(f"-X helm.sh/helm/v3/internal/version.version={version}")
        # What `helm template` takes the cluster's version for; without it, for 1.20.
        minor = module_version(group, "k8s.io/client-go").split(".")[1]
        for package in ("pkg/chartutil", "pkg/lint/rules"):
            flags += [f"-X helm.sh/helm/v3/{package}.k8sVersionMajor=1"]
            flags += [f"-X helm.sh/helm/v3/{package}.k8sVersionMinor={minor}"]
    return " ".join(flags)


def _c_flags() -> str:
    """Vector instructions of this machine for Ollama's kernels: without them it is four times slower."""
    cpu_info = Path("/proc/cpuinfo")
    features = set(cpu_info.read_text().split()) if cpu_info.exists() else set()
    vector = [f"-m{f}" for f in ("avx2", "fma", "f16c") if f in features]
    return " ".join(["-O3", *vector])


def _ollama_headers() -> str:
    """A folder with miniaudio/miniaudio.h, which Ollama's module zip leaves out with its vendor/ folders."""
    engine.apt_install(["g++", "libstb-dev", "nlohmann-json3-dev"])

    def link(folder: Path) -> None:
        (folder / "miniaudio").symlink_to(module_folder("ollama", "github.com/gen2brain/malgo"))

    return str(cache.entry("include", "ollama", cache.key(group_folder("ollama") / "go.mod"), link))
