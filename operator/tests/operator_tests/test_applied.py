"""All that is applied for a set that says everything, word for word.

What changes in a pod's template restarts that pod in every set when the operator is upgraded, so that it
shows here before it does. Where it is meant to change, this writes the file anew:
`PYTHONPATH=operator:operator/tests python -m operator_tests.test_applied`
"""

import json
import pathlib
from typing import Any

import yaml

from modelset_operator.manifests import cache, common, disruption, network, ollama, ray

from . import builders
from .test_network import AROUND

FILE = pathlib.Path(__file__).with_name("applied.yaml")
KUBERAYS = {"name": "assistants-serve-svc", "namespace": "default", "uid": "service-uid"}
POD: dict[str, Any] = {
    "nodeSelector": {"pool": "models"},
    "podLabels": {"team": "a"},
    "podAnnotations": {"note": "b"},
    "imagePullPolicy": "Always",
}
SET = builders.modelset(
    {"name": "a:1", "servedNames": ["a", "A"], "contextLength": 512, "keepAlive": "5m"},
    registry={
        "host": "models.example:5000",
        "insecure": True,
        "credentialsSecret": {"name": "models-login"},
        "cache": {"size": "8Gi", "storageClassName": "fast", "nodeSelector": {"pool": "models"}},
    },
    ollama={
        **POD,
        "replicas": 2,
        "parallel": 2,
        "maxLoadedModels": 5,
        "flashAttention": True,
        "kvCacheType": "q8_0",
        "drainSeconds": 3,
        "env": [{"name": "HTTPS_PROXY", "value": "http://egress.example:3128"}],
        "resources": {"limits": {"memory": "8Gi"}},
        "storage": {"size": "2Gi", "storageClassName": "fast", "retain": True},
        "supplementalGroups": [44],
        "volumes": [
            {
                "name": "adapters",
                "mountPath": "/adapters",
                "persistentVolumeClaim": {"claimName": "adapters", "readOnly": True},
                "readOnly": True,
            }
        ],
    },
    proxy={
        **POD,
        "autoscaling": {"minReplicas": 2, "maxReplicas": 5, "targetOngoingRequests": 7},
        "auth": {"apiKeysSecret": {"name": "keys"}},
        "cors": {"allowOrigins": ["https://chat.example"]},
        "allowedFrom": [{"podSelector": {"matchLabels": {"app": "web"}}}],
        "limits": {"maxQueuedRequests": 10},
    },
)


def applied() -> Any:
    """Return what is applied, by kind and name, as the API server gets it."""
    (pool,) = SET.pools
    assert SET.cache is not None
    entries = [ray.model_entry(model, "Chat", ["completion"], SET.created) for model in SET.models]
    discovery = common.discovery(name for model in SET.models for name in model.served_names)
    found = [
        cache.service(SET),
        cache.stateful_set(SET, SET.cache),
        ollama.service(SET, pool),
        ollama.config_map(SET, pool, {f"{pool.name}-0": SET.models}),
        ollama.stateful_set(SET, pool, 2),
        ray.ray_service(SET, entries, discovery, "0f1e"),
        common.discovery_patch("v1", "Service", {"metadata": KUBERAYS}, discovery, SET.name),
        *disruption.budgets(SET),
        *network.policies(SET, AROUND),
    ]
    # Of tuples JSON makes lists.
    return json.loads(json.dumps({f"{one['kind']} {one['metadata']['name']}": one for one in found}))


def test_what_is_applied_changes_only_on_purpose() -> None:
    assert applied() == yaml.load(FILE.read_text(), yaml.CSafeLoader)


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as such."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


if __name__ == "__main__":
    _Dumper.add_representer(str, _text)
    FILE.write_text(yaml.dump(applied(), Dumper=_Dumper, sort_keys=False, width=120))
