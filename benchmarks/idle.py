"""`python -m benchmarks.idle`: a set that nobody asks, on the kind cluster: memory and CPU of its processes.

Both are read from /proc, where this machine sees what runs in its containers. Pages that processes share are
divided among them; CPU is an average over all of the time.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import json
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import machine, processes, report
from stack import cache, cluster, golang, pins, step

NAMESPACE = "bench-idle"
_EXAMPLE = cache.REPOSITORY / "examples" / "modelset-airgapped.yaml"
_SET = "assistants"
_READY_SECONDS = 300
# Only what ran as long as this goes into the page.
_LONG_ENOUGH_SECONDS = 120.0
_POD = re.compile(r"pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12})")

# What a command line says -> what the process is called; the first that is found.
NAMES: Sequence[tuple[str, str]] = (
    (r"^/pause\b", "pause"),
    (r"/gcs/gcs_server\b", "GCS"),
    (r"/raylet/raylet\b", "raylet"),
    (r"^ray::ServeReplica:", "the proxy"),
    (r"^ray::Board", "what proxies know of each other"),
    (r"^ray::ServeController", "Serve's controller"),
    (r"^ray::HAProxyManager", "Serve's manager of HAProxy"),
    (r"^ray::ProxyActor", "Serve's fallback proxy"),
    (r"^ray::DashboardAgent", "dashboard's agent"),
    (r"^ray::RuntimeEnvAgent", "agent for runtime environments"),
    (r"^ray::", "other workers of Ray"),
    (r"/bin/haproxy\b", "HAProxy"),
    (r"^ray-dashboard-ServeHead", "dashboard: Serve's API"),
    (r"^ray-dashboard-|multiprocessing\.(forkserver|resource_tracker)", "dashboard: its other modules"),
    (r"/dashboard/dashboard\.py\b", "dashboard"),
    (r"/monitor\.py\b", "autoscaler's monitor"),
    (r"/log_monitor\.py\b", "log monitor"),
    (r"\bray\.util\.client\.server\b", "Ray client's server"),
    (r"\bray start\b", "ray start"),
    (r"\bollama\b.*\brunner\b", "Ollama's runners"),
    (r"\bollama serve\b", "Ollama"),
    (r"\bmodelset_operator\b", "the operator"),
)


@dataclasses.dataclass(frozen=True)
class Cost:
    """Memory in bytes, and CPU in cores on average."""

    memory: float
    cpu: float

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.memory + other.memory, self.cpu + other.cpu)


def name(command_line: str) -> str:
    """Return what a process is called in the table."""
    return next((called for said, called in NAMES if re.search(said, command_line)), "others")


def pod_of(cgroups: str) -> str | None:
    """Return the uid of the pod that a process belongs to, from its /proc/PID/cgroup."""
    found = _POD.search(cgroups)
    return found[1].replace("_", "-") if found else None


def main() -> None:
    """Parse the command line, measure, report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.idle", description=__doc__)
    parser.add_argument("--settle", type=float, default=90.0, metavar="SECONDS", help="before (%(default)s)")
    parser.add_argument("--seconds", type=float, default=300.0, help="for how long (%(default)s)")
    arguments = parser.parse_args()
    facts = machine.host()
    cluster.kubectl("create", "namespace", NAMESPACE)
    try:
        found = _measure(arguments.settle, arguments.seconds)
    finally:
        cluster.kubectl("delete", "namespace", NAMESPACE)
    if arguments.seconds >= _LONG_ENOUGH_SECONDS:
        facts |= {
            "Kubernetes": golang.module_version("kubernetes", "k8s.io/kubernetes").removeprefix("v"),
            "modelset": pins.load().version,
            "seconds": f"{arguments.seconds:.0f}",
        }
        report.IDLE.write_text(json.dumps({"facts": facts, "pods": found}, indent=1) + "\n")
        report.write()


def _measure(settle_seconds: float, seconds: float) -> dict[str, Any]:
    """Return for each pod of an idle set, and the operator's, what its processes cost."""
    with step.step("make a set"):
        cluster.kubectl("apply", "--namespace", NAMESPACE, "--filename", _EXAMPLE)
        ready = ("wait", "--for=condition=Ready", f"oms/{_SET}", f"--timeout={_READY_SECONDS}s")
        cluster.kubectl("--namespace", NAMESPACE, *ready)
    with step.step(f"let it be for {settle_seconds:.0f} s, then look for {seconds:.0f} s"):
        time.sleep(settle_seconds)
        pods = {**_pods(NAMESPACE), **_pods(cluster.OPERATOR_NAMESPACE)}
        before = _processes(pods)
        began, busy = time.monotonic(), processes.machine_cpu()
        time.sleep(seconds)
        after = _processes(pods)
        passed, busy = time.monotonic() - began, processes.machine_cpu() - busy
    costs: dict[str, dict[str, Cost]] = collections.defaultdict(dict)
    for (pid, started), (pod, cpu) in after.items():
        # What has begun meanwhile has used all of its CPU meanwhile; what has ended is not told.
        used = cpu - before.get((pid, started), ("", 0.0))[1]
        cost = Cost(processes.memory(pid), used / passed)
        called = name(processes.command_line(pid))
        costs[pod][called] = costs[pod].get(called, Cost(0, 0)) + cost
    step.say(f"  all of this machine: {busy / passed:.2f} cores")
    return {
        pod: {called: dataclasses.asdict(cost) for called, cost in found.items()}
        for pod, found in costs.items()
    }


def _pods(namespace: str) -> dict[str, str]:
    """Return pods by uid, and what each is for."""
    items = json.loads(cluster.kubectl("get", "pods", "--namespace", namespace, "--output", "json"))["items"]
    return {item["metadata"]["uid"]: _component(item["metadata"].get("labels", {})) for item in items}


def _component(labels: Mapping[str, str]) -> str:
    return labels.get("app.kubernetes.io/component", "operator")


def _processes(pods: Mapping[str, str]) -> dict[tuple[int, int], tuple[str, float]]:
    """Return the processes of pods by id and start: what their pod is for, and the CPU they have used."""
    found = {}
    for process in processes.running():
        path = Path(f"/proc/{process.pid}/cgroup")
        try:
            pod = pods.get(pod_of(path.read_text()) or "")
        except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            continue
        if pod is not None:
            found[process.pid, process.started] = (pod, process.cpu)
    return found


if __name__ == "__main__":
    step.main(main)
