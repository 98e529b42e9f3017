"""Virtual environments outside the checkout, installed from hashed requirement files."""

from __future__ import annotations

import functools
import re
import sys
import tempfile
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
            # The file names all there is to install. Older pips would look for newer versions of what is
            # asked for with extras, and then miss their hashes.
            install = [*_pip(folder, "install"), "--no-deps", "--require-hashes"]
            run([*install, "-r", requirements], log=log)

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


def source(name: str, package: str) -> Path:
    """The unpacked source distribution of one of the packages in pins/<name>.txt.

    What builds it has to be in that file too: pip asks it for the package's metadata.
    """
    requirements = pins.FOLDER / f"{name}.txt"
    log = cache.log(f"download-{package}")

    def fetch(folder: Path) -> None:
        with step(f"download the source of {package}"), tempfile.TemporaryDirectory() as work:
            only = Path(work) / "requirements.txt"
            only.write_text(_requirement(requirements, package))
            command = [
                *_pip(environment(name), "download"),
                "--no-deps",
                "--no-binary=:all:",
                "--no-build-isolation",
                "--require-hashes",
                "-r",
                only,
                "-d",
                work,
            ]
            run(command, log=log)
            archive = next(Path(work).glob("*.tar.gz"))
            run(["tar", "-xf", archive, "-C", folder, "--strip-components=1", "--no-same-owner"], log=log)

    return cache.entry("source", package, cache.key(requirements), fetch)


def _requirement(requirements: Path, package: str) -> str:
    """The line of one package, with its hashes on continued lines."""
    found = re.search(rf"^{re.escape(package)}==(.*\\\n)*.*\n", requirements.read_text(), re.MULTILINE)
    assert found, f"{package} is not in {requirements.name}"
    return found[0]


def _pip(environment: Path, verb: str) -> list[str | Path]:
    return [environment / "bin" / "python", "-m", "pip", verb, "-q", "--disable-pip-version-check"]
