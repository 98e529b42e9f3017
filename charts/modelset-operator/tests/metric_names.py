"""The metrics that operator and proxy tell, from their code: each sample's name, with its labels."""

import ast
import pathlib
from types import SimpleNamespace

from modelset_operator import metrics, monitor

RAY_METRICS = pathlib.Path(__file__).parents[3] / "serve_app/modelset_proxy/serving/ray_metrics.py"
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}


def operators() -> dict[str, set[str]]:
    """Return what the operator tells."""
    selection = SimpleNamespace(kind=SimpleNamespace(plural="pods"), namespace="")
    cached = SimpleNamespace(selections=lambda: [(selection, 0.0)], model_sets={"a": {}})
    now = monitor.Now(SimpleNamespace(queue=None, cached=cached), SimpleNamespace(leads=True))  # type: ignore[arg-type]
    found: dict[str, set[str]] = {}
    for family in now.collect():
        for sample in family.samples:
            found[sample.name] = set(sample.labels)
    for collector in list(metrics.REGISTRY._collector_to_names):
        (family,) = collector.describe() if hasattr(collector, "describe") else collector.collect()
        for suffix in SUFFIXES[family.type]:
            found[family.name + suffix] = set(collector._labelnames)
    return found


def proxies() -> dict[str, set[str]]:
    """Return what the proxy tells through Ray. The module is read, not run: Ray takes seconds to begin."""
    tree = ast.parse(RAY_METRICS.read_text())
    constants = {
        node.targets[0].id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.targets[0], ast.Name)
    }
    kinds = {"_Tally": "counter", "Histogram": "histogram", "Gauge": "gauge"}
    found: dict[str, set[str]] = {}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not node.args or not isinstance(node.args[0], ast.Constant):
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        labels = node.args[-1]
        if called in kinds and isinstance(labels, ast.Tuple):
            names = {constants[one.id] if isinstance(one, ast.Name) else one.value for one in labels.elts}  # type: ignore[attr-defined]
            for suffix in SUFFIXES[kinds[called]]:
                found[f"ray_{node.args[0].value}{suffix}"] = names
    return found
