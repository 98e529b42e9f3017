"""Which versions COMPAT chooses, and what becomes of combinations that fail."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from stack import compat, engine, golang, images, models, pins
from stack.step import StepFailed


@pytest.fixture
def own_pins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two groups, of which the oldest and the newest combination have other versions of one each."""
    for path, text in {
        "versions.toml": 'version = "1"\ngo = "1"\ndebian = "d"\n[pulled]\na = "a:2"\nb = "b:2"\n',
        "go/a/go.mod": "require a.example v2.0.0\n",
        "go/b/go.mod": "require b.example v2.0.0\n",
        "compat/oldest/versions.toml": '[pulled]\na = "a:1"\n',
        "compat/oldest/go/a/go.mod": "require a.example v1.0.0\n",
        "compat/newest/go/b/go.mod": "require b.example v3.0.0\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    monkeypatch.setattr(pins, "FOLDER", tmp_path)
    monkeypatch.setattr(pins, "COMBINATIONS", tmp_path / "compat")
    return tmp_path


@pytest.mark.parametrize(
    ("combination", "built", "pulled"),
    [
        ("", ("v2.0.0", "v2.0.0"), {"a": "a:2", "b": "b:2"}),
        ("oldest", ("v1.0.0", "v2.0.0"), {"a": "a:1", "b": "b:2"}),
        ("newest", ("v2.0.0", "v3.0.0"), {"a": "a:2", "b": "b:2"}),
    ],
)
def test_a_combination_has_versions_of_its_own_and_the_pinned_ones_of_the_rest(
    combination: str,
    built: tuple[str, str],
    pulled: dict[str, str],
    own_pins: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COMPAT", combination)
    assert tuple(golang.module_version(name, f"{name}.example") for name in "ab") == built
    assert pins.load().pulled == pulled


def test_without_a_combination_the_pinned_versions_are_taken(
    own_pins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COMPAT", raising=False)
    assert pins.at("go/a") == own_pins / "go/a"


def test_a_combination_that_there_is_not_is_refused(own_pins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPAT", "latest")
    with pytest.raises(StepFailed, match=r"COMPAT is 'latest': use oldest or newest"):
        pins.at("go/a")


@pytest.mark.parametrize("combination", pins.combinations())
def test_all_of_a_combination_stands_in_the_place_of_something(combination: str) -> None:
    folder = pins.COMBINATIONS / combination
    strangers = [
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if not (pins.FOLDER / path.relative_to(folder)).exists()
    ]
    assert strangers == []


@pytest.mark.parametrize("combination", ["", *pins.combinations()])
def test_kubernetes_is_of_one_version_in_all_its_modules(
    combination: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPAT", combination)
    minor = golang.module_version("kubernetes", "k8s.io/kubernetes").removeprefix("v1")
    text = (golang.group_folder("kubernetes") / "go.mod").read_text()
    parts = re.findall(r"^\t(k8s\.io/\S+) => (\S+) v0(\S+)$", text, re.MULTILINE)
    assert len(parts) > 25
    assert {(name, version) for _, name, version in parts} == {(name, minor) for name, _, _ in parts}


@pytest.mark.parametrize("combination", pins.combinations())
def test_a_combination_is_the_same_built_and_pulled_but_for_what_kind_has_of_kubernetes(
    combination: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPAT", combination)
    found = {}
    for stack in ("build", "pull"):
        monkeypatch.setattr(images, "source", lambda stack=stack: stack)
        found[stack] = compat.versions()
        found[stack]["Kubernetes"] = found[stack]["Kubernetes"].rpartition(".")[0]
    assert found["build"] == found["pull"]


@pytest.mark.parametrize(
    ("asked", "failing", "tried", "said"),
    [
        ([], set(), ["oldest", "newest"], ["passed", "passed"]),
        ([], {"oldest"}, ["oldest", "newest"], ["failed", "passed"]),
        ([], {"oldest", "newest"}, ["oldest", "newest"], ["failed", "failed"]),
        (["newest"], {"oldest"}, ["newest"], ["passed"]),
    ],
)
def test_each_is_tried_on_a_cluster_that_goes_whatever_became_of_the_others(
    asked: list[str],
    failing: set[str],
    tried: list[str],
    said: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made: list[tuple[str, str]] = []

    def make(name: str, *arguments: str) -> bool:
        made.append((name, arguments[0]))
        return name not in failing

    monkeypatch.setattr(engine, "ensure", lambda: None)
    monkeypatch.setattr(models, "registry_image", lambda: made.append(("", "models")))
    monkeypatch.setattr(compat, "_versions_of", lambda name: f"of {name}")
    monkeypatch.setattr(compat, "_make", make)
    if lost := [name for name in tried if name in failing]:
        with pytest.raises(StepFailed, match=", ".join(lost)):
            compat.run(asked)
    else:
        compat.run(asked)
    steps = [(name, target) for name in tried for target in ("chart-test", "down")]
    assert made == [("", "models"), *steps]
    lines = [f"{name}: of {name}: {outcome}" for name, outcome in zip(tried, said, strict=True)]
    assert capsys.readouterr().out.splitlines() == lines


def test_what_the_calling_make_was_told_does_not_reach_another_combination(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Words on a command line win over MAKEFLAGS and the environment."""
    commands: list[Sequence[str]] = []

    class Done:
        returncode = 0

    def execute(command: Sequence[str], **_: object) -> Done:
        commands.append(command)
        return Done()

    monkeypatch.setattr("stack.compat.subprocess.run", execute)
    assert compat._tried("newest")
    for command in commands:
        assert "COMPAT=newest" in command
        assert any(re.fullmatch(r"CLUSTER=\S+-compat-newest", word) for word in command)
    assert [command[-1] for command in commands] == ["E2E=-m compat", "down"]
