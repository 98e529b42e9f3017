"""Who may talk to a set's pods, and to whom they may.

NetworkPolicies only ever allow and add up: whatever else a site needs, a policy of its own allows. Ports are
those of pods, since Services are resolved before policies look.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from modelset_operator.api import names, neighbours, spec
from modelset_operator.manifests import common, ray

# OpenShift's DNS pods listen on 5353. To any address: DNS caches of nodes are not pods.
_DNS = {"ports": [{"protocol": p, "port": n} for p in ("UDP", "TCP") for n in (53, 5353)]}
_HTTPS, _HTTP = 443, 80
# Where the API server listens: its Service, and behind it most of the clusters there are.
_API_SERVER = (_HTTPS, 6443)
_NAMESPACE_LABEL = "kubernetes.io/metadata.name"
# Policies cannot name hosts. All there are but link-local ones, where clouds hand out credentials to whoever
# asks; pods on their own, because not all networks count them among the addresses.
_HOSTS = [
    {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}},
    {"ipBlock": {"cidr": "::/0", "except": ["fe80::/10", "fd00:ec2::/32"]}},
]
_REGISTRIES = [{"namespaceSelector": {}}, *_HOSTS]


def policies(modelset: spec.ModelSet, around: neighbours.Neighbours) -> list[dict[str, Any]]:
    """Return the NetworkPolicies of a set."""
    cache = [] if modelset.cache is None else [_cache(modelset, around)]
    return [*cache, _ollama(modelset, around), _proxy(modelset, around)]


def _ollama(modelset: spec.ModelSet, around: neighbours.Neighbours) -> dict[str, Any]:
    """Ollama's API deletes models for whoever reaches it: that is the set's proxy, and the operator."""
    callers = [_own(names.proxy_selector(modelset.name))]
    if around.operator is not None:
        callers.append(_peer(around.operator))
    return _policy(
        modelset,
        names.OLLAMA_COMPONENT,
        ingress=[{"from": callers, "ports": _tcp(names.OLLAMA_PORT)}],
        egress=[_DNS, _sources(modelset)],
    )


def _sources(modelset: spec.ModelSet) -> dict[str, Any]:
    """Return to where Ollama pods go for models: to registries, or to the set's cache and nowhere else."""
    if modelset.cache is None:
        return {"to": _REGISTRIES, "ports": _tcp(*_registry_ports(modelset))}
    cache = names.selector(modelset.name, names.CACHE_COMPONENT)
    return {"to": [_own(cache)], "ports": _tcp(names.CACHE_PORT)}


def _cache(modelset: spec.ModelSet, around: neighbours.Neighbours) -> dict[str, Any]:
    """It is who the set is to registries, for whoever reaches it: that is the set's Ollama pods alone."""
    ollama = _own(names.ollama_selector(modelset.name))
    ingress: list[dict[str, Any]] = [{"from": [ollama], "ports": _tcp(names.CACHE_PORT)}]
    if around.metrics:
        ingress.append({"from": list(around.metrics), "ports": _tcp(names.CACHE_WATCH_PORT)})
    return _policy(
        modelset,
        names.CACHE_COMPONENT,
        ingress=ingress,
        egress=[_DNS, {"to": _REGISTRIES, "ports": _tcp(*_registry_ports(modelset))}],
    )


def _proxy(modelset: spec.ModelSet, around: neighbours.Neighbours) -> dict[str, Any]:
    """Ray's pods talk to each other at ports of their choice; others come to clients' port alone.

    While one Ray cluster takes over from another, both are the set's own.
    """
    own = [_own(names.proxy_selector(modelset.name))]
    clients: dict[str, Any] = {"ports": _tcp(names.SERVE_PORT)}
    if modelset.proxy.allowed_from:
        clients["from"] = [*modelset.proxy.allowed_from, *_demand_readers(modelset, around)]
    ingress: list[dict[str, Any]] = [
        clients,
        {"from": own},
        # It deploys the application, and asks proxies whether they serve.
        {"from": [_peer(around.kuberay)], "ports": _tcp(ray.DASHBOARD_PORT, names.SERVE_PORT)},
    ]
    if around.metrics:
        ingress.append({"from": list(around.metrics), "ports": _tcp(ray.METRICS_PORT)})
    ollama = {"to": [_own(names.ollama_selector(modelset.name))], "ports": _tcp(names.OLLAMA_PORT)}
    egress: list[dict[str, Any]] = [_DNS, {"to": own}, ollama]
    if modelset.proxy.autoscaling is not None:
        # Ray's autoscaler, beside the head, asks it for workers.
        egress.append({"to": _HOSTS, "ports": _tcp(*_API_SERVER)})
    return _policy(modelset, names.PROXY_COMPONENT, ingress=ingress, egress=egress)


def _demand_readers(modelset: spec.ModelSet, around: neighbours.Neighbours) -> list[dict[str, Any]]:
    """Return who asks the proxy what is asked of it."""
    if modelset.ollama.autoscaling is None or around.operator is None:
        return []
    return [_peer(around.operator)]


def _policy(
    modelset: spec.ModelSet,
    component: str,
    *,
    ingress: Sequence[Mapping[str, Any]],
    egress: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": common.metadata(modelset, names.pods_of(modelset.name, component), component),
        "spec": {
            "podSelector": {"matchLabels": names.selector(modelset.name, component)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": list(ingress),
            "egress": list(egress),
        },
    }


def _registry_ports(modelset: spec.ModelSet) -> list[int]:
    """Return the ports that the models' names say, and those where registries send for the data itself."""
    sources = [model.source for model in modelset.by_key.values() if model.variant is None]
    named = {int(port) for one in sources if (port := one.host.rpartition(":")[2]).isdigit()}
    plain = {_HTTP for one in sources if one.insecure}
    return sorted(named | plain | {_HTTPS})


def _tcp(*ports: int) -> list[dict[str, Any]]:
    return [{"protocol": "TCP", "port": port} for port in ports]


def _own(labels: Mapping[str, str]) -> dict[str, Any]:
    return {"podSelector": {"matchLabels": dict(labels)}}


def _peer(pods: neighbours.Pods) -> dict[str, Any]:
    selector: dict[str, Any] = {}
    if pods.namespaces:
        wanted = {"key": _NAMESPACE_LABEL, "operator": "In", "values": list(pods.namespaces)}
        selector["matchExpressions"] = [wanted]
    return {"namespaceSelector": selector, "podSelector": {"matchLabels": dict(pods.labels)}}
