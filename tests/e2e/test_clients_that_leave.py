"""A client that disconnects frees Ollama at once, and the proxy on Ray Serve keeps nothing of it. No cluster.

Behind the proxy is the stub of the benchmarks: only there can be seen when a request is dropped.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import contenders, folders, load_tool, loopback, processes
from stack.step import say
from tests.e2e.support import footprint
from tests.e2e.support.waiting import until

CLIENTS, WARM_UP, AT_ONCE = 500, 50, 2
# Of all but one in a hundred; the machine may be busy, and Ray runs its replicas at low priority.
FREED_MS, LATEST_MS = 100, 1000
# The replica counts tasks every 5 s and hands numbers over every 3 s, Ray exports them every 10 s.
SETTLE_SECONDS = 45
# What may differ with nothing leaked: idle connections, and memory that Python keeps for later. A thousand
# clients leave, so one file kept of each fiftieth would be seen, a task of each tenth, or 8 KiB of each.
MORE_FILES, MORE_MEMORY, IDLE_TASKS, IDLE_CONNECTIONS = 20, 8 * 1024 * 1024, 100, 4


@pytest.fixture(autouse=True)
def own_cluster() -> None:
    """In place of the fixtures that want a cluster."""


@pytest.fixture(autouse=True)
def steady() -> None:
    """As above."""


@dataclasses.dataclass(frozen=True)
class Served:
    """The proxy on Ray Serve and the stub behind it."""

    proxy: contenders.Running
    stub: contenders.Upstream
    ray_folder: Path

    def pids(self, part: str) -> list[int]:
        found = self.proxy.group.processes()
        return [p.pid for p in found if self.proxy.part(processes.command_line(p.pid)) == part]

    def leave(self, count: int, *, stream: bool) -> dict[str, Any]:
        """Have clients leave, and tell after how many milliseconds the stub saw it."""
        return load_tool.drive(
            "cancel",
            url=self.proxy.url,
            control=self.stub.url,
            model="paced",
            tokens="200",
            count=str(count),
            clients=str(AT_ONCE),
            limit="30s",
            stream=json.dumps(stream),
        )


@dataclasses.dataclass(frozen=True)
class Held:
    """What the processes hold that requests went through."""

    replica_files: int
    haproxy_files: int
    replica_memory: int
    connections: int


def held(served: Served) -> Held:
    (replica,) = served.pids("replica")
    port = int(served.stub.url.rpartition(":")[2])
    return Held(
        replica_files=footprint.open_files([replica]),
        haproxy_files=footprint.open_files(served.pids("HAProxy")),
        replica_memory=footprint.memory(replica),
        connections=footprint.connections(replica, port),
    )


@pytest.fixture
def served() -> Iterator[Served]:
    """The proxy as `make run` starts it, with ports of its own."""
    with folders.short() as folder, load_tool.stub(folder) as (url, group):
        stub = contenders.Upstream(url, group, ("paced",), "embed")
        with contenders.CONTENDERS["Serve + HAProxy"](stub, folder) as proxy:
            yield Served(proxy, stub, folder)


def settled(served: Served, left: int) -> footprint.Samples:
    """Metrics of a time when the proxy had counted all who left, and its tasks after that."""

    def rounds(samples: footprint.Samples) -> float:
        return footprint.total(samples, "ray_serve_event_loop_monitoring_iterations_total", of_replica)

    def counted(samples: footprint.Samples) -> bool:
        status = footprint.total(
            samples, "ray_modelset_requests_total", lambda labels: labels["status"] == "499"
        )
        return status >= left

    def look() -> footprint.Samples:
        return footprint.exported(served.ray_folder)

    first = until(look, counted, seconds=SETTLE_SECONDS, what=f"{left} requests have status 499")
    return until(
        look,
        lambda samples: rounds(samples) > rounds(first),
        seconds=SETTLE_SECONDS,
        what="the replica has counted its tasks",
    )


def of_replica(labels: dict[str, str]) -> bool:
    return labels.get("component") == "replica"


def test_a_client_that_leaves_frees_ollama(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    def tell(text: str) -> None:
        with capsys.disabled():
            say(f"  {text}")

    tell("milliseconds until the stub saw that a client had left:")
    for stream in (True, False):
        served.leave(WARM_UP, stream=stream)
    before = held(served)
    for way, stream in {"streamed": True, "not streamed": False}.items():
        result = served.leave(CLIENTS, stream=stream)
        freed = result["freed_ms"]
        tell(f"{way}: {freed}")
        assert (result["cut"], result["unnoticed"]) == (CLIENTS, 0), way
        assert freed["p99"] <= FREED_MS, way
        assert freed["max"] <= LATEST_MS, way
    counts = json.loads(loopback.get(f"{served.stub.url}/stub/counts") or b"{}")
    assert counts["running"] == 0
    assert counts["chats"] == counts["disconnects"] == 2 * (WARM_UP + CLIENTS)

    metrics = settled(served, left=counts["chats"])
    after = held(served)
    tasks = footprint.total(metrics, "ray_serve_event_loop_tasks", of_replica)
    tell(f"before: {before}")
    tell(f"after:  {after}, {tasks:.0f} tasks")
    assert footprint.total(metrics, "ray_modelset_requests_in_flight") == 0
    assert footprint.total(metrics, "ray_modelset_requests_queued") == 0
    assert footprint.total(metrics, "ray_serve_replica_processing_queries") == 0
    assert 0 < tasks <= IDLE_TASKS
    assert after.connections <= IDLE_CONNECTIONS
    assert after.replica_files <= before.replica_files + MORE_FILES
    assert after.haproxy_files <= before.haproxy_files + MORE_FILES
    assert after.replica_memory <= before.replica_memory + MORE_MEMORY
