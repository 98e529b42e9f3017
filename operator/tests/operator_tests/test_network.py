"""Who reaches which port, by the rules that NetworkPolicies are read by."""

from typing import Any

import pytest

from modelset_operator.api import names, neighbours
from modelset_operator.manifests import network

from . import builders

OPERATOR = {"app.kubernetes.io/name": "modelset-operator"}
KUBERAY = dict(neighbours.KUBERAY.labels)
MONITORING = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
AROUND = neighbours.Neighbours(
    operator=neighbours.Pods(OPERATOR, ("modelset-system",)),
    kuberay=neighbours.Pods(KUBERAY, ("kuberay",)),
    metrics=(MONITORING,),
)
OWN_PROXY, OWN_OLLAMA = names.proxy_selector("assistants"), names.ollama_selector("assistants")
OTHERS_PROXY = names.proxy_selector("another")
RAY_PORTS = (6379, 8080, 8265, 10001, 52365, 33333)
Pod = tuple[str, dict[str, str]]


def matches(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    equal = all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
    listed = all(labels.get(one["key"]) in one["values"] for one in selector.get("matchExpressions", ()))
    return equal and listed


def is_peer(peer: dict[str, Any], pod: Pod) -> bool:
    namespace, labels = pod
    if "ipBlock" in peer:
        return False
    if "namespaceSelector" in peer:
        within = matches(peer["namespaceSelector"], {"kubernetes.io/metadata.name": namespace})
    else:
        within = namespace == "default"
    return within and matches(peer.get("podSelector", {}), labels)


def allows(rules: list[dict[str, Any]], direction: str, pod: Pod, port: int, protocol: str = "TCP") -> bool:
    return any(
        (direction not in rule or any(is_peer(peer, pod) for peer in rule[direction]))
        and ("ports" not in rule or {"protocol": protocol, "port": port} in rule["ports"])
        for rule in rules
    )


def policy(component: str, around: neighbours.Neighbours = AROUND, **fields: Any) -> dict[str, Any]:
    modelset = builders.modelset(*fields.pop("models", ("a",)), **fields)
    return only(component, network.policies(modelset, around))


def only(component: str, policies: list[dict[str, Any]]) -> dict[str, Any]:
    selector = {"matchLabels": names.selector("assistants", component)}
    (found,) = [one for one in policies if one["spec"]["podSelector"] == selector]
    spec_of: dict[str, Any] = found["spec"]
    return spec_of


def test_only_an_autoscaled_proxy_reaches_the_api_server_and_no_pod_besides() -> None:
    plain = policy(names.PROXY_COMPONENT)["egress"]
    scaled = policy(names.PROXY_COMPONENT, proxy={"autoscaling": {"maxReplicas": 2}})["egress"]
    (added,) = [rule for rule in scaled if rule not in plain]
    assert {port["port"] for port in added["ports"]} == {443, 6443}
    assert all(peer.keys() == {"ipBlock"} for peer in added["to"])
    assert "169.254.0.0/16" in added["to"][0]["ipBlock"]["except"]


@pytest.mark.parametrize("component", [names.OLLAMA_COMPONENT, names.PROXY_COMPONENT])
def test_what_is_not_allowed_is_refused_both_ways(component: str) -> None:
    assert policy(component)["policyTypes"] == ["Ingress", "Egress"]


@pytest.mark.parametrize(
    ("pod", "let_in"),
    [
        (("default", OWN_PROXY), True),
        (("modelset-system", OPERATOR), True),
        (("default", OPERATOR), False),
        (("modelset-system", {"app": "web"}), False),
        (("default", OTHERS_PROXY), False),
        (("default", OWN_OLLAMA), False),
        (("other", OWN_PROXY), False),
        (("default", {}), False),
    ],
)
def test_ollama_lets_in_its_own_proxy_and_the_operator(pod: Pod, let_in: bool) -> None:
    ingress = policy(names.OLLAMA_COMPONENT)["ingress"]
    assert allows(ingress, "from", pod, 11434) is let_in
    assert not allows(ingress, "from", pod, 22)


def test_an_operator_outside_of_the_cluster_is_no_pod_to_let_in() -> None:
    ingress = policy(names.OLLAMA_COMPONENT, neighbours.Neighbours())["ingress"]
    assert allows(ingress, "from", ("default", OWN_PROXY), 11434)
    assert not allows(ingress, "from", ("modelset-system", OPERATOR), 11434)


@pytest.mark.parametrize(
    ("pod", "ports"),
    [
        (("default", OWN_PROXY), {*RAY_PORTS, 8000}),
        (("kuberay", KUBERAY), {8265, 8000}),
        (("default", KUBERAY), {8000}),
        (("kuberay", {"app": "web"}), {8000}),
        (("monitoring", {"app": "prometheus"}), {8080, 8000}),
        (("default", OTHERS_PROXY), {8000}),
        (("default", OWN_OLLAMA), {8000}),
        (("other", OWN_PROXY), {8000}),
        (("other", {}), {8000}),
    ],
)
def test_ray_lets_in_its_own_pods_and_kuberay_and_everybody_else_at_the_endpoint_alone(
    pod: Pod, ports: set[int]
) -> None:
    ingress = policy(names.PROXY_COMPONENT)["ingress"]
    assert {port for port in (*RAY_PORTS, 8000) if allows(ingress, "from", pod, port)} == ports


def test_kuberay_may_be_anywhere_where_nobody_says_where_it_is() -> None:
    ingress = policy(names.PROXY_COMPONENT, neighbours.Neighbours())["ingress"]
    assert allows(ingress, "from", ("elsewhere", KUBERAY), 8265)
    assert not allows(ingress, "from", ("monitoring", {"app": "prometheus"}), 8080)


@pytest.mark.parametrize(
    ("pod", "let_in"),
    [
        (("chat", {"app": "web"}), True),
        (("other", {"app": "web"}), False),
        (("default", OWN_PROXY), True),
        (("kuberay", KUBERAY), True),
    ],
)
def test_the_endpoint_is_reached_from_where_the_set_says(pod: Pod, let_in: bool) -> None:
    chat = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "chat"}}}
    ingress = policy(names.PROXY_COMPONENT, proxy={"allowedFrom": [chat]})["ingress"]
    assert allows(ingress, "from", pod, 8000) is let_in


@pytest.mark.parametrize(
    ("pod", "ollama", "let_in"),
    [
        (("modelset-system", OPERATOR), {"autoscaling": {"maxReplicas": 2}}, True),
        (("elsewhere", OPERATOR), {"autoscaling": {"maxReplicas": 2}}, False),
        (("modelset-system", OPERATOR), {"replicas": 2}, False),
    ],
)
def test_the_operator_reads_what_is_asked_of_sets_that_it_scales(
    pod: Pod, ollama: dict[str, Any], let_in: bool
) -> None:
    nobody = {"podSelector": {"matchLabels": {"app": "web"}}}
    fields = {"proxy": {"allowedFrom": [nobody]}, "ollama": ollama}
    assert allows(policy(names.PROXY_COMPONENT, **fields)["ingress"], "from", pod, 8000) is let_in
    outside = policy(names.PROXY_COMPONENT, neighbours.Neighbours(), **fields)["ingress"]
    assert not allows(outside, "from", pod, 8000)


@pytest.mark.parametrize(
    ("pod", "port", "reached"),
    [
        (("default", OWN_OLLAMA), 11434, True),
        (("default", OWN_PROXY), 33333, True),
        (("default", OWN_OLLAMA), 22, False),
        (("other", OWN_OLLAMA), 11434, False),
        (("other", {}), 443, False),
    ],
)
def test_the_proxy_reaches_ollama_and_itself_alone(pod: Pod, port: int, reached: bool) -> None:
    assert allows(policy(names.PROXY_COMPONENT)["egress"], "to", pod, port) is reached


@pytest.mark.parametrize("component", [names.OLLAMA_COMPONENT, names.PROXY_COMPONENT])
@pytest.mark.parametrize("protocol", ["UDP", "TCP"])
def test_names_can_be_resolved(component: str, protocol: str) -> None:
    assert allows(policy(component)["egress"], "to", ("kube-system", {}), 53, protocol)


@pytest.mark.parametrize(
    ("fields", "ports"),
    [
        ({"models": ("a", "hf.co/team/b:Q4")}, {443}),
        ({"models": ("a",), "registry": {"host": "models.example:5000"}}, {443, 5000}),
        (
            {
                "models": ("a", "other.example:5001/team/b"),
                "registry": {"host": "plain.example", "insecure": True},
            },
            {80, 443, 5001},
        ),
    ],
)
def test_ollama_reaches_registries_at_the_ports_that_models_name(
    fields: dict[str, Any], ports: set[int]
) -> None:
    registries = policy(names.OLLAMA_COMPONENT, **fields)["egress"][1]
    assert {entry["port"] for entry in registries["ports"]} == ports


def test_ollama_does_not_reach_where_clouds_hand_out_credentials() -> None:
    peers = policy(names.OLLAMA_COMPONENT)["egress"][1]["to"]
    blocks = [peer["ipBlock"] for peer in peers if "ipBlock" in peer]
    assert {block["cidr"]: block["except"][0] for block in blocks} == {
        "0.0.0.0/0": "169.254.0.0/16",
        "::/0": "fe80::/10",
    }


def test_policies_go_with_their_set() -> None:
    for one in network.policies(builders.modelset("a"), AROUND):
        assert one["metadata"]["ownerReferences"][0]["uid"] == "set-uid"
        assert one["metadata"]["labels"][names.SET_LABEL] == "assistants"
