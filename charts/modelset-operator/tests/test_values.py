"""What each value does, and that nothing else is taken; helm is slow, so each render shows many values."""

import copy
import functools
import json
from typing import Any

import jsonschema
import pytest
import yaml

from rendering import CHART, NAMESPACE, container, helm, installed, manifests, of_kind, one, render
from test_monitoring import MONITORING

VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
DIGEST = f"sha256:{'0123456789abcdef' * 4}"

AFFINITY = {
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}]
        }
    },
    "podAntiAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": [
            {
                "weight": 1,
                "podAffinityTerm": {"topologyKey": "zone", "labelSelector": {"matchLabels": {"a": "b"}}},
            }
        ]
    },
}
SPREAD = {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "ScheduleAnyway"}
ENV = [
    {"name": "HTTPS_PROXY", "value": "http://proxy.example:3128"},
    {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
]
# A value of each kind that says something of the operator's pods, all in one render.
PODS = {
    "image": {
        "registry": "mirror.example/ours",
        "repository": "operator",
        "digest": DIGEST,
        "pullPolicy": "Always",
    },
    "imagePullSecrets": [{"name": "mirror"}],
    "defaults": {
        "ollamaImage": {"registry": "mirror.example", "repository": "ollama", "tag": "1"},
        "proxyImage": {"repository": "mirror.example/proxy", "digest": DIGEST},
    },
    "replicas": 3,
    "podDisruptionBudget": {"maxUnavailable": "50%"},
    "instance": "second",
    "adopt": ["old/modelset-operator"],
    "watchNamespaces": ["team-a"],
    "logLevel": "DEBUG",
    "extraEnv": ENV,
    "resources": {"requests": {"cpu": 1}, "limits": {"memory": "1Gi", "cpu": "2"}},
    "commonLabels": {"team": "a"},
    "podAnnotations": {"note": "x"},
    "podLabels": {"cost": "b"},
    "podSecurityContext": {"runAsUser": 1234, "fsGroup": 5},
    "securityContext": {"seLinuxOptions": {"level": "s0"}},
    "nodeSelector": {"disk": "fast"},
    "tolerations": [{"key": "a", "operator": "Exists", "effect": "NoSchedule"}],
    "affinity": AFFINITY,
    "topologySpreadConstraints": [SPREAD, SPREAD | {"labelSelector": {"matchLabels": {"a": "b"}}}],
    "priorityClassName": "system-cluster-critical",
    "networkPolicy": {"enabled": False},
    "serviceAccount": {"name": "account", "annotations": {"role": "r"}},
    "fullnameOverride": "full",
    "nameOverride": "short",
}


@functools.cache
def with_pods_set() -> list[dict[str, Any]]:
    return installed(manifests(helm(values=PODS)))


SELECTOR = {"app.kubernetes.io/name": "short", "app.kubernetes.io/instance": "modelset-operator"}
POD = "spec.template.spec"
REQUESTED = {"memory": "128Mi", "ephemeral-storage": "64Mi"}
LIMITED = {"ephemeral-storage": "1Gi"}


@pytest.mark.parametrize(
    ("kind", "path", "expected"),
    [
        ("Deployment", "metadata.name", "full"),
        ("Deployment", "metadata.namespace", NAMESPACE),
        ("Deployment", "spec.replicas", 3),
        ("Deployment", "spec.selector.matchLabels", SELECTOR),
        ("Deployment", "spec.template.metadata.annotations", {"note": "x"}),
        ("Deployment", "spec.template.metadata.labels.cost", "b"),
        ("Deployment", f"{POD}.imagePullSecrets", [{"name": "mirror"}]),
        ("Deployment", f"{POD}.containers.0.image", f"mirror.example/ours/operator@{DIGEST}"),
        ("Deployment", f"{POD}.containers.0.imagePullPolicy", "Always"),
        ("Deployment", f"{POD}.containers.0.args.0", "--ollama-image=mirror.example/ollama:1"),
        ("Deployment", f"{POD}.containers.0.args.1", f"--proxy-image=mirror.example/proxy@{DIGEST}"),
        ("Deployment", f"{POD}.containers.0.env.2", ENV[0]),
        ("Deployment", f"{POD}.containers.0.env.3", ENV[1]),
        ("Deployment", f"{POD}.containers.0.resources.requests", {"cpu": 1} | REQUESTED),
        ("Deployment", f"{POD}.containers.0.resources.limits", {"cpu": "2", "memory": "1Gi"} | LIMITED),
        ("Deployment", f"{POD}.containers.0.securityContext.seLinuxOptions", {"level": "s0"}),
        ("Deployment", f"{POD}.containers.0.securityContext.readOnlyRootFilesystem", True),
        ("Deployment", f"{POD}.securityContext.runAsUser", 1234),
        ("Deployment", f"{POD}.securityContext.fsGroup", 5),
        ("Deployment", f"{POD}.securityContext.runAsNonRoot", True),
        ("Deployment", f"{POD}.nodeSelector", {"disk": "fast"}),
        ("Deployment", f"{POD}.tolerations", PODS["tolerations"]),
        ("Deployment", f"{POD}.affinity", AFFINITY),
        (
            "Deployment",
            f"{POD}.topologySpreadConstraints.0",
            SPREAD | {"labelSelector": {"matchLabels": SELECTOR}},
        ),
        ("Deployment", f"{POD}.topologySpreadConstraints.1.labelSelector", {"matchLabels": {"a": "b"}}),
        ("Deployment", f"{POD}.priorityClassName", "system-cluster-critical"),
        ("Deployment", f"{POD}.serviceAccountName", "account"),
        ("PodDisruptionBudget", "spec.maxUnavailable", "50%"),
        ("ServiceAccount", "metadata.name", "account"),
        ("ServiceAccount", "metadata.annotations", {"role": "r"}),
    ],
)
def test_a_value_says_what_pods_are(kind: str, path: str, expected: Any) -> None:
    found: Any = one(with_pods_set(), kind)
    for step in path.split("."):
        found = found[int(step)] if isinstance(found, list) else found[step]
    assert found == expected


def test_arguments_follow_the_values() -> None:
    arguments = container(with_pods_set())["args"]
    for expected in (
        "--watch-namespaces=team-a",
        "--instance=second",
        "--adopt=old/modelset-operator",
        "--log-level=DEBUG",
    ):
        assert expected in arguments


def test_every_object_has_the_common_labels_and_no_selector_does() -> None:
    assert all(manifest["metadata"]["labels"]["team"] == "a" for manifest in with_pods_set())
    assert one(with_pods_set(), "PodDisruptionBudget")["spec"]["selector"] == {"matchLabels": SELECTOR}


def test_a_policy_of_the_operator_can_be_left_out() -> None:
    assert not of_kind(with_pods_set(), "NetworkPolicy")


def test_one_registry_stands_in_front_of_all_images() -> None:
    found = container(
        render(
            "global.imageRegistry=mirror.example/all",
            "image.registry=other.example",
            "replicas=2",
            "podDisruptionBudget.enabled=false",
        )
    )
    images = [found["image"], *(argument.partition("=")[2] for argument in found["args"][:2])]
    names = ("modelset-operator", "ollama/ollama", "modelset-proxy")
    assert [image.rpartition(":")[0] for image in images] == [f"mirror.example/all/{name}" for name in names]


def test_a_budget_can_be_left_out_or_bounded_from_below() -> None:
    unbounded = (
        "global.imageRegistry=mirror.example/all",
        "image.registry=other.example",
        "replicas=2",
        "podDisruptionBudget.enabled=false",
    )
    assert not of_kind(render(*unbounded), "PodDisruptionBudget")
    bounded = one(render("replicas=2", "podDisruptionBudget.minAvailable=1"), "PodDisruptionBudget")["spec"]
    assert bounded["minAvailable"] == 1
    assert "maxUnavailable" not in bounded


def test_a_field_of_a_security_context_can_be_taken_out() -> None:
    pod = one(render("podSecurityContext.runAsUser=null", "fullnameOverride=" + "n" * 63), "Deployment")[
        "spec"
    ]["template"]["spec"]
    assert pod["securityContext"].keys() == {"runAsNonRoot", "runAsGroup", "seccompProfile"}


def test_names_of_what_goes_with_the_operator_are_no_longer_than_kubernetes_allows() -> None:
    found = manifests(
        helm(
            "--set",
            "fullnameOverride=" + "n" * 63,
            "--set",
            "metrics.dashboards.enabled=true,metrics.podMonitor.enabled=true,metrics.service=true",
        )
    )
    names = [manifest["metadata"]["name"] for manifest in found]
    # What is named after the release alone has the length that the release gives it.
    assert max(len(name) for name in names if not name.endswith(("-view", "-edit"))) == 63
    assert {name.rpartition("-")[2] for name in names} >= {"leadership", "metrics", "proxies", "sets", "test"}


# ---- what is taken at all ----

# What Kubernetes has more fields of than the chart has defaults for.
OF_KUBERNETES = ("resources", "podSecurityContext", "securityContext", "metrics.dashboards.labels")


def test_every_value_is_in_the_schema_and_the_other_way_round() -> None:
    def compare(values: dict[str, Any], schema: dict[str, Any], path: str) -> None:
        known = set(resolved(schema).get("properties", values))
        assert set(values) <= known, path
        assert set(values) == known or path.startswith(OF_KUBERNETES), path
        for name, value in values.items():
            if isinstance(value, dict) and value:
                compare(value, resolved(schema)["properties"][name], f"{path}{name}.")

    compare(VALUES, SCHEMA, "")


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        schema = SCHEMA["definitions"][schema["$ref"].rpartition("/")[2]]
    return schema


def test_each_value_is_shown_by_a_test() -> None:
    shown = {
        *leaves(PODS),
        *leaves(MONITORING),
        *("podDisruptionBudget.enabled", "podDisruptionBudget.minAvailable", "global.imageRegistry"),
        # By test_chart.py, and by the suites of helm-unittest.
        *("image.tag", "defaults.proxyImage.tag", "kuberay.namespaces", "networkPolicy.metricsFrom"),
        *("crds.install", "crds.keep", "crds.drop", "metrics.service"),
        *("rbac.create", "rbac.aggregate", "serviceAccount.create"),
        # As with the other images.
        *("defaults.ollamaImage.digest", "defaults.proxyImage.registry"),
    }
    for path in leaves(VALUES):
        whole = next((field for field in OF_KUBERNETES if path.startswith(f"{field}.")), path)
        assert any(f"{other}.".startswith(f"{whole}.") for other in shown), path


def leaves(values: dict[str, Any], prefix: str = "") -> list[str]:
    found = []
    for name, value in values.items():
        found += (
            leaves(value, f"{prefix}{name}.") if isinstance(value, dict) and value else [f"{prefix}{name}"]
        )
    return found


def test_no_object_of_the_schema_takes_names_that_it_does_not_know() -> None:
    open_to_all = []

    def look(node: Any, path: str) -> None:
        if isinstance(node, dict):
            if node.get("type") == "object" and "additionalProperties" not in node:
                open_to_all.append(path)
            for name, inner in node.items():
                look(inner, f"{path}.{name}")

    look(SCHEMA, "")
    # Values for all charts of one that this is a part of: what the others are called nobody knows here.
    assert open_to_all == [".properties.global"]


def test_the_schema_takes_the_defaults_and_what_these_tests_set() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    jsonschema.validate(VALUES, SCHEMA)
    jsonschema.validate(VALUES | PODS, SCHEMA)


@pytest.mark.parametrize(
    "path",
    [
        "replica",
        "image.tagg",
        "defaults.ollama",
        "defaults.proxyImage.pullPolicy",
        "kuberay.namespace",
        "networkPolicy.metricFrom",
        "podDisruptionBudget.minavailable",
        "crds.keeep",
        "rbac.aggregated",
        "serviceAccount.annotation",
        "metrics.services",
        "metrics.serviceMonitor.enable",
        "metrics.podMonitor.scrapeInterval",
        "metrics.prometheusRule.label",
        "metrics.dashboards.label",
        "resources.request",
        "podSecurityContext.runAsRoot",
        "securityContext.capability",
        "affinity.nodeAffinity.required",
    ],
)
def test_a_typo_is_refused_wherever_it_is(path: str) -> None:
    values = copy.deepcopy(VALUES)
    *parents, name = path.split(".")
    inner = values
    for parent in parents:
        inner = inner.setdefault(parent, {})
    inner[name] = {}
    with pytest.raises(jsonschema.ValidationError, match=f"'{name}' was unexpected"):
        jsonschema.validate(values, SCHEMA)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("image.digest", "sha256:1"),
        ("image.registry", "https://mirror.example/"),
        ("podDisruptionBudget.maxUnavailable", "half"),
        ("podLabels", {"app.kubernetes.io/name": "x"}),
        ("commonLabels", {"app.kubernetes.io/instance": "x"}),
        ("metrics.serviceMonitor.interval", "30"),
        ("metrics.prometheusRule.disabled", ["ModelsetOperatorUp"]),
        ("extraEnv", [{"value": "x"}]),
        ("extraEnv", [{"name": "x", "valueFrom": {}}]),
        ("extraEnv", [{"name": "x", "valueFrom": {"secretKeyRef": {"name": "a", "kee": "b"}}}]),
        ("tolerations", [{"efect": "NoSchedule"}]),
        ("tolerations", [{"effect": "NoScheduling"}]),
        ("topologySpreadConstraints", [{"maxSkew": 1, "topologyKey": "zone"}]),
        ("affinity", {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 0}]}}),
        (
            "affinity",
            {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"labelSelector": {}}]}},
        ),
        ("networkPolicy.metricsFrom", [{"podSelector": {"matchLabel": {"a": "b"}}}]),
        ("networkPolicy.metricsFrom", [{}]),
        ("securityContext.capabilities", {"drops": ["ALL"]}),
        ("podSecurityContext.seccompProfile", {"type": "Default"}),
        ("resources.limits.memory", {"size": "1Gi"}),
    ],
)
def test_what_is_wrong_in_a_value_is_refused(path: str, value: Any) -> None:
    values = copy.deepcopy(VALUES)
    *parents, name = path.split(".")
    inner = values
    for parent in parents:
        inner = inner[parent]
    inner[name] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(values, SCHEMA)
