"""The programs whose code is changed, how their files are named, and which tests are to notice."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

_ROOT = Path(__file__).parents[2]
_OPERATOR = "operator/"


@dataclasses.dataclass(frozen=True)
class _Program:
    """``prefix`` begins the names of its files; ``parts`` are what is changed when nothing is named."""

    prefix: str
    code: Path
    parts: tuple[str, ...]
    tests: tuple[str, ...]


_PROGRAMS = (
    _Program(
        "",
        _ROOT / "serve_app/modelset_proxy",
        ("dispatch", "engines", "web"),
        ("serve_app/tests", "benchmarks"),
    ),
    _Program(
        _OPERATOR,
        _ROOT / "operator/modelset_operator",
        (
            "plan",
            "cluster",
            "engines",
            "manifests",
            "acting.py",
            "backoff.py",
            "handlers.py",
            "observer.py",
            "pods_http.py",
            "reconciler.py",
            "workqueue.py",
        ),
        ("operator/tests/operator_tests",),
    ),
    _Program(
        "cache/",
        _ROOT / "operator/modelset_cache",
        ("",),
        ("operator/tests/cache_tests",),
    ),
)


@dataclasses.dataclass(frozen=True)
class Selected:
    """Files by name, and the folders of the tests that are to notice what changes in them."""

    paths: dict[str, Path]
    tests: tuple[str, ...]


def selected(names: Sequence[str]) -> Selected:
    """Find the files and folders of these names; all programs' parts for no name."""
    paths: dict[str, Path] = {}
    tests: tuple[str, ...] = ()
    for program in _PROGRAMS:
        wanted = [f"{name}/".removeprefix(program.prefix) for name in names if _of(name) is program]
        found = [
            path for part in (wanted if names else program.parts) for path in _files(program.code / part)
        ]
        paths |= {program.prefix + path.relative_to(program.code).as_posix(): path for path in found}
        tests += program.tests if found else ()
    return Selected(paths, tests)


def package(name: str) -> str:
    """Return the package of a file: its first folder, below the program's."""
    prefix = _of(name).prefix
    inside = PurePosixPath(name.removeprefix(prefix))
    return f"{prefix}{inside.parts[0]}" if len(inside.parts) > 1 else prefix or "."


def _of(name: str) -> _Program:
    return next(program for program in reversed(_PROGRAMS) if f"{name}/".startswith(program.prefix))


def _files(path: Path) -> list[Path]:
    """Return the files of a folder; how a program is put together is for end-to-end tests to notice."""
    found = sorted(path.rglob("*.py")) if path.is_dir() else [path]
    return [one for one in found if one.name != "__main__.py"]
