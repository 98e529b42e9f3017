"""The kinds of objects that matter here, and where the API server keeps them."""

import dataclasses

from modelset_operator.api import names


@dataclasses.dataclass(frozen=True)
class Kind:
    """Where the API server keeps objects of a kind."""

    api_version: str
    kind: str
    plural: str

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """Return the URL path of a collection, in one namespace or in all, an object or a subresource."""
        root = "/apis" if "/" in self.api_version else "/api"
        within = ["namespaces", namespace] if namespace else []
        parts = [root, self.api_version, *within, self.plural, name, subresource]
        return "/".join(part for part in parts if part)


MODEL_SET = Kind(names.API_VERSION, names.KIND, names.PLURAL)
STATEFUL_SET = Kind("apps/v1", "StatefulSet", "statefulsets")
SERVICE = Kind("v1", "Service", "services")
CONFIG_MAP = Kind("v1", "ConfigMap", "configmaps")
POD = Kind("v1", "Pod", "pods")
VOLUME_CLAIM = Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
NETWORK_POLICY = Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
DISRUPTION_BUDGET = Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
EVENT = Kind("v1", "Event", "events")
SECRET = Kind("v1", "Secret", "secrets")
LEASE = Kind("coordination.k8s.io/v1", "Lease", "leases")
RAY_SERVICE = Kind("ray.io/v1", "RayService", "rayservices")
RAY_CLUSTER = Kind("ray.io/v1", "RayCluster", "rayclusters")
BY_NAME = {
    kind.kind: kind
    for kind in (
        MODEL_SET,
        STATEFUL_SET,
        SERVICE,
        CONFIG_MAP,
        POD,
        VOLUME_CLAIM,
        NETWORK_POLICY,
        DISRUPTION_BUDGET,
        EVENT,
        SECRET,
        LEASE,
        RAY_SERVICE,
        RAY_CLUSTER,
    )
}
