"""KubeRay's manifests as a chart."""

from __future__ import annotations

from pathlib import Path

import yaml

from tests.install import kuberay

MANIFEST = """\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: a}
---
kind: ServiceAccount
metadata: {name: b}
---
kind: Deployment
metadata: {name: c}
"""


def test_what_it_defines_is_apart_from_what_it_runs(tmp_path: Path) -> None:
    made = kuberay.chart(MANIFEST, "1.5.1", tmp_path)
    assert yaml.safe_load((made / "Chart.yaml").read_text()) == {
        "apiVersion": "v2",
        "name": "kuberay-operator",
        "version": "1.5.1",
    }
    names = {
        folder: [
            document["metadata"]["name"]
            for document in yaml.safe_load_all((made / folder / "kuberay.yaml").read_text())
        ]
        for folder in ("crds", "templates")
    }
    assert names == {"crds": ["a"], "templates": ["b", "c"]}
