"""Virtual environments outside the checkout, installed from hashed requirement files."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

from stack import cache, engine, pins
from stack.step import run, step, succeeds


@functools.cache
def environment(name: str) -> Path:
    """The folder of an environment with all of pins/<name>.txt in it."""
    requirements = pins.FOLDER / f"{name}.txt"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"

    def install(folder: Path) -> None:
        log = cache.log(f"python-{name}")
        with step(f"install Python packages of pins/{requirements.name}"):
            _create(folder, log)
            run([*_pip(folder, "install"), "--require-hashes", "-r", requirements], log=log)

    return cache.entry("venv", f"{name}-py{version}", cache.key(requirements), install)


def _create(folder: Path, log: Path) -> None:
    # Debian keeps ensurepip, without which a new environment has no pip, in a package of its own.
    if not succeeds([sys.executable, "-c", "import ensurepip"]):
        engine.apt_install(["python3-venv"])
    run([sys.executable, "-m", "venv", folder], log=log)


def download(name: str, folder: Path) -> None:
    """Fetch the wheels of pins/<name>.txt into a folder, without what they depend on."""
    requirements = pins.FOLDER / f"{name}.txt"
    command = [
        *_pip(environment("pip"), "download"),
        "--no-deps",
        "--require-hashes",
        "-r",
        requirements,
        "-d",
        folder,
    ]
    run(command, log=cache.log(f"download-{name}"))


def _pip(environment: Path, verb: str) -> list[str | Path]:
    return [environment / "bin" / "python", "-m", "pip", verb, "-q", "--disable-pip-version-check"]
