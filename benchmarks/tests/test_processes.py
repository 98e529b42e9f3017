"""Processes are found and ended with all of their descendants, and nothing else is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import processes

# Starts a child in a session of its own, which outlives it and ignores SIGTERM, and prints the child's id.
DETACHING = """
import subprocess, sys
child = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1); time.sleep(60)"
process = subprocess.Popen([sys.executable, "-c", child], start_new_session=True, stdout=subprocess.PIPE)
process.stdout.readline()
print(process.pid, flush=True)
"""


def _group(tmp_path: Path, program: str) -> processes.Group:
    command = [sys.executable, "-c", program]
    return processes.Group(command, env=dict(os.environ), log=tmp_path / "log")


def test_a_detached_child_is_found_and_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_GRACE_SECONDS", 0.1)
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    group = _group(tmp_path, DETACHING)
    try:
        group.until(lambda: "\n" in group.log.read_text(), seconds=10, what="the child runs")
        child = int(group.log.read_text())
        assert child in [process.pid for process in group.processes()]
        assert processes.memory(child) > 0
        assert "signal" in processes.command_line(child)
    finally:
        group.stop()
    assert group.processes() == []
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()


def test_waiting_ends_with_the_program(tmp_path: Path) -> None:
    group = _group(tmp_path, "raise SystemExit('no such port')")
    with pytest.raises(processes.NotStartedError, match="no such port"):
        group.until(lambda: False, seconds=20, what="never")
    group.stop()


def test_cpu_is_counted(tmp_path: Path) -> None:
    group = _group(tmp_path, "while True: pass")
    try:
        group.until(lambda: sum(p.cpu for p in group.processes()) > 0.05, seconds=10, what="it is busy")
    finally:
        group.stop()
    assert processes.machine_cpu() > 0
