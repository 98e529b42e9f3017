"""A manifest with a mistake is refused by `kubectl apply`, with a message that names the field."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.e2e.support import making
from tests.e2e.support import modelset as ms
from tests.e2e.support.kube import Kube, Manifest, Refused

pytestmark = pytest.mark.compat


def _with(path: str, value: Any) -> Manifest:
    manifest = ms.manifest("wrong", [ms.CHAT, ms.EMBEDDING])
    *parents, last = path.split(".")
    target: Any = manifest
    for parent in parents:
        target = target[int(parent)] if isinstance(target, list) else target.setdefault(parent, {})
    target[last] = value
    return manifest


def _volumes(*paths: str, **fields: Any) -> Manifest:
    claim = {"claimName": "shared"}
    volumes = [
        {"name": f"volume-{count}", "mountPath": path, "persistentVolumeClaim": claim, **fields}
        for count, path in enumerate(paths)
    ]
    return _with("spec.ollama.volumes", volumes)


@pytest.mark.parametrize(
    ("manifest", "named"),
    [
        pytest.param(_with("spec.models", []), "spec.models", id="no-models"),
        pytest.param(_with("spec.models.1.servedNames", ["smollm2"]), "servedNames", id="served-name-twice"),
        pytest.param(
            _with(
                "spec.models",
                [{"name": "smollm2:latest"}, {"name": "smollm2:135m", "servedNames": ["smollm2"]}],
            ),
            "servedNames",
            id="served-name-equals-a-default",
        ),
        pytest.param(_with("metadata.name", "a" * 41), "metadata.name", id="name-too-long"),
        pytest.param(_with("metadata.name", "1st"), "metadata.name", id="name-begins-with-a-digit"),
        pytest.param(
            _with("spec.ollama.replicas", -1), "spec.ollama.replicas", id="negative-ollama-replicas"
        ),
        pytest.param(_with("spec.proxy.replicas", -1), "spec.proxy.replicas", id="negative-proxy-replicas"),
        pytest.param(
            _with("spec.ollama", {"replicas": 2, "autoscaling": {"maxReplicas": 4}}),
            "ollama.replicas must be left out",
            id="replicas-beside-autoscaling",
        ),
        pytest.param(
            _with("spec.ollama.autoscaling", {"minReplicas": 3, "maxReplicas": 2}),
            "autoscaling.minReplicas must not be more",
            id="least-above-most",
        ),
        pytest.param(
            _with("spec.ollama.autoscaling", {"minReplicas": 0}), "maxReplicas: Required value", id="no-most"
        ),
        pytest.param(_with("spec.ollama.autoscaling", {"maxReplicas": 0}), "maxReplicas", id="most-of-none"),
        pytest.param(
            _with("spec.ollama.autoscaling", {"maxReplicas": 2, "targetInFlight": 0}),
            "targetInFlight",
            id="no-request-a-pod",
        ),
        pytest.param(
            _with("spec.ollama.autoscaling", {"maxReplicas": 2, "idleSeconds": 0}),
            "idleSeconds",
            id="idle-at-once",
        ),
        pytest.param(
            _with("spec.proxy", {"replicas": 2, "autoscaling": {"maxReplicas": 3}}),
            "leave out replicas",
            id="proxies-by-two-rules",
        ),
        pytest.param(
            _with("spec.proxy.autoscaling", {"minReplicas": 3, "maxReplicas": 2}),
            "minReplicas must not be more",
            id="proxies-at-least-more-than-at-most",
        ),
        pytest.param(
            _with("spec.proxy.autoscaling", {"minReplicas": 1}),
            "spec.proxy.autoscaling.maxReplicas",
            id="proxies-without-bound",
        ),
        pytest.param(
            _with("spec.proxy.autoscaling", {"minReplicas": 0, "maxReplicas": 2}),
            "spec.proxy.autoscaling.minReplicas",
            id="no-proxy-to-wake",
        ),
        pytest.param(_with("spec.ollama.replica", 1), "spec.ollama.replica", id="unknown-field"),
        pytest.param(
            _with("spec.proxy.cors", {"allowOrigins": ["chat.example"]}), "allowOrigins", id="no-origin"
        ),
        pytest.param(_with("spec.models.0.type", "Vision"), "spec.models[0].type", id="unknown-type"),
        pytest.param(_with("spec.models.0.keepAlive", "soon"), "spec.models[0].keepAlive", id="bad-duration"),
        pytest.param(
            _with("spec.models.0.keepAlive", "9999999h"),
            "longer than Ollama can count",
            id="endless-duration",
        ),
        pytest.param(
            _with("spec.models.0.name", "reg.local:5000/model"), "a host needs a namespace", id="no-namespace"
        ),
        pytest.param(_with("spec.registry", {"insecure": True}), "host must be set", id="insecure-nowhere"),
        pytest.param(
            _with("spec.registry", {"credentialsSecret": {"name": "login"}}),
            "registry.cache must be set with it",
            id="credentials-without-a-cache",
        ),
        pytest.param(
            _with("spec.registry", {"cache": {"size": 0}}), "cache.size must be more than 0", id="no-cache"
        ),
        pytest.param(
            _with(
                "spec",
                {"models": [ms.CHAT], "registry": {"cache": {}}, "ollama": {"env": [{"name": "NO_PROXY"}]}},
            ),
            "NO_PROXY with registry.cache",
            id="past-the-cache",
        ),
        pytest.param(_with("spec.ollama.storage.size", 0), "must be more than 0", id="no-storage"),
        pytest.param(_with("spec.ollama.storage.size", "0.0Gi"), "must be more than 0", id="nor-so-much"),
        pytest.param(_with("spec.models.0.replicas", 0), "spec.models[0].replicas", id="on-no-pod"),
        pytest.param(_with("spec.models.0.refresh", "often"), "refresh must be Never", id="no-such-refresh"),
        pytest.param(_with("spec.models.0.refresh", "59s"), "at least 1m", id="refresh-all-the-time"),
        pytest.param(
            _with("spec.models", [{"name": "a", "from": "b", "refresh": "1h"}]),
            "make the base an entry too",
            id="refresh-of-a-variant",
        ),
        pytest.param(
            _with("metadata.annotations", {"modelset.dev/refresh": "now"}),
            "modelset.dev/refresh must be a time",
            id="refresh-at-no-time",
        ),
        pytest.param(
            _with("spec.models.0.system", "Be polite."), "so from must be set with them", id="words-alone"
        ),
        pytest.param(
            _with("spec.models.0.parameters", {"temperature": 0}),
            "so from must be set with them",
            id="parameters-alone",
        ),
        pytest.param(
            _with("spec.models.0.adapter", "smollm2:135m-lora"),
            "so from must be set with them",
            id="an-adapter-alone",
        ),
        pytest.param(
            _with("spec.models", [{"name": "a", "from": "b", "adapter": "b"}]),
            "adapter must name another model than from",
            id="the-base-as-an-adapter",
        ),
        pytest.param(
            _with("spec.models", [{"name": "a", "from": "b", "adapter": "c"}, {"name": "c", "from": "b"}]),
            "another entry that has from",
            id="a-variant-as-an-adapter",
        ),
        pytest.param(
            _with("spec.models", [{"name": "a", "from": "b", "adapter": "reg.local:5000/model"}]),
            "adapter must be an Ollama",
            id="no-adapter",
        ),
        pytest.param(
            _with("spec.models.0.from", "smollm2:135m"), "neither the variant itself", id="variant-of-itself"
        ),
        pytest.param(
            _with(
                "spec.models",
                [{"name": "support", "from": "polite"}, {"name": "polite", "from": "smollm2:135m"}],
            ),
            "another entry that has from",
            id="variant-of-a-variant",
        ),
        pytest.param(
            _with("spec.models.0.from", "reg.local:5000/model"), "from must be an Ollama", id="no-base"
        ),
        pytest.param(
            _with("spec.models", [{"name": "a", "from": "b", "parameters": {"temprature": 0}}]),
            "spec.models[0].parameters.temprature",
            id="no-such-parameter",
        ),
        pytest.param(
            _with("spec.models", [{"name": "a", "from": "b", "parameters": {"temperature": "0.2"}}]),
            "spec.models[0].parameters.temperature",
            id="a-parameter-as-a-text",
        ),
        pytest.param(_with("spec.models.0.contextLength", 0), "contextLength", id="no-context"),
        pytest.param(_with("spec.ollama.kvCacheType", "q8_0"), "flashAttention", id="no-flash-attention"),
        pytest.param(_with("spec.ollama.kvCacheType", "q2"), "spec.ollama.kvCacheType", id="no-such-cache"),
        pytest.param(
            _with("spec.ollama.env", [{"name": "OLLAMA_NUM_PARALLEL", "value": "8"}]),
            "spec.ollama.parallel instead",
            id="a-variable-that-is-a-field",
        ),
        pytest.param(
            _with(
                "spec.ollama.env", [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]
            ),
            "valueFrom.secretKeyRef",
            id="environment-out-of-a-secret",
        ),
        pytest.param(
            _with(
                "spec.ollama.env",
                [{"name": "A", "value": "1", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
            ),
            "value or valueFrom",
            id="a-variable-from-two-places",
        ),
        pytest.param(
            _with("spec.ollama.storage.size", "much"), "spec.ollama.storage.size", id="bad-quantity"
        ),
        pytest.param(
            _with("spec.ollama.storage", {"ephemeral": True, "storageClassName": "fast"}),
            "storage.storageClassName is of claims",
            id="a-class-without-claims",
        ),
        pytest.param(
            _with("spec.ollama.storage", {"ephemeral": True, "retain": True}),
            "nothing for storage.retain to keep",
            id="to-be-kept-and-thrown-away",
        ),
        pytest.param(
            _with("spec.ollama.podLabels", {"team": "a", "modelset.dev/set": "another"}),
            "podLabels may not have modelset.dev/set",
            id="a-label-of-the-sets-own",
        ),
        pytest.param(
            _with("spec.proxy.podLabels", {"app.kubernetes.io/component": "ollama"}),
            "podLabels may not have app.kubernetes.io/component",
            id="a-label-that-policies-select",
        ),
        pytest.param(
            _with("spec.proxy.podAnnotations", {"ray.io/ft-enabled": "true"}),
            "podAnnotations may not have ray.io/ft-enabled",
            id="an-annotation-of-kuberays",
        ),
        pytest.param(_with("spec.ollama.podLabels", {"a b": "c"}), "[domain/]name", id="no-label"),
        pytest.param(_with("spec.ollama.podLabels", {"a": "b c"}), "values of podLabels", id="no-value"),
        pytest.param(
            _with("spec.proxy.imagePullPolicy", "Sometimes"), "spec.proxy.imagePullPolicy", id="no-policy"
        ),
        pytest.param(_volumes("/var/lib/ollama/models"), "where the models are kept", id="on-the-models"),
        pytest.param(_volumes("/var"), "inside it or above it", id="above-the-models"),
        pytest.param(_volumes("/tmp"), "a volume of the pod's own", id="on-what-is-temporary"),  # noqa: S108
        pytest.param(_volumes("adapters"), "a whole path", id="half-a-path"),
        pytest.param(_volumes("/adapters/../tmp"), "a whole path", id="a-winding-path"),
        pytest.param(_volumes("/a", "/a"), "the same mountPath", id="two-volumes-at-one-path"),
        pytest.param(_volumes("/a", name="tmp"), "volumes of the set's own", id="a-volume-of-the-sets-own"),
        pytest.param(
            _with("spec.ollama.volumes", [{"name": "a", "mountPath": "/a", "hostPath": {"path": "/"}}]),
            "hostPath",
            id="a-volume-of-the-node",
        ),
    ],
)
def test_is_refused(shared_kube: Kube, manifest: Manifest, named: str) -> None:
    with pytest.raises(Refused) as refused:
        shared_kube.apply(manifest)
    assert named in str(refused.value)


EIGHT = range(8)
HUNDRED = range(100)


@pytest.mark.parametrize(
    "models",
    [
        pytest.param(
            [
                {"name": f"m{number}", "servedNames": [f"{number}-{one}".ljust(128, "a") for one in EIGHT]}
                for number in HUNDRED
            ],
            id="names-that-clients-send",
        ),
        pytest.param(
            [{"name": f"{'n' * 80}/{number}".ljust(161, "a") + ":latest"} for number in HUNDRED], id="tags"
        ),
    ],
)
def test_as_much_as_fields_allow_is_taken(shared_kube: Kube, models: list[Manifest]) -> None:
    """What the API server spends on rules is bounded when they run, too."""
    manifest = json.dumps(ms.manifest("large", models))
    shared_kube.run("apply", "--dry-run=server", "--filename", "-", stdin=manifest)


def test_what_cannot_change_is_refused(kube: Kube) -> None:
    kube.apply(making.manifest("made", ollama={"storage": {"size": "2Gi"}}))
    for after, named in (
        ({"size": "1900Mi"}, "storage.size may grow and not shrink"),
        ({"size": "2Gi", "ephemeral": True}, "storage.ephemeral cannot be changed"),
        ({"size": "2Gi", "storageClassName": "a"}, "storageClassName cannot be changed"),
    ):
        with pytest.raises(Refused) as refused:
            kube.apply(making.manifest("made", ollama={"storage": after}))
        assert named in str(refused.value)


def test_what_cannot_change_of_a_cache_is_refused(kube: Kube) -> None:
    kube.apply(making.manifest("made", registry={"cache": {"size": "2Gi"}}))
    for after, named in (
        ({"size": "1900Mi"}, "registry.cache.size may grow and not shrink"),
        ({"size": "2Gi", "storageClassName": "a"}, "registry.cache.storageClassName cannot be changed"),
    ):
        with pytest.raises(Refused) as refused:
            kube.apply(making.manifest("made", registry={"cache": after}))
        assert named in str(refused.value)
