"""Under which names images are pulled."""

from __future__ import annotations

import pytest

from stack import engine, images, pins


@pytest.mark.parametrize(
    ("tag", "full"),
    [
        ("debian:bookworm", "docker.io/library/debian:bookworm"),
        ("kindest/node:v1@sha256:0", "docker.io/kindest/node:v1@sha256:0"),
        ("quay.io/kuberay/operator:v1", "quay.io/kuberay/operator:v1"),
        ("127.0.0.1:5000/a:1", "127.0.0.1:5000/a:1"),
        ("mirror:5000/a:1", "mirror:5000/a:1"),
        ("localhost/a:1", "localhost/a:1"),
    ],
)
def test_a_full_name_has_a_registry(tag: str, full: str) -> None:
    assert images.full_name(tag) == full


@pytest.mark.parametrize("mirror", ["mirror.example:5000/proxy", "mirror.example:5000/proxy/"])
def test_a_mirror_stands_before_the_full_name_and_leaves_the_pin(
    mirror: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIRROR", mirror)
    for name, pinned in pins.load().pulled.items():
        assert images.pulled_as(name) == f"mirror.example:5000/proxy/{images.full_name(pinned)}"


@pytest.mark.parametrize("mirror", ["", None])
def test_without_a_mirror_the_pin_is_pulled(mirror: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if mirror is None:
        monkeypatch.delenv("MIRROR", raising=False)
    else:
        monkeypatch.setenv("MIRROR", mirror)
    assert {name: images.pulled_as(name) for name in pins.load().pulled} == pins.load().pulled


@pytest.mark.parametrize("stack", ["pull", "build"])
def test_only_what_is_pulled_comes_from_a_mirror(stack: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pulls: list[list[str]] = []
    monkeypatch.setenv("MIRROR", "mirror.example")
    monkeypatch.setattr(images, "source", lambda: stack)
    monkeypatch.setattr(engine, "has_image", lambda tag: False)
    monkeypatch.setattr(images, "run", lambda command, **_: pulls.append(command))
    tag = images.pulled("kuberay")
    if stack == "pull":
        assert tag == f"mirror.example/{pins.load().pulled['kuberay']}"
        assert [command[-1] for command in pulls] == [tag]
    else:
        assert (tag, pulls) == (None, [])
