"""Build results outside the checkout: `<root>/<kind>/<name>-<key>`, complete or absent."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from stack.step import say

REPOSITORY = Path(__file__).resolve().parent.parent


def root() -> Path:
    """`$MODELSET_CACHE`, else `modelset` in the user's cache folder."""
    if override := os.environ.get("MODELSET_CACHE"):
        return Path(override)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "modelset"


def log(name: str) -> Path:
    """Where the output of the step `name` goes, emptied."""
    path = root() / "logs" / f"{name}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    return path


def key(*parts: str | Path | Iterable[Path]) -> str:
    """Twelve hex digits that change when a string changes, or a file's name or content."""
    digest = hashlib.sha256()

    def add_file(path: Path) -> None:
        digest.update(f"file {path.name} {path.stat().st_mode & 0o111}\0".encode())
        digest.update(path.read_bytes())

    for part in parts:
        if isinstance(part, str):
            digest.update(f"text {part}\0".encode())
        elif isinstance(part, Path):
            for path in files(part):
                digest.update(f"at {path.relative_to(part) if path != part else ''}\0".encode())
                add_file(path)
        else:
            for path in part:
                add_file(path)
    return digest.hexdigest()[:12]


def files(path: Path) -> list[Path]:
    """The file itself, or all files below a folder, without Python's caches, in a stable order."""
    if path.is_file():
        return [path]
    return sorted(p for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts)


def entry(kind: str, name: str, entry_key: str, build: Callable[[Path], None]) -> Path:
    """The folder of a build result; `build` fills a new one when there is none yet.

    It is built where it stays, because a Python environment cannot be moved; a mark tells that it is whole,
    and a build that fails, or was cut off, leaves nothing that anybody would use. Of several that want the
    same at once, as from two checkouts, one builds it.
    """
    folder = root() / kind / f"{name}-{entry_key}"
    complete = folder / ".complete"
    if complete.exists():
        return folder
    with _alone(f"{kind}-{folder.name}"):
        if not complete.exists():
            _fill(folder, build)
            complete.touch()
    return folder


def _fill(folder: Path, build: Callable[[Path], None]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        build(folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


@contextlib.contextmanager
def _alone(what: str) -> Iterator[None]:
    """Hold the lock on one build result; it goes with its process, however that ends."""
    path = root() / "locks" / what
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"• {what}: is being made already; waiting")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
