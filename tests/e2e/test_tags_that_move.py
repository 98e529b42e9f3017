"""A tag that stands for another model than before: noticed, pulled anew, and served without a restart."""

from __future__ import annotations

import datetime

import pytest

from tests.e2e.support import held, registry
from tests.e2e.support import modelset as ms
from tests.e2e.support.kube import Kube
from tests.e2e.support.waiting import until

NOTICED_SECONDS = 120
GONE_SECONDS = 120
MOVING = {"name": "smollm2:moving", "servedNames": ["smollm2"]}


def _look_now(kube: Kube) -> None:
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    kube.run("annotate", "--overwrite", "ollamamodelset", "moving", f"modelset.dev/refresh={now}")


@pytest.mark.long
def test_a_moved_tag_is_pulled_anew_by_an_annotation_and_by_refresh(kube: Kube) -> None:
    registry.install(kube)
    manifest = ms.manifest("moving", [MOVING], registry.host(kube, registry.OPEN_PORT))
    # Ollama itself pulls from no registry that sends blobs without a redirect.
    manifest["spec"]["registry"] |= {"cache": {"size": "1Gi"}}
    manifest["spec"]["ollama"] |= {"replicas": 2}
    kube.apply(manifest)
    moving = ms.ModelSet(kube, "moving")
    moving.await_ready()
    before, pods = moving.model("smollm2:moving")["digest"], moving.pod_identities()

    # Nothing has moved: looked at, and as it was.
    checked = moving.model("smollm2:moving")["checkedAt"]
    _look_now(kube)
    until(
        lambda: moving.model("smollm2:moving")["checkedAt"],
        lambda at: at > checked,
        seconds=NOTICED_SECONDS,
        what="a pod has looked",
    )
    assert moving.model("smollm2:moving")["digest"] == before

    registry.put(kube, registry.MOVED)
    _look_now(kube)
    told = until(
        lambda: moving.model("smollm2:moving"),
        lambda found: found["digest"] != before and found["readyReplicas"] == "2/2",
        seconds=NOTICED_SECONDS,
        what="all pods have the new version",
    )
    assert "tools" in told["capabilities"]
    until(
        lambda: [held.models(kube, f"moving-ollama-{ordinal}") for ordinal in range(2)],
        lambda found: all(len(one) == 1 for one in found),
        seconds=GONE_SECONDS,
        what="the old version is gone",
    )

    # By itself too: it moves back, and a minute later a pod looks.
    registry.end(kube, registry.MOVED)
    manifest["spec"]["models"] = [{**MOVING, "refresh": "1m"}]
    kube.apply(manifest)
    until(
        lambda: moving.model("smollm2:moving"),
        lambda found: found["digest"] == before and found["readyReplicas"] == "2/2",
        seconds=NOTICED_SECONDS,
        what="all pods have the version before",
    )
    assert moving.pod_identities() == pods, "nothing restarts"
    reasons = [event["reason"] for event in kube.events("moving")]
    assert reasons.count("Updated") == 2
