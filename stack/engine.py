"""The container engine: the one that is there, else Debian's, installed and started here."""

from __future__ import annotations

import functools
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from stack import cache
from stack.step import StepFailed, output, run, step, succeeds, tail

DEBIAN_PACKAGES = ["docker.io", "iptables", "iproute2", "debootstrap"]
START_SECONDS = 60
RUNTIME_WRAPPER = cache.REPOSITORY / "stack" / "bounded_runc.py"


def ensure() -> None:
    """Return when an engine answers, or raise StepFailed with what to do."""
    if succeeds(["docker", "info"]):
        return
    if os.uname().sysname != "Linux" or os.geteuid() != 0:
        raise StepFailed("No container engine answers `docker info`: start Docker, then try again.")
    if not shutil.which("dockerd"):
        apt_install(DEBIAN_PACKAGES)
    with step("start the container engine"):
        _start()


def apt_install(packages: list[str]) -> None:
    """Install Debian packages that are missing; needs root and apt."""
    missing = [p for p in packages if not succeeds(["dpkg", "-s", p])]
    if not missing:
        return
    if not shutil.which("apt-get") or os.geteuid() != 0:
        raise StepFailed(f"Please install: {' '.join(missing)}")
    with step(f"install {' '.join(missing)}"):
        log = cache.log("apt")
        env = {"DEBIAN_FRONTEND": "noninteractive"}
        run(["apt-get", "update", "-q"], log=log, env=env)
        run(["apt-get", "install", "-q", "-y", "--no-install-recommends", *missing], log=log, env=env)


def _start() -> None:
    if Path("/run/systemd/system").exists():
        run(["systemctl", "start", "docker"], log=cache.log("engine"))
        _wait(None, cache.log("engine"))
        return
    _remove_stale_pid_files()
    command = ["dockerd", *_runtime_flags()]
    log = cache.log("engine")
    with log.open("a") as out:
        daemon = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
    _wait(daemon, log)
    _own_pid_file().write_text(str(daemon.pid))


def stop() -> None:
    """End an engine that `ensure` started; one that was there before is left running."""
    pid_file = _own_pid_file()
    if not pid_file.exists():
        return
    command_line = Path("/proc") / pid_file.read_text() / "cmdline"
    if command_line.exists() and b"dockerd" in command_line.read_bytes():
        with step("stop the container engine"):
            os.kill(int(pid_file.read_text()), signal.SIGTERM)
            deadline = time.monotonic() + START_SECONDS
            while command_line.exists() and command_line.read_bytes() and time.monotonic() < deadline:
                time.sleep(0.2)
    pid_file.unlink()


def is_ours() -> bool:
    """Whether `ensure` started the engine that runs."""
    return _own_pid_file().exists()


def _own_pid_file() -> Path:
    return cache.root() / "engine.pid"


def _wait(daemon: subprocess.Popen[bytes] | None, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not succeeds(["docker", "info"]):
        if daemon is not None and daemon.poll() is not None:
            raise StepFailed(f"dockerd ended with status {daemon.returncode}; log: {log}\n{tail(log)}")
        if time.monotonic() > deadline:
            raise StepFailed(f"dockerd does not answer after {START_SECONDS} s; log: {log}\n{tail(log)}")
        time.sleep(0.5)


def _remove_stale_pid_files() -> None:
    """An engine that was killed leaves pid files; a reused pid would keep the next one from starting."""
    for pid_file in (Path("/var/run/docker.pid"), Path("/var/run/docker/containerd/containerd.pid")):
        if not pid_file.exists():
            continue
        command_line = Path("/proc") / pid_file.read_text().strip() / "cmdline"
        if not command_line.exists() or pid_file.stem not in command_line.read_bytes().decode():
            pid_file.unlink()


def _runtime_flags() -> list[str]:
    """Flags for a runtime that asks only for capabilities this machine can give.

    Docker 20.10 gives a privileged container every capability it knows of, and runc fails where
    the bounding set lacks one.
    """
    if not missing_capabilities():
        return []
    wrapper = cache.root() / "bin" / "bounded-runc"
    wrapper.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(RUNTIME_WRAPPER, wrapper)
    wrapper.chmod(0o755)
    return ["--add-runtime", f"bounded={wrapper}", "--default-runtime", "bounded"]


def missing_capabilities() -> bool:
    """Whether this process's capability bounding set lacks one that the kernel has."""
    status = Path("/proc/self/status").read_text()
    match = re.search(r"^CapBnd:\s*([0-9a-f]+)$", status, re.MULTILINE)
    if match is None:
        return False
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    return int(match[1], 16) != (1 << (last + 1)) - 1


@functools.cache
def platform() -> str:
    """What the engine builds for where nothing else is said, e.g. `linux/amd64`."""
    return output(["docker", "version", "--format", "{{.Server.Os}}/{{.Server.Arch}}"]).strip()


@functools.cache
def build_command() -> tuple[str, ...]:
    """`docker build` with BuildKit: the newer client needs its buildx plugin, Debian's older one does not."""
    if succeeds(["docker", "buildx", "version"]):
        return ("docker", "build")
    debian_client = Path("/usr/bin/docker")
    if not debian_client.exists():
        apt_install(["docker.io"])
    return (str(debian_client), "build")


def build_image(
    tag: str,
    context: Path,
    *,
    log: Path,
    arguments: Mapping[str, str] | None = None,
    flags: Sequence[str] = (),
) -> None:
    """Build an image with BuildKit; the host's CA bundle is offered as the secret `ca`."""
    command = [*build_command(), "--progress", "plain", "--tag", tag, *flags]
    for name, value in (arguments or {}).items():
        command += ["--build-arg", f"{name}={value}"]
    if bundle := ca_bundle():
        command += ["--secret", f"id=ca,src={bundle}"]
    run([*command, str(context)], log=log, env={"DOCKER_BUILDKIT": "1"})


def ca_bundle() -> Path | None:
    """The certificates that this host trusts: builds reach package indexes through the same network."""
    candidates = (
        os.environ.get("SSL_CERT_FILE", ""),
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/ssl/cert.pem",
    )
    return next((Path(c) for c in candidates if c and Path(c).is_file()), None)


def has_image(tag: str) -> bool:
    """Whether the engine holds an image."""
    return succeeds(["docker", "image", "inspect", tag])
