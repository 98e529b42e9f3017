"""The chart is upgraded, rolled back, uninstalled and installed anew, and a set serves all the while."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Iterator
from typing import Any

import pytest

from stack import cluster, components, step
from tests.e2e.support import inventory, traffic
from tests.e2e.support import modelset as ms
from tests.e2e.support.kube import Kube
from tests.e2e.support.waiting import until

OPERATOR = Kube(cluster.OPERATOR_NAMESPACE)
OTHER = "another"
CRD = "ollamamodelsets.modelset.dev"
CRD_ENTRY = f"CustomResourceDefinition.apiextensions.k8s.io/v1 /{CRD}"
# Of several replicas alone.
PDB_ENTRY = f"PodDisruptionBudget.policy/v1 {cluster.OPERATOR_NAMESPACE}/{cluster.RELEASE}"
HELM_SECONDS = 150
# A Lease that was not given back is taken over within 20 s; then pods are looked at anew.
ACTS_SECONDS = 90
ANSWER_SECONDS = 60


def _helm(*arguments: str) -> str:
    return step.output(cluster.helm_command(*arguments))


def _settled(*arguments: str) -> str:
    """A helm command that returns when what it has changed is there."""
    return _helm(*arguments, "--wait", "--timeout", f"{HELM_SECONDS}s")


def _releases() -> set[str]:
    return {release["name"] for release in json.loads(_helm("list", "--all", "--output", "json"))}


def _belonging_to(release: str) -> set[str]:
    return inventory.everything(f"app.kubernetes.io/instance={release}")


def _await_only_the_crd(release: str) -> None:
    """Return when the CRD is all that is left of a release."""
    until(
        lambda: _belonging_to(release),
        lambda left: left == {CRD_ENTRY},
        seconds=HELM_SECONDS,
        what=f"of {release} the CRD alone is left",
    )


def _crd_belongs_to() -> str:
    return str(OPERATOR.get("crd", CRD)["metadata"]["annotations"]["meta.helm.sh/release-name"])


def _give_crd_to(release: str) -> None:
    cluster.kubectl("annotate", "--overwrite", "crd", CRD, f"meta.helm.sh/release-name={release}")


def _give_crd_as_told(release: str) -> None:
    """Run the commands that the notes of a release tell."""
    notes = _helm("get", "notes", release).splitlines()
    commands = [shlex.split(line)[1:] for line in notes if line.startswith("  kubectl ")]
    giving = [command for command in commands if "crd" in command]
    assert len(giving) == 2, notes
    for command in giving:
        cluster.kubectl(*command)


def _test(release: str) -> None:
    """`helm test`."""
    said = _helm("test", release, "--timeout", f"{HELM_SECONDS}s")
    assert said.count("Succeeded") == 3


@pytest.fixture
def release_of_the_stack() -> Iterator[None]:
    """It is there again afterwards, and no other one, however far the test came."""
    yield
    if _releases() != {cluster.RELEASE} or _crd_belongs_to() != cluster.RELEASE:
        for release in _releases():
            _settled("uninstall", release)
        _give_crd_to(cluster.RELEASE)
    cluster.install_operator()


@pytest.fixture
def another_tag() -> Iterator[str]:
    """Another tag of the operator's image, which all nodes have."""
    image = components.ensure("operator")
    other = f"{image}-again"
    step.output(["docker", "tag", image, other])
    try:
        cluster.load(other)
        yield other.rpartition(":")[2]
    finally:
        step.output(["docker", "image", "rm", other])


@pytest.fixture
def living(kube: Kube) -> ms.ModelSet:
    """A Ready set with a second model, whose name the steps change."""
    kube.apply(ms.manifest("living", [ms.CHAT, ms.EMBEDDING]))
    result = ms.ModelSet(kube, "living")
    result.await_ready()
    return result


def _rename(living: ms.ModelSet, name: str) -> None:
    """Have the second model go by another name, which costs no pod anything."""
    living.kube.apply(ms.manifest("living", [ms.CHAT, ms.EMBEDDING | {"servedNames": [name]}]))


def _await_renamed(living: ms.ModelSet, name: str) -> None:
    """Return when the operator has seen to it."""
    until(
        lambda: living.status()["modelNames"].split(";"),
        lambda names: name in names,
        seconds=ACTS_SECONDS,
        what=f"there is an operator, and the model is called {name}",
    )


@contextlib.contextmanager
def _during(what: str, requests: traffic.Traffic, told: Any) -> Iterator[None]:
    """Do something, with an answer at least to what was asked meanwhile, and none that failed."""
    before = requests.answers
    yield
    until(
        lambda: requests.answers - before,
        # The first one may have been asked for before.
        lambda answers: bool(requests.problems) or answers > 1,
        seconds=ANSWER_SECONDS,
        what=f"answers during {what}",
    )
    assert requests.problems == [], f"during {what}"
    told(f"answers during {what}", requests.answers - before)


@pytest.mark.long
def test_a_set_serves_through_all_of_it(
    living: ms.ModelSet, release_of_the_stack: None, another_tag: str, record_testsuite_property: Any
) -> None:
    uid, pods = living.get()["metadata"]["uid"], living.pod_identities()
    manifest = _helm("get", "manifest", cluster.RELEASE)

    with traffic.steady(living) as requests:
        with _during("an upgrade", requests, record_testsuite_property):
            changed = f"image.tag={another_tag},logLevel=DEBUG,replicas=2,resources.requests.cpu=20m"
            release = [cluster.RELEASE, str(cluster.CHART), "--reset-then-reuse-values"]
            _settled("upgrade", *release, "--set", changed)
            deployment = OPERATOR.get("deployment", cluster.RELEASE)
            assert deployment["status"]["updatedReplicas"] == 2
            [operator] = deployment["spec"]["template"]["spec"]["containers"]
            assert operator["image"].endswith(another_tag)
            assert PDB_ENTRY in _belonging_to(cluster.RELEASE)
            _rename(living, "upgraded")
            _await_renamed(living, "upgraded")
            _test(cluster.RELEASE)

        with _during("a rollback", requests, record_testsuite_property):
            _settled("rollback", cluster.RELEASE)
            assert _helm("get", "manifest", cluster.RELEASE) == manifest
            assert PDB_ENTRY not in _belonging_to(cluster.RELEASE)
            _rename(living, "rolled-back")
            _await_renamed(living, "rolled-back")

        with _during("uninstalling", requests, record_testsuite_property):
            _settled("uninstall", cluster.RELEASE)
            _await_only_the_crd(cluster.RELEASE)
            _rename(living, "installed-anew")

        with _during("another release", requests, record_testsuite_property):
            _settled("install", OTHER, str(cluster.CHART), *cluster.chart_settings())
            _await_renamed(living, "installed-anew")
            assert CRD_ENTRY not in _belonging_to(OTHER)
            _give_crd_as_told(OTHER)
            _settled("upgrade", OTHER, str(cluster.CHART), "--reset-then-reuse-values")
            assert CRD_ENTRY in _belonging_to(OTHER)
            _test(OTHER)

        with _during("going back", requests, record_testsuite_property):
            _settled("uninstall", OTHER)
            _await_only_the_crd(OTHER)
            _give_crd_to(cluster.RELEASE)
            cluster.install_operator()
            _rename(living, "as-before")
            _await_renamed(living, "as-before")

    assert _helm("get", "manifest", cluster.RELEASE) == manifest
    assert CRD_ENTRY in _belonging_to(cluster.RELEASE)
    assert living.get()["metadata"]["uid"] == uid
    assert living.pod_identities() == pods, "pods were replaced or restarted"
