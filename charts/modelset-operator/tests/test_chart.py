"""The chart as helm renders it: rights, pod security, and the CRD against the operator's defaults."""

import json
import pathlib
import re
import subprocess
from typing import Any

import pytest
import yaml

from modelset_operator import __main__ as entry
from modelset_operator import __version__
from modelset_operator.api import names, neighbours, spec
from modelset_operator.cluster import caches, http, keys
from modelset_operator.manifests import ollama as manifests
from rendering import CHART, NAMESPACE, container, helm, one, render, tool


def schema() -> dict[str, Any]:
    (version,) = one(render(), "CustomResourceDefinition")["spec"]["versions"]
    found: dict[str, Any] = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    return found


def test_one_version_for_package_chart_and_images() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == __version__
    assert container(render())["image"] == f"modelset-operator:{__version__}"
    assert f"--proxy-image={entry.DEFAULT_PROXY_IMAGE}" in container(render())["args"]
    assert f"--ollama-image={entry.DEFAULT_OLLAMA_IMAGE}" in container(render())["args"]
    assert f"--cache-image={entry.DEFAULT_CACHE_IMAGE}" in container(render())["args"]


def test_the_operator_understands_its_arguments() -> None:
    arguments = container(render("watchNamespaces={a,b}", "logLevel=DEBUG"))["args"]
    parsed = entry.parse(arguments)
    assert (parsed.watch_namespaces, parsed.log_level) == ("a,b", "DEBUG")


def test_the_operator_knows_its_own_pods_and_those_that_sets_let_in() -> None:
    manifests = render(
        "kuberay.namespaces={ray,kuberay}", "networkPolicy.metricsFrom[0].podSelector.matchLabels.a=b"
    )
    around = entry.around(entry.parse(container(manifests)["args"]))
    assert around.operator is not None
    assert around.operator.namespaces == (NAMESPACE,)
    own = one(manifests, "Deployment")["spec"]
    assert around.operator.labels == own["selector"]["matchLabels"]
    assert around.kuberay == neighbours.Pods(neighbours.KUBERAY.labels, ("ray", "kuberay"))
    assert around.metrics == [{"podSelector": {"matchLabels": {"a": "b"}}}]


def test_kuberay_is_let_in_from_where_its_own_manifests_put_it_or_from_anywhere() -> None:
    def namespaces(*settings: str) -> tuple[str, ...]:
        return entry.around(entry.parse(container(render(*settings))["args"])).kuberay.namespaces

    assert namespaces() == ("default",)
    assert namespaces("kuberay.namespaces=null") == ()


def test_nobody_reaches_the_operator_but_who_reads_metrics() -> None:
    closed = one(render(), "NetworkPolicy")["spec"]
    own = one(render(), "Deployment")["spec"]["selector"]
    assert closed == {"podSelector": own, "policyTypes": ["Ingress"], "ingress": []}
    readable = one(render("networkPolicy.metricsFrom[0].podSelector.matchLabels.a=b"), "NetworkPolicy")[
        "spec"
    ]
    assert readable["ingress"] == [
        {
            "from": [{"podSelector": {"matchLabels": {"a": "b"}}}],
            "ports": [{"protocol": "TCP", "port": "metrics"}],
        }
    ]


def test_what_is_checked_of_sets_comes_and_goes_with_their_definition() -> None:
    kinds = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
    policy, binding = (one(render(), kind, "ollamamodelsets.modelset.dev") for kind in kinds)
    assert binding["spec"] == {"policyName": policy["metadata"]["name"], "validationActions": ["Deny"]}
    (rule,) = policy["spec"]["matchConstraints"]["resourceRules"]
    # The scale subresource names no Secret, and whoever scales need not read one.
    assert (rule["resources"], rule["operations"]) == ([names.PLURAL], ["CREATE", "UPDATE"])
    assert not {one["kind"] for one in render("crds.install=false")} & set(kinds)


def test_the_operator_fits_pod_security_restricted_and_needs_no_writable_root() -> None:
    pod = one(render(), "Deployment")["spec"]["template"]["spec"]
    context = container(render())["securityContext"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert context == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_a_new_replica_is_ready_before_the_old_one_goes() -> None:
    deployment = one(render(), "Deployment")["spec"]
    assert deployment["replicas"] == 1
    assert deployment["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_several_replicas_are_not_evicted_together() -> None:
    assert "PodDisruptionBudget" not in [manifest["kind"] for manifest in render()]
    manifests = render("replicas=2")
    budget, deployment = one(manifests, "PodDisruptionBudget"), one(manifests, "Deployment")
    assert budget["spec"]["maxUnavailable"] == 1
    assert budget["spec"]["selector"] == deployment["spec"]["selector"]


def test_it_may_touch_its_own_lease_in_its_own_namespace_alone() -> None:
    manifests = render("instance=second")
    parsed = entry.parse(container(manifests)["args"])
    leases = [
        (manifest["kind"], manifest["metadata"]["namespace"], rule)
        for manifest in manifests
        for rule in manifest.get("rules", ())
        if "leases" in rule["resources"]
    ]
    assert [(kind, namespace, rule["verbs"]) for kind, namespace, rule in leases] == [
        ("Role", NAMESPACE, ["get", "update"]),
        ("Role", NAMESPACE, ["create"]),
    ]
    assert leases[0][2]["resourceNames"] == [parsed.instance]


def test_metrics_get_a_service_when_asked_for() -> None:
    assert "Service" not in [manifest["kind"] for manifest in render()]
    manifests = render("metrics.service=true")
    (port,) = one(manifests, "Service")["spec"]["ports"]
    ports = {found["name"]: found["containerPort"] for found in container(manifests)["ports"]}
    assert ports[port["targetPort"]] == port["port"] == entry.parse([]).metrics_port


def test_of_secrets_it_may_read_its_own_key_alone_and_make_it_in_its_own_namespace() -> None:
    manifests = render("instance=second")
    secrets = [
        (manifest["kind"], manifest["metadata"]["namespace"], rule.get("resourceNames"), rule["verbs"])
        for manifest in manifests
        for rule in manifest.get("rules", ())
        if "secrets" in rule["resources"]
    ]
    key = keys.Keys(http.Http(None), NAMESPACE, entry.parse(container(manifests)["args"]).instance)
    assert secrets == [("Role", NAMESPACE, [key.secret], ["get"]), ("Role", NAMESPACE, None, ["create"])]


def test_its_rights_name_every_verb_and_cover_no_secret_of_a_set() -> None:
    rules = [rule for manifest in render() if "rules" in manifest for rule in manifest["rules"]]
    assert rules
    for rule in rules:
        assert "*" not in [*rule["verbs"], *rule["resources"], *rule["apiGroups"]]
        assert not {"pods/exec", "pods/log"} & set(rule["resources"])
    everywhere = [rule for one in render() if one["kind"] == "ClusterRole" for rule in one["rules"]]
    assert not any("secrets" in rule["resources"] for rule in everywhere)
    operator = [
        rule
        for manifest in render()
        if manifest["kind"] == "ClusterRole" and manifest["metadata"]["name"] == "modelset-operator"
        for rule in manifest["rules"]
    ]
    assert [rule["resources"] for rule in operator if "delete" in rule["verbs"]] == [["statefulsets"]]


def test_all_that_it_watches_it_may_list_and_watch() -> None:
    watched = caches.Caches(http.Http(None), (), lambda _: None).selections()
    allowed = {
        resource
        for manifest in render()
        if manifest["kind"] == "ClusterRole" and manifest["metadata"]["name"] == "modelset-operator"
        for rule in manifest["rules"]
        if {"list", "watch"} <= set(rule["verbs"])
        for resource in rule["resources"]
    }
    assert {selection.kind.plural for selection, _ in watched} <= allowed


def test_with_namespaces_it_has_rights_in_these_alone() -> None:
    manifests = render("watchNamespaces={team-a,team-b}")
    bindings = [manifest for manifest in manifests if manifest["kind"].endswith("RoleBinding")]
    assert [(binding["kind"], binding["metadata"]["namespace"]) for binding in bindings] == [
        ("RoleBinding", NAMESPACE),
        ("RoleBinding", "team-a"),
        ("RoleBinding", "team-b"),
    ]
    assert {binding["subjects"][0]["namespace"] for binding in bindings} == {NAMESPACE}
    assert "--watch-namespaces=team-a,team-b" in container(manifests)["args"]


@pytest.mark.parametrize(
    ("settings", "kept"),
    [((), "keep"), (("crds.keep=false",), None)],
)
def test_the_crd_is_kept_unless_told_otherwise(settings: tuple[str, ...], kept: str | None) -> None:
    metadata = one(render(*settings), "CustomResourceDefinition")["metadata"]
    assert metadata.get("annotations", {}).get("helm.sh/resource-policy") == kept


def fields_of(schema: dict[str, Any], path: str) -> set[str]:
    """Return what the API server keeps of a value by a schema: the paths of all fields that it names."""
    found = {f"{path}.{name}" for name in schema.get("properties", {})}
    below = [(f"{path}.{name}", inner) for name, inner in schema.get("properties", {}).items()]
    below += [(path, schema["items"])] if "items" in schema else []
    return found.union(*(fields_of(inner, at) for at, inner in below))


def test_the_crd_says_which_fields_it_has() -> None:
    crd = one(render(), "CustomResourceDefinition")
    (version,) = crd["spec"]["versions"]
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    assert {"spec.models.name", "spec.ollama.env.valueFrom.resourceFieldRef.divisor"} <= fields_of(
        spec, "spec"
    )
    said = crd["metadata"]["annotations"]["modelset.dev/fields"].split(",")
    assert said == sorted(fields_of(spec, "spec"))


def test_what_keeps_fields_comes_and_goes_with_the_crd() -> None:
    kinds = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
    policy, binding = (one(render(), kind, "fields.ollamamodelsets.modelset.dev") for kind in kinds)
    assert binding["spec"] == {"policyName": policy["metadata"]["name"], "validationActions": ["Deny"]}
    (rule,) = policy["spec"]["matchConstraints"]["resourceRules"]
    crd = one(render(), "CustomResourceDefinition")
    assert rule["resourceNames"] == [crd["metadata"]["name"]]
    assert not {one["kind"] for one in render("crds.install=false")} & set(kinds)


def test_the_crd_can_be_left_to_somebody_else() -> None:
    assert "CustomResourceDefinition" not in [manifest["kind"] for manifest in render("crds.install=false")]


def test_the_crd_is_the_resource_that_the_operator_serves() -> None:
    crd = one(render(), "CustomResourceDefinition")["spec"]
    (version,) = crd["versions"]
    assert (crd["group"], version["name"], crd["names"]["plural"]) == (
        names.GROUP,
        names.VERSION,
        names.PLURAL,
    )
    assert (crd["names"]["shortNames"], crd["names"]["categories"]) == (["oms"], ["modelsets"])
    columns = [column["name"] for column in version["additionalPrinterColumns"] if not column.get("priority")]
    assert columns == ["Ready", "Models", "Ollama", "Endpoint", "Age"]


@pytest.mark.parametrize(
    ("path", "value", "refused"),
    [
        ("keepAlive", "-1", False),
        ("keepAlive", "99999h", False),
        ("keepAlive", "12345678ms", False),
        ("keepAlive", "999999999", False),
        ("keepAlive", "9999999h", True),
        ("keepAlive", "1h99999999m", True),
        ("keepAlive", "9999999999", True),
        ("keepAlive", "-9999999999s", True),
        ("keepAlive", "soon", True),
        ("size", "20Gi", False),
        ("size", "0.5Ti", False),
        ("size", "0", True),
        ("size", "0.0Gi", True),
        ("size", "0e9", True),
        ("labelValue", "", False),
        ("labelValue", "team-a_1.b", False),
        ("labelValue", "-a", True),
        ("labelValue", "a b", True),
        ("volume", "adapters-1", False),
        ("volume", "Adapters", True),
        ("volume", "a-", True),
        ("name", "models.example:5000/library/smollm2:135m", False),
        ("name", "team/smollm2", False),
        ("name", "reg.local:5000/model", True),
        ("name", "hf.co/model", True),
        ("from", "models.example:5000/library/smollm2:135m", False),
        ("from", "hf.co/model", True),
        ("adapter", "models.example:5000/library/smollm2-lora:1", False),
        ("adapter", "hf.co/model", True),
    ],
)
def test_rules_refuse_what_cannot_work(path: str, value: str, refused: bool) -> None:
    ollama, models = schema()["ollama"]["properties"], schema()["models"]["items"]["properties"]
    fields = {
        "keepAlive": ollama["keepAlive"],
        "size": ollama["storage"]["properties"]["size"],
        "name": models["name"],
        "labelValue": ollama["podLabels"]["additionalProperties"],
        "volume": ollama["volumes"]["items"]["properties"]["name"],
        "from": models["from"],
        "adapter": models["adapter"],
    }
    rules = [rule["rule"] for rule in fields[path]["x-kubernetes-validations"] if "matches" in rule["rule"]]
    found = [
        bool(re.search(re.search(r"matches\('(.*)'\)", rule)[1], value)) == rule.startswith("!")  # type: ignore[index]
        for rule in rules
    ]
    assert any(found) is refused


def test_the_schema_has_the_defaults_that_the_operator_assumes() -> None:
    properties = schema()
    ollama, proxy = properties["ollama"]["properties"], properties["proxy"]["properties"]
    assert ollama["parallel"]["default"] == spec.DEFAULT_PARALLEL
    assert ollama["maxLoadedModels"]["default"] == spec.DEFAULT_MAX_LOADED_MODELS
    assert ollama["keepAlive"]["default"] == spec.DEFAULT_KEEP_ALIVE
    assert ollama["drainSeconds"]["default"] == spec.DEFAULT_DRAIN_SECONDS
    autoscaling = ollama["autoscaling"]["properties"]
    assert autoscaling["minReplicas"]["default"] == spec.DEFAULT_MIN_REPLICAS
    assert autoscaling["targetInFlight"]["default"] == spec.DEFAULT_TARGET_IN_FLIGHT
    assert autoscaling["idleSeconds"]["default"] == spec.DEFAULT_IDLE_SECONDS
    assert set(spec.POD_FIELDS) <= ollama.keys() & proxy.keys()
    for pods in (ollama, proxy):
        assert pods["imagePullPolicy"]["default"] == spec.DEFAULT_PULL_POLICY
    assert ollama["storage"]["properties"]["size"]["default"] == spec.DEFAULT_STORAGE_SIZE
    storage = ollama["storage"]
    assert storage["default"] == {
        name: storage["properties"][name]["default"] for name in ("size", "retain", "ephemeral")
    }
    assert ollama["resources"]["default"] == spec.DEFAULT_OLLAMA_RESOURCES
    cache = schema()["registry"]["properties"]["cache"]["properties"]
    assert cache["size"]["default"] == spec.DEFAULT_CACHE_SIZE
    assert cache["resources"]["default"] == spec.DEFAULT_CACHE_RESOURCES
    assert set(spec.POD_FIELDS) <= cache.keys()
    assert proxy["resources"]["default"] == spec.DEFAULT_PROXY_RESOURCES
    # A default would be there beside autoscaling, which excludes it.
    assert "default" not in proxy["replicas"]
    scaled = proxy["autoscaling"]["properties"]
    assert scaled["minReplicas"]["default"] == spec.DEFAULT_FEWEST_PROXIES
    assert scaled["targetOngoingRequests"]["default"] == spec.DEFAULT_REQUESTS_A_PROXY
    assert properties["models"]["items"]["properties"]["type"]["default"] == spec.AUTO


def ollama_pods(**fields: Any) -> dict[str, Any]:
    """Return the template of a set's Ollama pods, by what spec.ollama says."""
    modelset = spec.parse(
        {
            "metadata": {
                "namespace": "n",
                "name": "s",
                "uid": "u",
                "creationTimestamp": "2026-01-02T03:04:05Z",
            },
            "spec": {"models": [{"name": "a"}], "ollama": fields},
        },
        spec.Images("ollama", "proxy", "cache"),
    )
    found: dict[str, Any] = manifests.stateful_set(modelset, *modelset.pools, 1)["spec"]["template"]
    return found


def test_what_the_operator_sets_for_ollama_cannot_be_set_by_hand() -> None:
    """Also what is set only where the spec says so."""
    pod = ollama_pods(flashAttention=True, kvCacheType="q8_0")["spec"]
    ours = {entry["name"] for entry in pod["containers"][0]["env"]}
    name = schema()["ollama"]["properties"]["env"]["items"]["properties"]["name"]
    refused = {rule["rule"].split("'")[1] for rule in name["x-kubernetes-validations"]}
    assert ours < refused
    assert all("; " in rule["message"] for rule in name["x-kubernetes-validations"])


def test_where_the_operator_mounts_volumes_nothing_else_is_mounted() -> None:
    pod = ollama_pods(storage={"ephemeral": True})["spec"]
    fields = schema()["ollama"]["properties"]["volumes"]["items"]["properties"]
    rules = [rule["rule"] for rule in fields["mountPath"]["x-kubernetes-validations"]]
    paths = {path for rule in rules if (path := rule.partition(".startsWith('")[2].partition("/')")[0])}
    assert paths == {mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    ((listed, message),) = [
        (rule["rule"].partition(" in ")[2], rule["message"])
        for rule in fields["name"]["x-kubernetes-validations"]
        if " in " in rule["rule"]
    ]
    ours = {volume["name"] for volume in pod["volumes"]}
    assert set(re.findall(r"'(\w+)'", listed)) == ours
    assert all(name in message for name in ours)


@pytest.mark.parametrize(
    "key",
    [
        *ollama_pods()["metadata"]["labels"],
        "model.modelset.dev/a",
        "ray.io/cluster",
        "app.kubernetes.io/part-of",
    ],
)
def test_labels_of_ours_cannot_be_set_by_hand(key: str) -> None:
    for pods in (schema()["ollama"], schema()["proxy"]):
        taken = pods["properties"]["podLabels"]["x-kubernetes-validations"][0]["rule"]
        pattern = re.search(r"!key.matches\('(.*)'\)", taken)[1]  # type: ignore[index]
        assert re.search(pattern, key)
        assert not any(re.search(pattern, other) for other in ("team", "example.com/team", "array.io/a"))


@pytest.mark.parametrize(
    "setting",
    [
        "replicas=-1",
        "instance=Second",
        "adopt={modelset-operator}",
        "logLevel=LOUD",
        "image.pullPolicy=Sometimes",
        "watchNamespaces={Team}",
        "image.repository=",
        "kuberay.namespaces={Ray}",
        "crds.drop={proxy.cors}",
        "networkPolicy.metricsFrom={monitoring}",
    ],
)
def test_a_value_that_is_wrong_is_refused(setting: str) -> None:
    done = helm("--set", setting)
    assert done.returncode != 0
    assert "schema" in done.stderr


def test_helm_unittest_suites() -> None:
    command = [tool("HELM_UNITTEST", "helm-unittest"), str(CHART)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


EXAMPLES = sorted((CHART.parents[1] / "examples").glob("modelset*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_fit_the_schema(path: pathlib.Path, tmp_path: pathlib.Path) -> None:
    done = conform(path, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_schema_refuses_a_field_that_it_does_not_know(tmp_path: pathlib.Path) -> None:
    example = yaml.safe_load(EXAMPLES[0].read_text())
    example["spec"]["modles"] = []
    path = tmp_path / "example.yaml"
    path.write_text(yaml.safe_dump(example))
    done = conform(path, tmp_path)
    assert done.returncode == 1
    assert "modles" in done.stdout


def conform(path: pathlib.Path, folder: pathlib.Path) -> subprocess.CompletedProcess[str]:
    """Validate a manifest by the CRD's schema, unknown fields refused as the API server refuses them."""
    (version,) = one(render(), "CustomResourceDefinition")["spec"]["versions"]
    closed = close(version["schema"]["openAPIV3Schema"])
    (folder / "ollamamodelset-v1alpha1.json").write_text(json.dumps(closed))
    location = str(folder / "{{.ResourceKind}}-{{.ResourceAPIVersion}}.json")
    command = [tool("KUBECONFORM", "kubeconform"), "-schema-location", location, str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def close(node: Any) -> Any:
    """Refuse unknown properties wherever the schema names some; metadata is Kubernetes' own business."""
    if isinstance(node, list):
        return [close(inner) for inner in node]
    if not isinstance(node, dict):
        return node
    closed = {key: close(inner) for key, inner in node.items()}
    if isinstance(node.get("properties"), dict) and list(node["properties"]) != ["name"]:
        closed["additionalProperties"] = False
    return closed
