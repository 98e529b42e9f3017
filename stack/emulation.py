"""Programs of other architectures, which Linux runs by QEMU once it is told how (binfmt_misc)."""

from __future__ import annotations

from pathlib import Path

from stack import cache, engine
from stack.step import StepFailed, run, step

FORMATS = Path("/proc/sys/fs/binfmt_misc")
PACKAGES = ["qemu-user-static", "binfmt-support"]
_QEMU = {"amd64": "x86_64", "arm64": "aarch64"}  # by the name that Go, Debian and images have for it


def ensure(architecture: str) -> None:
    """Return when programs of an architecture run, also in containers; raise StepFailed where they cannot."""
    if architecture not in _QEMU:
        raise StepFailed(f"without buildx, PLATFORMS may name {' and '.join(_QEMU)}, not {architecture}")
    name = f"qemu-{_QEMU[architecture]}"
    if _runs(name):
        return
    engine.apt_install(PACKAGES)
    with step(f"have the kernel run programs of {architecture} by QEMU"):
        log = cache.log("emulation")
        if not (FORMATS / "register").exists():
            run(["mount", "-t", "binfmt_misc", "binfmt_misc", FORMATS], log=log)
        if not _runs(name):
            run(["update-binfmts", "--enable", name], log=log)
    if not _runs(name):
        raise StepFailed(f"this kernel does not run programs of {architecture}: Docker with buildx might")


def _runs(name: str) -> bool:
    """Whether a format is registered, with its interpreter held open: containers do not have it in them."""
    entry = FORMATS / name
    return entry.exists() and fixed(entry.read_text())


def fixed(entry: str) -> bool:
    """Whether what the kernel says of a format is that it is enabled, and fixed (flag F)."""
    lines = entry.splitlines()
    flags = next((line.removeprefix("flags:") for line in lines if line.startswith("flags:")), "")
    return "enabled" in lines and "F" in flags
