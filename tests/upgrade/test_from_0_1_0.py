"""`helm upgrade` from 0.1.0 with a set that serves, and back: it serves on, loses nothing, and ends Ready."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from stack import cluster
from tests.e2e.support import modelset as ms
from tests.e2e.support import traffic
from tests.e2e.support.kube import Kube
from tests.e2e.support.waiting import until

UPGRADED_SECONDS = 600
# What 0.1.0 does not know.
NEWER = {"proxy": {"limits": {"wakeTimeoutSeconds": 99}}}


def _volumes(kube: Kube) -> dict[str, str]:
    return {
        claim["metadata"]["name"]: claim["metadata"]["uid"] for claim in kube.find("persistentvolumeclaims")
    }


def _downloads(live: ms.ModelSet) -> set[str]:
    told = live.kube.events("live")
    return {event["metadata"]["uid"] for event in told if event["reason"] in {"Pulling", "Pulled"}}


def _schema() -> str:
    crd = json.loads(cluster.kubectl("get", "crd", "ollamamodelsets.modelset.dev", "--output", "json"))
    return json.dumps(crd["spec"], sort_keys=True)


def _newer(live: ms.ModelSet) -> dict[str, Any]:
    """What the set has of `NEWER`."""
    limits = live.get()["spec"].get("proxy", {}).get("limits", {})
    return {"proxy": {"limits": {name: limits.get(name) for name in NEWER["proxy"]["limits"]}}}


def _rolled_back() -> str:
    """What helm says when it is told to go back to 0.1.0, the first revision."""
    done = subprocess.run(
        cluster.helm_command("rollback", cluster.RELEASE, "1"), capture_output=True, text=True, check=False
    )
    return done.stderr if done.returncode else "it went back"


@pytest.mark.timeout(1800)
def test_a_live_set_survives_the_upgrade(kube: Kube, record_testsuite_property: Any) -> None:
    manifest = ms.manifest("live", [ms.CHAT, ms.EMBEDDING])
    # One goes on serving while the other one is replaced.
    manifest["spec"]["ollama"]["replicas"] = 2
    kube.apply(manifest)
    live = ms.ModelSet(kube, "live")
    live.await_ready(UPGRADED_SECONDS)
    before, volumes, downloads, schema = live.get(), _volumes(kube), _downloads(live), _schema()
    assert len(volumes) == 2

    with traffic.steady(live) as requests:
        cluster.install_operator()
        until(
            lambda: kube.find("configmaps", "modelset.dev/set=live"),
            bool,
            seconds=UPGRADED_SECONDS,
            what="this operator has applied what 0.1.0 did not have",
        )
        live.await_ready(UPGRADED_SECONDS)

    assert _schema() != schema, "the CRD was not upgraded"
    after = live.get()
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert _volumes(kube) == volumes, "volumes were lost"
    assert _downloads(live) == downloads, "models were downloaded again"
    digests = {model["name"]: model["digest"] for model in before["status"]["models"]}
    assert {model["name"]: model["digest"] for model in after["status"]["models"]} == digests
    record_testsuite_property("requests answered during the upgrade", requests.answers)
    assert requests.problems == []

    kube.run("patch", "ollamamodelset", "live", "--type=merge", "--patch", json.dumps({"spec": NEWER}))
    widened = _schema()
    assert "sets would lose" in _rolled_back()
    # Whoever writes it next, and 0.1.0's operator will: with 0.1.0's definition the field would be gone.
    kube.run("annotate", "ollamamodelset", "live", "written=since")
    assert (_schema(), _newer(live)) == (widened, NEWER)
    cluster.install_operator()
    live.await_ready(UPGRADED_SECONDS)
    assert _newer(live) == NEWER
