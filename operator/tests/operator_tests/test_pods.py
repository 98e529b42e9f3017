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


def ollama_pod(modelset: spec.ModelSet) -> dict[str, Any]:
    (pool,) = modelset.pools
    found: dict[str, Any] = ollama.stateful_set(modelset, pool)["spec"]["template"]["spec"]
    return found


def proxy_pods(modelset: spec.ModelSet) -> list[dict[str, Any]]:
    config = ray.ray_service(modelset, [], {"labels": {}, "annotations": {}})["spec"]["rayClusterConfig"]
    return [group["template"]["spec"] for group in (config["headGroupSpec"], *config["workerGroupSpecs"])]


def test_pods_run_where_the_spec_says() -> None:
    assert PLACED.keys() == set(spec.POD_FIELDS)
    modelset = builders.modelset("a", ollama=PLACED, proxy=PLACED)
    for one in (ollama_pod(modelset), *proxy_pods(modelset)):
        assert PLACED.items() <= one.items()


def test_what_the_spec_leaves_open_pods_do_not_say() -> None:
    modelset = builders.modelset("a")
    for one in (ollama_pod(modelset), *proxy_pods(modelset)):
        assert not one.keys() & set(spec.POD_FIELDS)


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
