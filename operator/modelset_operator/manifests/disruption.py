"""How many of a set's pods may be away while nodes are drained: PodDisruptionBudgets."""

from typing import Any

from modelset_operator.api import names, spec
from modelset_operator.manifests import common


def budgets(modelset: spec.ModelSet) -> list[dict[str, Any]]:
    """Return the PodDisruptionBudgets of a set. One pod may always go: nodes have to be drained."""
    return [
        _budget(modelset, names.OLLAMA_COMPONENT, {"maxUnavailable": 1}),
        # Of pods whose owner cannot be scaled Kubernetes does not know how many there should be.
        _budget(modelset, names.PROXY_COMPONENT, {"minAvailable": modelset.proxy.replicas - 1}),
    ]


def _budget(modelset: spec.ModelSet, component: str, bound: dict[str, int]) -> dict[str, Any]:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": common.metadata(modelset, names.pods_of(modelset.name, component), component),
        "spec": {
            **bound,
            "selector": {"matchLabels": names.selector(modelset.name, component)},
            # A pod that is not ready serves nobody; one that never becomes so would keep its node for ever.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }
