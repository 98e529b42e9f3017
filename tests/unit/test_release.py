"""What a release is called and made of, and what keeps one from being made."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from stack import (
    bake,
    cache,
    changelog,
    charts,
    components,
    engine,
    images,
    oci,
    published,
    release,
    signing,
    versions,
)
from stack.published import Published
from stack.step import StepFailed

NAMES = Published("registry.example/team", "1.2.3")
DIGEST = f"sha256:{'a' * 64}"
CHANGELOG = """\
# Changelog

Words.

## Unreleased

### Added

- New, see [docs](docs/api.md#x).

## [1.2.3] - 2026-01-02

- Older.

## 1.2.0

- Oldest.
"""


@pytest.mark.parametrize(
    ("version", "or_unreleased", "expected"),
    [
        ("1.2.3", False, "- Older."),
        ("1.2.0", False, "- Oldest."),
        ("1.2.3", True, "- Older."),
        ("2.0.0", True, "### Added\n\n- New, see [docs](docs/api.md#x)."),
    ],
)
def test_notes_are_what_the_changelog_says_of_the_version(
    version: str, or_unreleased: bool, expected: str
) -> None:
    assert changelog.notes(CHANGELOG, version, or_unreleased=or_unreleased) == expected


@pytest.mark.parametrize("text", [CHANGELOG, CHANGELOG + "\n## 2.0.0\n\n## 1.1.0\n\n- Other.\n"])
def test_a_version_without_notes_is_not_released(text: str) -> None:
    with pytest.raises(StepFailed, match=r"nothing below a heading `## 2\.0\.0`"):
        changelog.notes(text, "2.0.0")


def test_the_changelog_has_notes_for_a_rehearsal() -> None:
    assert changelog.notes((cache.REPOSITORY / "CHANGELOG.md").read_text(), "0.0.0", or_unreleased=True)


def test_links_of_notes_lead_to_what_is_released() -> None:
    text = "[a](docs/a.md#b), [c](#d), [e](https://f.example/g)"
    assert changelog.linked(text, "https://git.example/o/r", "v1") == (
        "[a](https://git.example/o/r/blob/v1/docs/a.md#b), [c](#d), [e](https://f.example/g)"
    )


# ---- versions ----


def test_all_files_say_one_version() -> None:
    assert versions.ensure() == versions.ensure(f"v{versions.ensure()}")


def test_each_file_is_looked_at() -> None:
    found = versions.written()
    assert len(found) == 5
    assert set(found.values()) == {versions.ensure()}


@pytest.mark.parametrize(
    ("found", "tag", "said"),
    [
        ({"chart": "1.0.1", "package": "1.0.0"}, "", "chart says 1.0.1"),
        ({"chart": ""}, "", "chart says none"),
        ({"chart": "1.0.0"}, "v1.0.1", "the tag is v1.0.1"),
        ({"chart": "1.0.0"}, "1.0.0", "the tag is 1.0.0"),
    ],
)
def test_whatever_says_another_version_stops_a_release(found: dict[str, str], tag: str, said: str) -> None:
    with pytest.raises(StepFailed, match=said):
        versions.agreed(found, "1.0.0", tag)


# ---- names ----


def test_images_and_chart_have_names_of_their_own() -> None:
    assert NAMES.images == {
        "operator": "registry.example/team/modelset-operator:1.2.3",
        "proxy": "registry.example/team/modelset-proxy:1.2.3",
    }
    assert NAMES.chart == "oci://registry.example/team/charts/modelset-operator"
    assert published.pinned(NAMES.images["proxy"], DIGEST) == f"registry.example/team/modelset-proxy@{DIGEST}"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("ghcr.io/SomeBody", "ghcr.io/somebody"),
        ("registry.example:5000/a/b-c.d/", "registry.example:5000/a/b-c.d"),
        ("localhost:5000", "localhost:5000"),
    ],
)
def test_a_registry_is_taken_as_names_of_images_allow(
    given: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGISTRY", given)
    assert published.named("1").registry == expected


@pytest.mark.parametrize(
    "given", ["", "https://registry.example", "registry.example//a", "a b", "registry.example/a:1"]
)
def test_what_is_no_registry_is_refused_by_its_name(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY", given)
    with pytest.raises(StepFailed, match="REGISTRY is"):
        published.named("1")


@pytest.mark.parametrize(
    ("registry", "plain"),
    [
        ("127.0.0.1:5000", True),
        ("127.1.2.3/a", True),
        ("localhost", True),
        ("localhost.example/a", False),
        ("registry.example/localhost", False),
    ],
)
def test_only_a_registry_of_this_machine_is_asked_without_tls(registry: str, plain: bool) -> None:
    assert Published(registry, "1").plain_http is plain


# ---- the chart ----


def test_the_published_chart_names_the_registry_of_our_images_and_of_no_other() -> None:
    before = (charts.CHART / "values.yaml").read_text()
    values = yaml.safe_load(charts.with_registry(before, NAMES.registry))
    assert values["image"].pop("registry") == NAMES.registry
    assert values["defaults"]["proxyImage"].pop("registry") == NAMES.registry
    rest = yaml.safe_load(before)
    del rest["image"]["registry"], rest["defaults"]["proxyImage"]["registry"]
    assert values == rest
    names = [values["image"]["repository"], values["defaults"]["proxyImage"]["repository"]]
    assert [f"{NAMES.registry}/{name}:1.2.3" for name in names] == list(NAMES.images.values())


@pytest.mark.parametrize(
    "values", ["", 'image:\n  registry: other\ndefaults:\n  proxyImage:\n    registry: ""\n']
)
def test_values_without_a_place_for_the_registry_are_an_error(values: str) -> None:
    with pytest.raises(StepFailed, match="0 places"):
        charts.with_registry(values, NAMES.registry)


def test_the_published_chart_says_where_it_comes_from() -> None:
    description = (charts.CHART / "Chart.yaml").read_text()
    told = yaml.safe_load(charts.with_source(description, "https://git.example/o/r"))
    assert (told["home"], told["sources"]) == ("https://git.example/o/r", ["https://git.example/o/r"])
    assert charts.with_source(description, "") == description


def test_the_digest_of_a_chart_is_what_helm_tells() -> None:
    said = f"Pushed: registry.example/team/charts/modelset-operator:1.2.3\nDigest: {DIGEST}\n"
    assert charts.pushed_digest(said) == DIGEST
    with pytest.raises(StepFailed, match="no digest: Error: denied"):
        charts.pushed_digest("Error: denied\n")


# ---- images ----


def bake_file(**options: bool) -> dict[str, object]:
    contexts = {
        name: Path("/contexts") / name for name in ("operator", "venv-operator", "proxy", "venv-proxy")
    }
    return bake.definition(
        NAMES.images,
        contexts,
        ("linux/amd64", "linux/arm64"),
        base="debian:slim",
        provenance=options.get("provenance", True),
        secrets=["id=ca,src=/certs"],
        labels={"a": "b"},
    )


def test_each_image_is_built_for_all_platforms_with_what_it_copies() -> None:
    assert bake_file()["group"] == {"default": {"targets": ["operator", "proxy"]}}
    targets = bake_file()["target"]
    assert isinstance(targets, dict)
    assert targets["operator"] == {
        "context": "/contexts/operator",
        "contexts": {"venv-operator": "target:venv-operator"},
        "platforms": ["linux/amd64", "linux/arm64"],
        "args": {"BASE": "debian:slim", "VENV": "venv-operator"},
        "secret": ["id=ca,src=/certs"],
        "tags": ["registry.example/team/modelset-operator:1.2.3"],
        "labels": {"a": "b"},
        "attest": ["type=provenance,mode=max"],
    }
    assert targets["venv-operator"] == {
        "context": "/contexts/venv-operator",
        "platforms": ["linux/amd64", "linux/arm64"],
        "args": {"BASE": "debian:slim"},
        "secret": ["id=ca,src=/certs"],
    }
    assert targets.keys() == {"operator", "venv-operator", "proxy", "venv-proxy"}


def test_provenance_can_be_left_out() -> None:
    targets = bake_file(provenance=False)["target"]
    assert isinstance(targets, dict)
    assert targets["proxy"]["attest"] == []


@pytest.mark.parametrize("name", published.IMAGES)
def test_a_dockerfile_takes_its_bases_from_arguments(name: str) -> None:
    file = (cache.REPOSITORY / "images" / name / "Dockerfile").read_text()
    sources = [line.split()[1] for line in file.splitlines() if line.startswith("FROM ")]
    assert sources == ["${VENV}", "${BASE}"]


def test_digests_come_from_what_was_pushed() -> None:
    told = {"operator": {"containerimage.digest": DIGEST}, "venv-operator": {}, "buildx.build.ref": {}}
    assert bake.digests(told, ["operator"]) == {"operator": DIGEST}
    with pytest.raises(StepFailed, match="no digest of proxy"):
        bake.digests(told, ["operator", "proxy"])


@pytest.mark.parametrize(
    ("given", "expected"),
    [("", ("linux/amd64",)), ("linux/arm64", ("linux/arm64",)), ("a/b, c/d", ("a/b", "c/d"))],
)
def test_platforms_are_those_asked_for_or_the_usual_ones(given: str, expected: tuple[str, ...]) -> None:
    assert release.chosen(given, ("linux/amd64",)) == expected


def test_an_image_of_another_platform_is_another_image(monkeypatch: pytest.MonkeyPatch) -> None:
    flags: dict[str, list[str]] = {}
    monkeypatch.setattr(images, "base", lambda platform="": f"base {platform}")
    monkeypatch.setattr(engine, "has_image", flags.__contains__)
    monkeypatch.setattr(
        engine, "build_image", lambda tag, *_, **options: flags.setdefault(tag, options["flags"])
    )
    for platform in ("", "linux/arm64", "linux/arm64"):
        components.built("operator", platform, {"b": "2", "a": "1"})
    assert [given for tag, given in flags.items() if tag.startswith("modelset/venv:")] == [
        [],
        ["--platform=linux/arm64"],
    ]
    assert [given for tag, given in flags.items() if tag.startswith("modelset/operator:")] == [
        ["--label=a=1", "--label=b=2"],
        ["--label=a=1", "--label=b=2", "--platform=linux/arm64"],
    ]


# ---- signatures and announcement ----

WORKFLOW = {
    "GITHUB_SERVER_URL": "https://git.example",
    "GITHUB_REPOSITORY": "o/r",
    "GITHUB_WORKFLOW_REF": "o/r/.github/workflows/release.yaml@refs/tags/v1",
}


def test_the_workflow_signs_and_is_verified_by_its_own_address() -> None:
    workflow = "https://git.example/o/r/.github/workflows/release.yaml@refs/tags/v1"
    assert signing.identity(WORKFLOW) == workflow
    assert signing.keyless(WORKFLOW) == signing.Signer(
        ("--yes",), ("--certificate-identity", workflow, "--certificate-oidc-issuer", signing.ISSUER)
    )


@pytest.mark.parametrize("missing", ["GITHUB_SERVER_URL", "GITHUB_WORKFLOW_REF"])
def test_nobody_else_signs(missing: str) -> None:
    with pytest.raises(StepFailed, match="only a workflow"):
        signing.identity({name: value for name, value in WORKFLOW.items() if name != missing})


def test_nobody_else_pushes_either(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []
    monkeypatch.setattr(engine, "ensure", lambda: begun.append("engine"))
    monkeypatch.setattr(changelog, "notes", lambda *_, **__: "notes")
    for name in ("DRY_RUN", "GITHUB_REF_TYPE", *WORKFLOW):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(StepFailed, match="only a workflow"):
        release.run_release()
    assert begun == []


def test_a_release_says_how_it_is_installed_what_changed_and_what_exactly_it_is() -> None:
    source = release.source_of(WORKFLOW)
    text = release.announcement("- See [a](docs/a.md).", NAMES, ["one@sha256:1"], source, "v1.2.3")
    assert f"helm install modelset-operator {NAMES.chart} --version 1.2.3 " in text
    assert "- See [a](https://git.example/o/r/blob/v1.2.3/docs/a.md)." in text
    assert "- `one@sha256:1`" in text
    assert release.source_of({}) == ""
    assert "(docs/a.md)" in release.announcement("[a](docs/a.md)", NAMES, [], "", "v1.2.3")


def test_a_registry_of_ones_own_is_told_where_to_listen_and_to_keep_things() -> None:
    described = yaml.safe_load(oci.configuration(Path("/kept"), "127.0.0.1:5001"))
    assert described["http"] == {"addr": "127.0.0.1:5001"}
    assert described["storage"] == {"filesystem": {"rootdirectory": "/kept"}}
