"""`helm upgrade` from 0.1.0 with a set that serves: it goes on serving, loses nothing, and ends Ready."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stack import cluster
from tests.e2e.support import modelset as ms
from tests.e2e.support import traffic
from tests.e2e.support.kube import Kube
from tests.e2e.support.waiting import until

UPGRADED_SECONDS = 600


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
