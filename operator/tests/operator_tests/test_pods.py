"""Where a set's pods run, how they end, and how many may be away."""

import subprocess
from typing import Any

import pytest

from modelset_operator.api import names, spec
from modelset_operator.manifests import common, disruption, ollama, ray

from . import builders

PLACED = {
    "affinity": {"podAntiAffinity": {}},
    "imagePullSecrets": [{"name": "mirror"}],
    "nodeSelector": {"disk": "fast"},
    "priorityClassName": "important",
    "runtimeClassName": "gvisor",
    "tolerations": [{"operator": "Exists"}],
    "topologySpreadConstraints": [{"maxSkew": 1}],
}


def ollama_template(modelset: spec.ModelSet) -> dict[str, Any]:
    (pool,) = modelset.pools
    found: dict[str, Any] = ollama.stateful_set(modelset, pool, 1)["spec"]["template"]
    return found


def ray_cluster(modelset: spec.ModelSet) -> dict[str, Any]:
    service = ray.ray_service(modelset, [], {"labels": {}, "annotations": {}})
    config: dict[str, Any] = service["spec"]["rayClusterConfig"]
    return config


def proxy_templates(modelset: spec.ModelSet) -> list[dict[str, Any]]:
    config = ray_cluster(modelset)
    return [group["template"] for group in (config["headGroupSpec"], *config["workerGroupSpecs"])]


def ollama_pod(modelset: spec.ModelSet) -> dict[str, Any]:
    found: dict[str, Any] = ollama_template(modelset)["spec"]
    return found


def proxy_pods(modelset: spec.ModelSet) -> list[dict[str, Any]]:
    return [template["spec"] for template in proxy_templates(modelset)]


def test_pods_run_where_the_spec_says() -> None:
    assert PLACED.keys() == set(spec.POD_FIELDS)
    modelset = builders.modelset("a", ollama=PLACED, proxy=PLACED)
    for one in (ollama_pod(modelset), *proxy_pods(modelset)):
        assert PLACED.items() <= one.items()


def test_what_the_spec_leaves_open_pods_do_not_say() -> None:
    modelset = builders.modelset("a")
    for one in (ollama_pod(modelset), *proxy_pods(modelset)):
        assert not one.keys() & set(spec.POD_FIELDS)


def test_ollama_runs_as_the_groups_that_own_its_devices_too() -> None:
    plain, grouped = builders.modelset("a"), builders.modelset("a", ollama={"supplementalGroups": [44, 109]})
    before, after = (ollama_pod(one)["securityContext"] for one in (plain, grouped))
    assert after == before | {"supplementalGroups": [44, 109]}
    assert "supplementalGroups" not in before, "all pods would roll on upgrade"
    assert proxy_pods(grouped) == proxy_pods(plain)


@pytest.mark.parametrize(
    ("fields", "policy"), [({}, "IfNotPresent"), ({"imagePullPolicy": "Always"}, "Always")]
)
def test_images_are_pulled_when_the_spec_says(fields: dict[str, Any], policy: str) -> None:
    scaled = {"autoscaling": {"maxReplicas": 2}}
    modelset = builders.modelset("a", ollama=fields, proxy=fields | scaled)
    containers = [one["containers"][0] for one in (ollama_pod(modelset), *proxy_pods(modelset))]
    # Ray's autoscaler runs the proxy's image.
    containers.append(ray_cluster(modelset)["autoscalerOptions"])
    assert [one["imagePullPolicy"] for one in containers] == [policy] * 4


def test_pods_have_the_labels_and_annotations_that_the_spec_says() -> None:
    said = {"podLabels": {"team": "a"}, "podAnnotations": {"mesh.example/inject": "true"}}
    plain, labelled = builders.modelset("a"), builders.modelset("a", ollama=said, proxy=said)
    before = [ollama_template(plain), *proxy_templates(plain)]
    for own, template in zip(before, (ollama_template(labelled), *proxy_templates(labelled)), strict=True):
        assert template["metadata"]["labels"] == own["metadata"]["labels"] | {"team": "a"}
        assert template["metadata"]["annotations"] == {"mesh.example/inject": "true"}
        assert "annotations" not in own["metadata"], "all pods would roll on upgrade"


def test_our_own_labels_stay_as_they_are() -> None:
    """Services, policies and budgets find pods by them: this holds without the schema, too."""
    stolen = {"podLabels": {names.SET_LABEL: "another", names.COMPONENT_LABEL: "another"}}
    plain, labelled = builders.modelset("a"), builders.modelset("a", ollama=stolen, proxy=stolen)
    assert ollama_template(labelled) == ollama_template(plain)
    assert proxy_templates(labelled) == proxy_templates(plain)


def test_labels_of_pods_are_not_those_of_claims_which_cannot_change() -> None:
    claims = [
        ollama.stateful_set(modelset, *modelset.pools, 1)["spec"]["volumeClaimTemplates"]
        for modelset in (builders.modelset("a"), builders.modelset("a", ollama={"podLabels": {"team": "a"}}))
    ]
    assert claims[0] == claims[1]


def test_answers_may_end_before_processes_are_ended() -> None:
    modelset = builders.modelset("a", ollama={"drainSeconds": 120})
    pods = [(120, ollama_pod(modelset)), *((ray.DRAIN_SECONDS, one) for one in proxy_pods(modelset))]
    for drain, one in pods:
        (container,) = one["containers"]
        assert one["terminationGracePeriodSeconds"] > drain
        assert container["lifecycle"]["preStop"]["exec"]["command"][0] == "sh"


CONNECTED = "   1: 0100000A:2CAA 0200000A:C350 01 00000000:00000000 00:00000000 00000000  1000 0 1"
LISTENING = "   0: 00000000:2CAA 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000 0 1"
OF_ITS_OWN = "   2: 0100000A:C350 0300000A:2CAA 01 00000000:00000000 00:00000000 00000000  1000 0 1"
LEAVING = "   3: 0100000A:2CAA 0200000A:C351 06 00000000:00000000 00:00000000 00000000  1000 0 1"


@pytest.mark.parametrize(
    ("table", "drain", "slept"),
    [
        ([LISTENING], 30, 5),
        ([LISTENING, OF_ITS_OWN, LEAVING], 30, 5),
        ([LISTENING, CONNECTED], 30, 30),
        ([LISTENING, CONNECTED], 2, 2),
        ([LISTENING, CONNECTED], 0, 0),
    ],
)
def test_a_pod_waits_for_those_who_are_connected_and_not_for_ever(
    tmp_path: Any, table: list[str], drain: int, slept: int
) -> None:
    (tmp_path / "tcp").write_text("\n".join(["  sl  local_address", *table]))
    command = common.ending(names.OLLAMA_PORT, drain)["lifecycle"]["preStop"]["exec"]["command"]
    script = command[-1].replace("/proc/net/", f"{tmp_path}/")
    counted = f"sleep() {{ echo $1; }}; {script}"
    done = subprocess.run([*command[:-1], counted], capture_output=True, text=True, check=True)
    assert sum(int(line) for line in done.stdout.split()) == slept


@pytest.mark.parametrize("replicas", [1, 3])
def test_a_node_can_be_drained_one_pod_at_a_time(replicas: int) -> None:
    modelset = builders.modelset("a", ollama={"replicas": replicas}, proxy={"replicas": replicas})
    by_pods = {one["metadata"]["name"]: one["spec"] for one in disruption.budgets(modelset)}
    assert by_pods["assistants-ollama"]["maxUnavailable"] == 1
    assert by_pods["assistants-proxy"]["minAvailable"] == replicas - 1
    for component in (names.OLLAMA_COMPONENT, names.PROXY_COMPONENT):
        budget = by_pods[f"assistants-{component}"]
        assert budget["selector"] == {"matchLabels": names.selector("assistants", component)}
        assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
