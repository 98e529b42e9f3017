"""What a running proxy holds: its open files, sockets and memory from /proc, the rest from Ray's metrics."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from benchmarks import loopback

_SAMPLE = re.compile(r"^(\w+)\{(.*)\} (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')

Samples = list[tuple[str, dict[str, str], float]]


def open_files(pids: Iterable[int]) -> int:
    return sum(len(_files(pid)) for pid in pids)


def memory(pid: int) -> int:
    """The bytes that a process has in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def connections(pid: int, port: int) -> int:
    """How many sockets of a process are connected to a port of the loopback address, in whatever state."""
    own = set(_files(pid))
    found = 0
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        found += int(fields[2].split(":")[1], 16) == port and f"socket:[{fields[9]}]" in own
    return found


def _files(pid: int) -> list[str]:
    files = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            files.append(str(entry.readlink()))
        except FileNotFoundError:  # closed meanwhile
            continue
    return files


def exported(folder: Path) -> Samples:
    """All samples that a Ray exports for Prometheus; `folder` is its RAY_TMPDIR."""
    listed = folder / "ray" / "prom_metrics_service_discovery.json"
    targets = [target for entry in json.loads(listed.read_text()) for target in entry["targets"]]
    pages = [loopback.get(f"http://127.0.0.1:{target.rpartition(':')[2]}/metrics") for target in targets]
    return [
        (name, dict(_LABEL.findall(labels)), float(value))
        for page in pages
        for name, labels, value in _SAMPLE.findall((page or b"").decode())
    ]


def total(samples: Samples, name: str, holds: Callable[[dict[str, str]], bool] = lambda _: True) -> float:
    """The sum of a metric's samples whose labels are wanted; 0 without any, as before they are counted."""
    return sum(value for found, labels, value in samples if found == name and holds(labels))
