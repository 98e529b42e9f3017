"""Everything that a cluster holds, of whichever kind, by name."""

from __future__ import annotations

from stack import cluster

# They come and go by themselves.
PASSING = ("events", "events.events.k8s.io")
_LINE = '{range .items[*]}{.kind}.{.apiVersion} {.metadata.namespace}/{.metadata.name}{"\\n"}{end}'


def everything(selector: str = "") -> set[str]:
    """`<kind>.<group and version> <namespace>/<name>` of each object that the labels select; "" for all."""
    listable = cluster.kubectl("api-resources", "--verbs=list", "--output=name").split()
    kinds = ",".join(kind for kind in listable if kind not in PASSING)
    selected = [f"--selector={selector}"] if selector else []
    listed = cluster.kubectl("get", kinds, "--all-namespaces", *selected, f"--output=jsonpath={_LINE}")
    return set(listed.splitlines())
