"""What the RayService's status says about the proxy."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from modelset_operator.plan import conditions, obstacles
from modelset_operator.plan import observed as seen

RUNNING = "RUNNING"
DEPLOYING = "DEPLOYING"


@dataclasses.dataclass(frozen=True)
class Proxy:
    """`ready`: clients are answered. `settled`: and by exactly what the RayService asks for."""

    ready: bool
    settled: bool
    reason: str
    message: str


def judge(observed: seen.Observed) -> Proxy:
    """Read the RayService, and what is in the way of its pods: its own status never says that."""
    if not observed.kuberay_installed:
        message = "this cluster does not know RayService (ray.io/v1): install the KubeRay operator"
        return Proxy(False, False, "KubeRayMissing", message)
    if observed.ray_service is None:
        return Proxy(False, False, "Creating", "the RayService has not been created yet")
    found = _read(observed.ray_service, observed)
    obstacle = obstacles.proxy_pods(observed)
    if obstacle.reason:
        message = f"{obstacle.message}; {found.message}"
        return dataclasses.replace(found, reason=obstacle.reason, message=message)
    if obstacle.message and not found.ready:
        return dataclasses.replace(found, message=f"{found.message}; {obstacle.message}")
    return found


def _read(service: seen.Object, observed: seen.Observed) -> Proxy:
    """Read the RayService. Its Ready condition only means endpoints, so the applications count too."""
    status = service.get("status") or {}
    ready = conditions.find(status, "Ready")
    applications = (status.get("activeServiceStatus") or {}).get("applicationStatuses") or {}
    states = {str(app.get("status", "")) for app in applications.values()}
    if ready.get("status") != "True" or not applications:
        reason = "NoServeEndpoints" if ready.get("reason") == "ZeroServeEndpoints" else "Starting"
        return Proxy(False, False, reason, _why_not_ready(status, ready))
    bad = states - {RUNNING, DEPLOYING}
    if bad or (DEPLOYING in states and not _was_ready(observed)):
        return Proxy(False, False, "ApplicationNotRunning", _application_message(applications))
    current = status.get("observedGeneration", 0) >= service["metadata"].get("generation", 0)
    upgrading = bool((status.get("pendingServiceStatus") or {}).get("rayClusterName"))
    if upgrading:
        return Proxy(
            True, False, "Upgrading", "a new Ray cluster is starting; the old one serves until it is ready"
        )
    if DEPLOYING in states or not current:
        # Serve takes a new list of models in place: replicas go on answering meanwhile.
        return Proxy(
            True, False, "Reconfiguring", "the proxy is taking over a new configuration while it serves"
        )
    return Proxy(True, True, "Running", "the proxy is running")


def _was_ready(observed: seen.Observed) -> bool:
    return conditions.is_true(observed.status, "ProxyReady")


def _why_not_ready(status: Mapping[str, Any], ready: Mapping[str, Any]) -> str:
    """Prefer an application's own words: KubeRay's condition does not say why there is no endpoint."""
    for part in ("pendingServiceStatus", "activeServiceStatus"):
        applications = (status.get(part) or {}).get("applicationStatuses") or {}
        if any(app.get("status") != RUNNING for app in applications.values()):
            return _application_message(applications)
    cluster = (status.get("activeServiceStatus") or {}).get("rayClusterStatus") or {}
    head = str(conditions.find(cluster, "HeadPodReady").get("message", ""))
    told = [part for part in (str(ready.get("message", "")), head) if part]
    if ready.get("reason") == "ZeroServeEndpoints":
        return "; ".join(["no proxy pod answers", *told])
    return "; ".join(["the Ray cluster is starting", *told])


def _application_message(applications: Mapping[str, Any]) -> str:
    parts = []
    for name, app in sorted(applications.items()):
        if app.get("status") == RUNNING:
            continue
        # Serve's message may be a whole traceback, whose last line is the one that tells.
        lines = [line for line in str(app.get("message", "")).strip().splitlines() if line.strip()]
        told = f": {lines[-1].strip()[:300]}" if lines else ""
        parts.append(f"Serve application {name} is {app.get('status', 'unknown')}{told}")
    return "; ".join(parts)
