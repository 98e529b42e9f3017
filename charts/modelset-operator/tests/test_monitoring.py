"""What Prometheus and Grafana get: monitors that find ports, alerts and dashboards of real metrics."""

import functools
import json
import re
from typing import Any

import pytest
import yaml

import metric_names
from modelset_operator.api import names
from modelset_operator.manifests import ray
from rendering import CHART, NAMESPACE, container, helm, installed, manifests, of_kind, one, render

OPERATIONS = (CHART.parents[1] / "docs/operations.md").read_text()
RULES = [
    rule
    for group in yaml.safe_load((CHART / "files/alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
]
DASHBOARDS = sorted((CHART / "dashboards").glob("*.json"))
# By which the Prometheus operator tells targets apart, and what Prometheus itself makes.
OF_TARGETS = {"namespace", "pod", "modelset_dev_set", "exported_namespace", "le"}

MONITOR = {
    "enabled": True,
    "interval": "15s",
    "scrapeTimeout": "10s",
    "labels": {"release": "prometheus"},
    "annotations": {"note": "x"},
    "relabelings": [{"targetLabel": "cluster", "replacement": "a"}],
    "metricRelabelings": [{"action": "drop", "sourceLabels": ["le"], "regex": "60.0"}],
}
MONITORING = {
    "watchNamespaces": ["team-a", "team-b"],
    "metrics": {
        "serviceMonitor": MONITOR,
        "podMonitor": MONITOR,
        "prometheusRule": {
            "enabled": True,
            "labels": {"release": "prometheus"},
            "annotations": {"note": "y"},
            "alertLabels": {"team": "models", "severity": "page"},
            "disabled": ["ModelsetFirstTokenSlow"],
            "runbookUrl": "https://runbooks.example/#",
        },
        "dashboards": {"enabled": True, "labels": {"board": "1"}, "annotations": {"folder": "models"}},
    },
}


API_VERSIONS = {
    "v1": {"ServiceAccount", "Service", "Pod", "ConfigMap"},
    "apps/v1": {"Deployment"},
    "policy/v1": {"PodDisruptionBudget"},
    "networking.k8s.io/v1": {"NetworkPolicy"},
    "rbac.authorization.k8s.io/v1": {"ClusterRole", "Role", "RoleBinding"},
    "apiextensions.k8s.io/v1": {"CustomResourceDefinition"},
    "admissionregistration.k8s.io/v1": {"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"},
    "monitoring.coreos.com/v1": {"ServiceMonitor", "PodMonitor", "PrometheusRule"},
}


@functools.cache
def everything() -> list[dict[str, Any]]:
    return manifests(helm("--set", "replicas=2", values=MONITORING))


@functools.cache
def watched() -> list[dict[str, Any]]:
    return installed(everything())


def test_each_kind_is_asked_for_by_the_api_that_has_it() -> None:
    found: dict[str, set[str]] = {}
    for manifest in everything():
        found.setdefault(manifest["apiVersion"], set()).add(manifest["kind"])
    assert found == API_VERSIONS


def test_what_has_a_namespace_is_in_that_of_the_release_or_in_one_that_is_served() -> None:
    served = {*MONITORING["watchNamespaces"], NAMESPACE}
    for manifest in everything():
        of_cluster = manifest["kind"].startswith(("Cluster", "Custom", "Validating"))
        assert of_cluster or manifest["metadata"]["namespace"] in served


def test_all_of_it_has_the_labels_of_the_release() -> None:
    for manifest in everything():
        labels = manifest["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == "modelset-operator"
        assert labels["app.kubernetes.io/managed-by"] == "Helm"


@functools.cache
def watched_everywhere() -> list[dict[str, Any]]:
    return render(
        "metrics.podMonitor.enabled=true",
        "metrics.prometheusRule.enabled=true",
        "metrics.dashboards.enabled=true",
    )


def test_nothing_of_it_is_there_unless_it_is_asked_for() -> None:
    kinds = {manifest["kind"] for manifest in render()}
    assert not kinds & {"Service", "ServiceMonitor", "PodMonitor", "PrometheusRule", "ConfigMap"}


@pytest.mark.parametrize(
    ("kind", "endpoints"), [("ServiceMonitor", "endpoints"), ("PodMonitor", "podMetricsEndpoints")]
)
def test_a_monitor_reads_as_it_is_told(kind: str, endpoints: str) -> None:
    monitor = one(watched(), kind)
    assert monitor["spec"][endpoints] == [
        {
            "port": "metrics",
            "path": "/metrics",
            **{
                name: MONITOR[name]
                for name in ("interval", "scrapeTimeout", "relabelings", "metricRelabelings")
            },
        }
    ]
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert monitor["metadata"]["annotations"] == {"note": "x"}
    assert monitor["metadata"]["namespace"] == NAMESPACE


def test_the_monitor_of_the_operator_finds_its_service_and_that_the_port() -> None:
    monitor, service = one(watched(), "ServiceMonitor"), one(watched(), "Service")
    selected = monitor["spec"]["selector"]["matchLabels"]
    assert selected.items() <= service["metadata"]["labels"].items()
    (port,) = service["spec"]["ports"]
    assert port["name"] == "metrics"
    assert port["targetPort"] in {found["name"] for found in container(watched())["ports"]}


def test_the_monitor_of_proxies_finds_the_pods_of_all_sets_that_are_served() -> None:
    spec = one(watched(), "PodMonitor")["spec"]
    assert spec["namespaceSelector"] == {"matchNames": ["team-a", "team-b"]}
    assert one(watched_everywhere(), "PodMonitor")["spec"]["namespaceSelector"] == {"any": True}
    labels = names.selector("assistants", "proxy")
    assert spec["selector"]["matchLabels"].items() <= labels.items()
    assert [expression["key"] for expression in spec["selector"]["matchExpressions"]] == [names.SET_LABEL]
    assert spec["podTargetLabels"] == [names.SET_LABEL]
    assert "metrics" in ray._HEAD_PORTS.keys() & ray._WORKER_PORTS.keys()


def test_alerts_are_about_the_pods_of_this_release_and_its_sets() -> None:
    def expression(found: list[dict[str, Any]], alert: str) -> str:
        rules = [rule for group in one(found, "PrometheusRule")["spec"]["groups"] for rule in group["rules"]]
        (only,) = [rule["expr"] for rule in rules if rule["alert"] == alert]
        return str(only)

    operators = f'namespace="{NAMESPACE}",pod=~"modelset-operator-[a-z0-9]+-[a-z0-9]+"'
    assert (
        expression(watched(), "ModelsetOperatorSeveralAct")
        == f"sum(modelset_operator_leading{{{operators}}}) > 1"
    )
    assert '{namespace=~"team-a|team-b",modelset_dev_set!=""}' in expression(
        watched(), "ModelsetRequestsWait"
    )
    assert '{modelset_dev_set!=""}' in expression(watched_everywhere(), "ModelsetRequestsWait")
    text = json.dumps([one(found, "PrometheusRule") for found in (watched(), watched_everywhere())])
    assert "$operator" not in text
    assert "$proxies" not in text


def test_alerts_can_be_labelled_pointed_to_a_runbook_and_left_out() -> None:
    rule = one(watched(), "PrometheusRule")
    assert rule["metadata"]["labels"]["release"] == "prometheus"
    assert rule["metadata"]["annotations"] == {"note": "y"}
    rules = {found["alert"]: found for group in rule["spec"]["groups"] for found in group["rules"]}
    assert [found["alert"] for found in RULES if found["alert"] not in rules] == ["ModelsetFirstTokenSlow"]
    assert {str(found["labels"]) for found in rules.values()} == {"{'severity': 'page', 'team': 'models'}"}
    assert (
        rules["ModelsetOperatorDown"]["annotations"]["runbook_url"]
        == "https://runbooks.example/#modelsetoperatordown"
    )
    assert rules["ModelsetOperatorDown"]["for"] == "2m"
    bare = [
        found
        for group in one(watched_everywhere(), "PrometheusRule")["spec"]["groups"]
        for found in group["rules"]
    ]
    assert {found["labels"]["severity"] for found in bare} == {"critical", "warning"}
    assert not any("runbook_url" in found["annotations"] for found in bare)
    # Prometheus' own templates reach it as they are.
    assert bare[2]["annotations"]["summary"].count("{{ $") == 2


def test_the_schema_knows_each_alert_by_its_name() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    rule = schema["properties"]["metrics"]["properties"]["prometheusRule"]["properties"]
    assert rule["disabled"]["items"]["enum"] == [rule["alert"] for rule in RULES]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_each_alert_has_a_sentence_on_what_to_do(rule: dict[str, Any]) -> None:
    (line,) = [line for line in OPERATIONS.splitlines() if f"`{rule['alert']}`" in line]
    assert f'<a id="{rule["alert"].lower()}"></a>' in line
    assert len(line.split("|")[2].split()) >= 5


# ---- metrics that there are ----

METRICS = metric_names.operators() | metric_names.proxies()
NAME = re.compile(r"\b(?:modelset_operator|ray)_\w+")


def expressions() -> list[tuple[str, str]]:
    """Return where an expression stands, and the expression."""
    found = [(rule["alert"], rule["expr"].replace("$operator", "").replace("$proxies", "")) for rule in RULES]
    for path in DASHBOARDS:
        board = json.loads(path.read_text())
        found += [
            (f"{path.stem}: {panel['title']}", target["expr"])
            for panel in board["panels"]
            for target in panel["targets"]
        ]
        found += [
            (f"{path.stem}: ${variable['name']}", variable["query"]["query"])
            for variable in board["templating"]["list"]
            if variable["type"] == "query"
        ]
    return found


def test_the_names_come_from_the_code() -> None:
    assert METRICS["modelset_operator_sets"] == {"ready", "reason"}
    assert METRICS["modelset_operator_api_requests_total"] == {"verb", "resource", "code"}
    assert METRICS["modelset_operator_reconcile_seconds_bucket"] == set()
    assert METRICS["ray_modelset_requests_total"] == {"route", "gen_ai_request_model", "client", "status"}
    assert METRICS["ray_modelset_requests_queued"] == {"gen_ai_request_model"}
    assert METRICS["ray_modelset_model_load_seconds_bucket"] == {"gen_ai_request_model"}


@pytest.mark.parametrize(("where", "expression"), expressions())
def test_alerts_and_dashboards_name_metrics_and_labels_that_there_are(where: str, expression: str) -> None:
    named = NAME.findall(expression)
    assert named, where
    assert set(named) <= METRICS.keys(), where
    labels = OF_TARGETS.union(*(METRICS[name] for name in named))
    by = [
        label.strip() for group in re.findall(r"\bby \(([^)]*)\)", expression) for label in group.split(",")
    ]
    matched = re.findall(r"(\w+)(?:=~|!~|!=|=)\"", expression)
    asked = re.findall(r"label_values\(.*, (\w+)\)", expression)
    assert set(by + matched + asked) <= labels, where


def test_all_that_is_told_is_on_a_dashboard() -> None:
    told = {re.sub(r"_(bucket|sum|count)$", "", name) for name in METRICS}
    shown = {
        re.sub(r"_(bucket|sum|count)$", "", name)
        for _, expression in expressions()
        for name in NAME.findall(expression)
    }
    assert told == shown


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_reaches_grafana_as_it_is(path: Any) -> None:
    config_maps = {found["metadata"]["name"]: found for found in of_kind(watched(), "ConfigMap")}
    found = config_maps[f"modelset-operator-dashboard-{path.stem}"]
    assert found["metadata"]["labels"]["board"] == "1"
    assert found["metadata"]["annotations"] == {"folder": "models"}
    ((name, text),) = found["data"].items()
    board = json.loads(path.read_text())
    assert name == f"modelset-{path.name}"
    assert json.loads(text) == board
    plain = {found["metadata"]["name"]: found for found in of_kind(watched_everywhere(), "ConfigMap")}
    assert plain[found["metadata"]["name"]]["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    taken = [
        (x, y)
        for panel in board["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) < 24
