"""Build results are whole or absent, and their key follows their inputs."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stack import cache


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELSET_CACHE", str(tmp_path / "cache"))


def test_an_entry_is_built_once() -> None:
    built = []

    def build(folder: Path) -> None:
        built.append(folder)
        (folder / "result").write_text("done")

    first = cache.entry("kind", "name", "key", build)
    second = cache.entry("kind", "name", "key", build)

    assert first == second == built[0]
    assert (first / "result").read_text() == "done"
    assert len(built) == 1


def test_a_failed_build_leaves_nothing() -> None:
    def build(folder: Path) -> None:
        (folder / "half").write_text("")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        cache.entry("kind", "name", "key", build)

    assert list((cache.root() / "kind").iterdir()) == []


def test_a_build_that_was_cut_off_is_built_again() -> None:
    half = cache.root() / "kind" / "name-key"
    half.mkdir(parents=True)
    (half / "half").write_text("")

    def build(folder: Path) -> None:
        (folder / "result").write_text("")

    whole = cache.entry("kind", "name", "key", build)

    assert [path.name for path in sorted(whole.iterdir())] == [".complete", "result"]


def test_of_two_that_want_the_same_at_once_one_builds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, waited_for = threading.Event(), threading.Event()
    built: list[Path] = []
    monkeypatch.setattr(cache, "say", lambda _: waited_for.set())

    def build(folder: Path) -> None:
        built.append(folder)
        begun.set()
        assert waited_for.wait(10)
        (folder / "result").write_text("done")

    with ThreadPoolExecutor() as pool:
        first = pool.submit(cache.entry, "kind", "name", "key", build)
        assert begun.wait(10)
        second = pool.submit(cache.entry, "kind", "name", "key", build)

    assert first.result() == second.result() == built[0]
    assert len(built) == 1


def test_a_key_follows_names_contents_and_modes(tmp_path: Path) -> None:
    def key_of(name: str, content: str, mode: int) -> str:
        folder = tmp_path / "tree"
        folder.mkdir()
        (folder / name).write_text(content)
        (folder / name).chmod(mode)
        try:
            return cache.key("text", folder)
        finally:
            (folder / name).unlink()
            folder.rmdir()

    same = key_of("a", "x", 0o644)
    assert same == key_of("a", "x", 0o644)
    assert len({same, key_of("b", "x", 0o644), key_of("a", "y", 0o644), key_of("a", "x", 0o755)}) == 4


def test_a_key_ignores_what_python_compiles(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text("")
    before = cache.key(tmp_path)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "module.pyc").write_text("")
    assert cache.key(tmp_path) == before
